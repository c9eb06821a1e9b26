"""The lock file of an outbox: for one process at a time, and a sign that the outbox is ours."""

from __future__ import annotations

import fcntl
from pathlib import Path

from configs import OutboxError

__all__ = ["OutboxLock"]


class OutboxLock:
    """Holds an outbox for this process: two writers would end each other's events.

    The lock file stays when the process ends. Where it is missing nobody has used this outbox, so a
    file of its name may be somebody else's.

    Raises:
        OutboxError: another process holds it.
        OSError: the lock file cannot be made.
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
        """Remove the lock file, so that the next start does not take the outbox for ours."""
        self._path.unlink()

    def release(self) -> None:
        """Let other processes use the outbox."""
        self._file.close()
