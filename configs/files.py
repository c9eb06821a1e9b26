"""Files: whether there is one of a name, and writing one so that no reader ever sees half of it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["exists", "is_file", "replaced_file"]


@contextlib.contextmanager
def replaced_file(
    path: Path, *, mode: int = 0o644, durable: bool = False, suffix: str = ".part"
) -> Iterator[Path]:
    """Give a path to write to; when the block ends, that file takes the place of `path`.

    If the block fails, `path` stays as it was and the partial file is removed. The partial file
    lies beside `path`; a leftover of a killed process is overwritten.

    Args:
        path: the file to write; its folder is created if it is missing.
        mode: permissions of the new file, set before anything is written to it.
        durable: wait until content and name have reached the disk, so that both outlast a power
            cut.
        suffix: appended to the name of the partial file.

    Raises:
        OSError: the file cannot be written.
    """
    partial = path.with_name(path.name + suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial.unlink(missing_ok=True)
    try:
        partial.touch(mode=mode, exist_ok=False)
        yield partial
        partial.chmod(mode)  # some libraries write to a new file of their own
        if durable:
            _sync(partial)
        partial.replace(path)
        if durable:
            with contextlib.suppress(OSError):  # some file systems cannot sync a folder
                _sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def is_file(path: str | Path) -> bool:
    """Whether there is a file of this name; False, too, for what cannot be a name: too long, or
    with a zero byte.
    """
    with contextlib.suppress(OSError, ValueError):
        return Path(path).is_file()
    return False


def exists(path: str | Path) -> bool:
    """Whether there is something of this name: a file, a folder, a pipe, a device."""
    with contextlib.suppress(OSError, ValueError):
        return Path(path).exists()
    return False


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
