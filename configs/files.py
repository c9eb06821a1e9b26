"""Check whether files exist, and write files so that readers never see incomplete content."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["exists", "is_file", "naming_errors", "replaced_file"]


@contextlib.contextmanager
def replaced_file(
    path: Path, *, mode: int | None = None, durable: bool = False, suffix: str = ".part"
) -> Iterator[Path]:
    """Yield the path of a partial file; when the block ends, this file replaces `path`.

    If the block fails, `path` is not changed and the partial file is removed. The partial file is
    in the same folder as `path`. A partial file left by a killed process is overwritten.

    Args:
        path: file to write; a missing folder is created.
        mode: permissions of the new file, set before anything is written to it; None for the
            default permissions.
        durable: whether to wait until the content and the name are on the disk, so that both
            survive a power cut.
        suffix: ending that is appended to `path` to name the partial file.

    Raises:
        OSError: the file cannot be written; the error names a file.
    """
    partial = path.with_name(path.name + suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial.unlink(missing_ok=True)
    try:
        partial.touch(mode=0o666 if mode is None else mode, exist_ok=False)
        with naming_errors(path):
            yield partial
        if mode is not None:
            partial.chmod(mode)  # some libraries replace the partial file by a new one
        if durable:
            _sync(partial)
        partial.replace(path)
        if durable:
            with contextlib.suppress(OSError):  # some file systems cannot sync a folder
                _sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def naming_errors(path: Path) -> Iterator[None]:
    """Inside the `with` block, give the name of `path` to every `OSError` that names no file.

    Python names the file if it cannot be opened, but not if the disk becomes full later.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            with contextlib.suppress(AttributeError):  # FFmpeg's errors cannot be changed
                error.filename = str(path)
        raise


def is_file(path: str | Path) -> bool:
    """Return whether a file exists at this path.

    An invalid path, such as a too long one or one with a zero byte, gives False.
    """
    with contextlib.suppress(OSError, ValueError):
        return Path(path).is_file()
    return False


def exists(path: str | Path) -> bool:
    """Return whether a file, folder, pipe or device exists at this path."""
    with contextlib.suppress(OSError, ValueError):
        return Path(path).exists()
    return False


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
