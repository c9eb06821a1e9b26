"""The lock file of an outbox lets only one process use it and marks the file as an outbox."""

from __future__ import annotations

from pathlib import Path

from configs import OutboxError
from configs.file_lock import FileLock, is_locked

__all__ = ["is_used", "lock_outbox", "refuse_use"]


def lock_outbox(path: Path) -> FileLock:
    """Lock an outbox for this process, because two writers would end each other's events.

    The lock file is kept when the process ends. If there is no lock file, no pipeline has used this
    outbox yet, so an existing file at its path may belong to another program.

    Raises:
        OutboxError: another process has locked the outbox.
        OSError: the lock file cannot be created.
    """
    return FileLock(_lock_file(path), _refusal(path))


def is_used(path: Path) -> bool:
    """Return whether another process, such as a running pipeline, has locked the outbox."""
    return is_locked(_lock_file(path))


def refuse_use(path: Path) -> None:
    """Refuse an outbox that another process has locked, without locking it.

    Raises:
        OutboxError: another process has locked it.
    """
    if is_used(path):
        raise _refusal(path)


def _lock_file(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def _refusal(path: Path) -> OutboxError:
    return OutboxError(
        f"outbox {path}: another process is using it; give each pipeline its own outbox.path"
    )
