"""Locks of what only one pipeline may write besides its outbox: pictures, changes of cameras."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from configs import ConfigError
from configs.file_lock import FileLock, is_locked
from configs.private_files import make_private_folder
from stream.config import StreamConfig, overrides_path
from stream.events.outbox_lock import is_used, refuse_use

__all__ = ["locked_files", "note_of_use"]


@contextlib.contextmanager
def locked_files(config: StreamConfig) -> Iterator[None]:
    """Inside the block, let no other pipeline write the same pictures or changes of cameras.

    Two pipelines would delete each other's pictures and undo each other's changes. The outbox
    locks itself; one that is in use is refused here, before anything is created.

    Raises:
        ConfigError: another process has locked the folder or the file, or it cannot be locked.
        OutboxError: another process has locked the outbox.
    """
    refuse_use(config.outbox.path)
    with contextlib.ExitStack() as stack:
        for setting, (used, lock_file) in _lock_files(config).items():
            stack.callback(_lock(setting, used, lock_file).release)
        yield


def note_of_use(config: StreamConfig) -> str | None:
    """Say which file or folder of a run another process has locked; None if there is none."""
    rest = "another process is using it; a second run cannot start meanwhile"
    if is_used(config.outbox.path):
        return f"outbox {config.outbox.path}: {rest}"
    for setting, (used, lock_file) in _lock_files(config).items():
        if is_locked(lock_file):
            return f"{setting} {used}: {rest}"
    return None


def _lock_files(config: StreamConfig) -> dict[str, tuple[Path, Path]]:
    """Return what is locked, with its lock file, for each setting that names it."""
    found: dict[str, tuple[Path, Path]] = {}
    if config.snapshots.enabled:
        # Inside the folder, which may be a disk of its own.
        found["snapshots.path"] = (config.snapshots.path, config.snapshots.path / ".lock")
    if (changes := overrides_path(config)) is not None:
        found["http.changes"] = (changes, changes.with_name(changes.name + ".lock"))
    return found


def _lock(setting: str, used: Path, lock_file: Path) -> FileLock:
    refusal = ConfigError(
        f"{setting} {used}: another process is using it; give each pipeline its own {setting}"
    )
    try:
        make_private_folder(lock_file.parent)
        return FileLock(lock_file, refusal)
    except OSError as error:
        raise ConfigError(
            f"{setting}: cannot lock {lock_file}: {error.strerror}; name another {setting}, on a"
            " file system that can be written and has locks"
        ) from None
