"""Pictures of events: one JPEG for each action, of the frame with the highest confidence.

A separate thread with a bounded queue writes the files. If the disk is slow or full, pictures are
lost, but never events or video: a reserve of the disk stays free for the outbox, and if it shrinks,
the oldest pictures are deleted. An event contains the name of its picture. The file appears shortly
after the event and may be replaced when the action ends. Old pictures are deleted.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import errno
import logging
import os
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from configs import ConfigError, write_file
from configs.private_files import PRIVATE_FILE, make_private_folder
from model.channel import Channel
from stream.events.config import SnapshotConfig
from stream.events.disk_room import has_room
from stream.stage import Stage

__all__ = ["Snapshot", "SnapshotStore", "snapshot_name"]

_log = logging.getLogger(__name__)
_MAX_WAITING = 32
_IDLE_SECONDS = 1.0  # old pictures are deleted at least this often
_CLOSE_SECONDS = 15.0


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A picture to store (RGB uint8 `H W C`), with its name from `snapshot_name`."""

    name: str
    picture_HWC: NDArray[np.uint8]


def snapshot_name(camera_id: str, event_id: str) -> str:
    """Return the path of an action's picture, relative to the folder of pictures."""
    return f"{camera_id}/{event_id}.jpg"


class SnapshotStore(Stage):
    """Writes pictures and deletes old ones, from `start` to `close`.

    Args:
        on_written: called for each picture that was written.
        on_lost: called for each picture that could not be written.
        on_deleted: called for each picture that was deleted because the disk is almost full.

    Raises:
        ConfigError: the folder cannot be created or written to.
    """

    def __init__(
        self,
        config: SnapshotConfig,
        *,
        on_written: Callable[[], None] = lambda: None,
        on_lost: Callable[[], None] = lambda: None,
        on_deleted: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__("snapshots")
        self.config = config
        self._on_written = on_written
        self._on_lost = on_lost
        self._waiting: Channel[Snapshot] = Channel(_MAX_WAITING)
        self._on_deleted = on_deleted
        self._is_failing = False
        self._is_short_of_room = False
        with _explained(config.path):
            found = _find_pictures(config.path)
        # Each file with its size and the time it was written, as monotonic time, because the wall
        # clock may be adjusted.
        now = time.monotonic()
        wall = time.time()
        self._files = collections.OrderedDict(
            (file, (now - max(0.0, wall - written_at), size)) for written_at, file, size in found
        )
        self._bytes = sum(size for _, size in self._files.values())
        with _explained(config.path):
            self._make_room(0)  # before the folder is tested: earlier pictures may fill the disk
            _try_to_write(config.path)

    def offer(self, snapshot: Snapshot) -> bool:
        """Queue a picture for writing; return at once.

        Returns:
            False if the picture is lost, because the queue is full or the store was closed.
        """
        if self._waiting.put(snapshot, timeout_seconds=0):
            return True
        self._on_lost()
        return False

    def close(self) -> None:
        """Write all queued pictures, for at most 15 s, and end the thread."""
        self._waiting.close()
        self.join(_CLOSE_SECONDS)

    def run(self) -> None:
        """Write pictures until `close`; after `stop`, end without writing the queued pictures."""
        while not self.stopping.is_set() and not self._waiting.is_drained:
            self.beat()
            snapshot = self._waiting.take(_IDLE_SECONDS)
            if snapshot is not None:
                self._write_or_lose(snapshot)
            self.delete_old()

    def delete_old(self) -> None:
        """Delete the oldest pictures until neither `keep_days` nor `keep_megabytes` is exceeded.

        While the thread of the store runs, only that thread may call this method.
        """
        oldest_kept = time.monotonic() - self.config.keep_days * 86400
        while self._files:
            written_at, _ = next(iter(self._files.values()))
            if written_at >= oldest_kept and self._bytes <= self.config.keep_megabytes * 1e6:
                break
            self._delete_oldest()
        with contextlib.suppress(OSError):  # a disk that cannot be examined
            self._make_room(0)

    def _make_room(self, size: int) -> bool:
        """Delete the oldest pictures until the disk has the reserve and `size` more bytes.

        Returns:
            False if it has not, although no picture is left.

        Raises:
            OSError: the disk cannot be examined.
        """
        reserve = self.config.min_free_megabytes
        while not (has := has_room(self.config.path, size, reserve)) and self._files:
            if not self._is_short_of_room:
                self._is_short_of_room = True
                _log.warning(
                    "the disk of %s has less than snapshots.min_free_megabytes (%g) left; the"
                    " oldest pictures are deleted to keep room for events",
                    self.config.path,
                    reserve,
                )
            self._delete_oldest()
            self._on_deleted()
        if has and size:
            self._is_short_of_room = False
        return has

    def _delete_oldest(self) -> None:
        path, (_, size) = self._files.popitem(last=False)
        self._bytes -= size
        with contextlib.suppress(OSError):
            path.unlink()
        with contextlib.suppress(OSError):
            path.parent.rmdir()  # fails unless this was the camera's last picture

    def _write_or_lose(self, snapshot: Snapshot) -> None:
        try:
            self._write(snapshot)
            self._on_written()
            self._is_failing = False
        except Exception as error:  # the thread must survive; the next picture may succeed
            self._on_lost()
            if not self._is_failing:
                _log.error(
                    "picture %s could not be written to %s: %s; pictures are lost until writing"
                    " succeeds again",
                    snapshot.name,
                    self.config.path,
                    error,
                )
            self._is_failing = True

    def _write(self, snapshot: Snapshot) -> None:
        coded = self._encode(snapshot.picture_HWC)
        if not self._make_room(len(coded)):
            raise OSError(
                errno.ENOSPC,
                f"{os.strerror(errno.ENOSPC)}: snapshots.min_free_megabytes"
                f" ({self.config.min_free_megabytes:g}) are kept free for events",
            )
        path = self.config.path / snapshot.name
        # A reader sees either the complete old picture or the complete new one.
        write_file(path, coded, mode=PRIVATE_FILE)
        _, size_before = self._files.pop(path, (0.0, 0))
        self._files[path] = (time.monotonic(), len(coded))
        self._bytes += len(coded) - size_before

    def _encode(self, picture_HWC: NDArray[np.uint8]) -> bytes:
        """Encode a picture as JPEG, scaled down to `width` if it is wider."""
        height, width = picture_HWC.shape[:2]
        if width > self.config.width:
            size = (self.config.width, max(1, round(height * self.config.width / width)))
            picture_HWC = np.asarray(
                cv2.resize(picture_HWC, size, interpolation=cv2.INTER_AREA), dtype=np.uint8
            )
        bgr_HWC = cv2.cvtColor(picture_HWC, cv2.COLOR_RGB2BGR)
        _, coded = cv2.imencode(".jpg", bgr_HWC, [cv2.IMWRITE_JPEG_QUALITY, self.config.quality])
        return coded.tobytes()


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"snapshots.path: cannot write to {folder}: {error.strerror}; name another folder"
        ) from None


def _find_pictures(folder: Path) -> list[tuple[float, Path, int]]:
    """Create the folder, and delete leftover partial files.

    Returns:
        The existing pictures, oldest first, each as (seconds since 1970, path, bytes).

    Raises:
        OSError: the folder cannot be created, read or written to.
    """
    make_private_folder(folder)
    for partial in folder.glob("*/*.part"):
        if _is_ours(partial):
            partial.unlink()
    return sorted(
        (file.stat().st_mtime, file, file.stat().st_size)
        for file in folder.glob("*/*.jpg")
        if _is_ours(file)
    )


def _try_to_write(folder: Path) -> None:
    """Create a file without a name, which disappears at once.

    Raises:
        OSError: the folder cannot be written to.
    """
    with tempfile.TemporaryFile(dir=folder):
        pass


def _is_ours(path: Path) -> bool:
    """Return whether the file name is an event id; files with other names are never deleted."""
    event_id = path.name.removesuffix(".part").removesuffix(".jpg")
    with contextlib.suppress(ValueError):
        return str(uuid.UUID(event_id)) == event_id
    return False
