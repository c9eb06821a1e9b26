"""A lock file lets only one process use a file or folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from configs.errors import CidcError
from configs.private_files import PRIVATE_FILE

__all__ = ["FileLock", "is_locked"]


class FileLock:
    """Holds a lock file for this process; only its owner may open the file.

    The operating system ends the lock with the process. The file itself is kept.

    Args:
        path: the lock file; its folder must exist.
        refusal: error to raise if another process holds the lock.

    Attributes:
        is_new: whether the lock file did not exist before.

    Raises:
        CidcError: `refusal`.
        OSError: the lock file cannot be created, or the file system has no locks.
    """

    def __init__(self, path: Path, refusal: CidcError) -> None:
        self._path = path
        self.is_new = not path.exists()
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        self._file = os.fdopen(os.open(path, flags, PRIVATE_FILE), "r+b")
        try:
            # Whoever may open the file could hold the lock; earlier releases let everybody.
            with contextlib.suppress(OSError):
                os.fchmod(self._file.fileno(), PRIVATE_FILE)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise refusal from None
        except BaseException:
            self._file.close()
            raise

    def remove(self) -> None:
        """Remove the lock file, so that the next lock finds that it is new."""
        self._path.unlink()

    def release(self) -> None:
        """Let other processes take the lock."""
        self._file.close()


def is_locked(path: Path) -> bool:
    """Return whether another process holds a lock file; False if that cannot be found out."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
