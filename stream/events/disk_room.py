"""How much room a disk has left, compared with a reserve that is kept for the outbox."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["free_bytes", "has_room"]

# Files that can still be created; SQLite needs names for its write-ahead log.
_RESERVED_FILES = 100


def has_room(folder: Path, size: int, reserve_megabytes: float) -> bool:
    """Return whether the disk of a folder still has the reserve after `size` more bytes.

    Without a reserve the answer is True.

    Raises:
        OSError: the folder cannot be examined.
    """
    if not reserve_megabytes:
        return True
    disk = os.statvfs(folder)
    counts_files = disk.f_files > 0  # some file systems have no limit
    if counts_files and disk.f_files > 2 * _RESERVED_FILES and disk.f_favail <= _RESERVED_FILES:
        return False
    return free_bytes(folder) - size >= reserve_megabytes * 1e6


def free_bytes(folder: Path) -> int:
    """Return how many bytes this process may still write to the disk of a folder.

    Raises:
        OSError: the folder cannot be examined.
    """
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize
