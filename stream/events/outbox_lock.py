"""The lock file of an outbox lets only one process use it and marks the file as an outbox."""

from __future__ import annotations

import fcntl
from pathlib import Path

from configs import OutboxError

__all__ = ["OutboxLock"]


class OutboxLock:
    """Locks an outbox for this process, because two writers would end each other's events.

    The lock file is kept when the process ends. If there is no lock file, no pipeline has used this
    outbox yet, so an existing file at its path may belong to another program.

    Raises:
        OutboxError: another process has locked the outbox.
        OSError: the lock file cannot be created.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(path.name + ".lock")
        self.is_new = not self._path.exists()
        self._file = self._path.open("ab")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise OutboxError(
                f"outbox {path}: another process is using it; give each pipeline its own"
                " outbox.path"
            ) from None

    def remove(self) -> None:
        """Remove the lock file, so that the next start does not assume the outbox is its own."""
        self._path.unlink()

    def release(self) -> None:
        """Let other processes use the outbox."""
        self._file.close()
