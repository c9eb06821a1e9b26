"""Keep files and folders for one user, and find files of secrets that other users may read."""

from __future__ import annotations

import contextlib
import logging
import os
import stat
from pathlib import Path

__all__ = [
    "PRIVATE_FILE",
    "create_private",
    "exposure_of",
    "make_private_folder",
    "narrow",
    "warn_of_exposed_file",
]

_log = logging.getLogger(__name__)
PRIVATE_FILE = 0o600  # permissions of a file that only its owner may read and write
_PRIVATE_FOLDER = 0o700
_OF_GROUP = 0o070
_OF_OTHERS = 0o007


def make_private_folder(folder: Path) -> None:
    """Create a folder, and the missing folders above it, for its owner only.

    Folders that exist keep their permissions.

    Raises:
        OSError: a folder cannot be created, or a file has its name.
    """
    try:
        folder.mkdir(mode=_PRIVATE_FOLDER)
    except FileNotFoundError:
        if folder.parent == folder:
            raise
        make_private_folder(folder.parent)
        folder.mkdir(mode=_PRIVATE_FOLDER, exist_ok=True)
    except OSError:
        if not folder.is_dir():
            raise


def create_private(path: Path) -> bool:
    """Create an empty file for its owner only, whatever the umask; leave an existing file alone.

    Returns:
        Whether the file was created.

    Raises:
        OSError: the file cannot be created.
    """
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE))
    except FileExistsError:
        return False
    return True


def exposure_of(path: Path) -> str | None:
    """Return why other users may read a file, with a remedy; None if they may not.

    A group may read a file that belongs to another user: this process reads it as a member.
    """
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None  # whoever reads the file reports that
    is_own = found.st_uid == os.geteuid()
    if not found.st_mode & (_OF_OTHERS | (_OF_GROUP if is_own else 0)):
        return None
    remedy = f"chmod 600 {path}" if is_own else "let only the user that runs this program read it"
    return f"other users may read it (mode {stat.S_IMODE(found.st_mode):04o}): {remedy}"


def warn_of_exposed_file(setting: str, path: str | Path | None) -> None:
    """Log a warning if other users may read the file with the secret of a setting."""
    if path is not None and (problem := exposure_of(Path(path))) is not None:
        _log.warning("%s %s: %s", setting, path, problem)


def narrow(path: Path) -> None:
    """Let only the owner read a file, if it exists and this process may change it."""
    with contextlib.suppress(OSError):
        path.chmod(PRIVATE_FILE)
