"""Pictures of events: one JPEG for each action, the frame at which the network was surest, kept for
a while.

Files are written by a thread of their own behind a bounded queue: a slow or full disk costs
pictures, never events or video. Events name their picture; it appears shortly after the event and
is replaced while the action goes on.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import logging
import queue
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from configs import ConfigError
from stream.events.config import SnapshotConfig

__all__ = ["Snapshot", "SnapshotStore", "snapshot_name"]

_log = logging.getLogger(__name__)
_MOST_WAITING = 32


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A picture to keep, RGB uint8 `H W C`, under a name made by `snapshot_name`."""

    name: str
    picture_HWC: NDArray[np.uint8]


def snapshot_name(camera_id: str, event_id: str) -> str:
    """Where the picture of an action lies, from the folder of pictures."""
    return f"{camera_id}/{event_id}.jpg"


def _is_ours(path: Path) -> bool:
    with contextlib.suppress(ValueError):
        return str(uuid.UUID(path.stem)) == path.stem
    return False


class SnapshotStore:
    """Writes pictures and deletes old ones, from construction to `close`.

    Args:
        on_written, on_lost: told of each picture that was written, or could not be.

    Raises:
        ConfigError: the folder cannot be made or written.
    """

    def __init__(
        self,
        config: SnapshotConfig,
        *,
        on_written: Callable[[], None] = lambda: None,
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        self.config = config
        self._on_written = on_written
        self._on_lost = on_lost
        try:
            config.path.mkdir(parents=True, exist_ok=True)
            # What is there from before, oldest first: when it was written, its size. Other people's
            # pictures are left alone.
            found = sorted(
                (file.stat().st_mtime, file, file.stat().st_size)
                for file in config.path.glob("*/*.jpg")
                if _is_ours(file)
            )
            for partial in config.path.glob("*/*.part"):
                if _is_ours(partial):
                    partial.unlink()  # of a process that was killed
            probe = config.path / ".writable"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise ConfigError(
                f"snapshots.path: cannot write to {config.path}: {error.strerror}; name another"
                " folder"
            ) from None
        # Each with the monotonic time since which it is there: wall clocks jump.
        now = time.monotonic()
        wall = time.time()
        self._files = collections.OrderedDict(
            (file, (now - max(0.0, wall - moment), size)) for moment, file, size in found
        )
        self._bytes = sum(size for _, size in self._files.values())
        self._queue: queue.Queue[Snapshot | None] = queue.Queue(_MOST_WAITING)
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="snapshots", daemon=True)
        self._thread.start()

    def offer(self, snapshot: Snapshot) -> bool:
        """Keep a picture, or, when the disk is too slow for it, lose it, which returns False;
        never waits.
        """
        try:
            self._queue.put_nowait(snapshot)
        except queue.Full:
            self._on_lost()
            return False
        return True

    def close(self) -> None:
        """Write what waits, and end."""
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=5)
        self._thread.join(10)

    def _run(self) -> None:
        while True:
            try:
                snapshot = self._queue.get(timeout=60)
            except queue.Empty:
                self._tidy()
                continue
            if snapshot is None:
                return
            try:
                self._write(snapshot)
                self._on_written()
                self._failing = False
            except Exception as error:  # the edge of the thread: the next picture may do
                self._on_lost()
                if not self._failing:
                    _log.error("pictures of events cannot be written: %s", error)
                self._failing = True
            self._tidy()

    def _write(self, snapshot: Snapshot) -> None:
        picture = snapshot.picture_HWC
        height, width = picture.shape[:2]
        if width > self.config.width:
            size = (self.config.width, max(1, round(height * self.config.width / width)))
            picture = np.asarray(
                cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8
            )
        _, coded = cv2.imencode(
            ".jpg",
            cv2.cvtColor(picture, cv2.COLOR_RGB2BGR),
            [cv2.IMWRITE_JPEG_QUALITY, self.config.quality],
        )
        path = self.config.path / snapshot.name
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".part")
        try:
            partial.write_bytes(coded.tobytes())
            partial.replace(path)  # whoever reads it sees one whole picture or the other
        finally:
            partial.unlink(missing_ok=True)
        _, before = self._files.pop(path, (0.0, 0))
        self._files[path] = (time.monotonic(), coded.size)
        self._bytes += coded.size - before

    def _tidy(self) -> None:
        """Delete what is too old or too much, oldest first."""
        oldest_kept = time.monotonic() - self.config.keep_days * 86400
        while self._files:
            path, (moment, size) = next(iter(self._files.items()))
            if moment >= oldest_kept and self._bytes <= self.config.keep_megabytes * 1e6:
                return
            del self._files[path]
            self._bytes -= size
            with contextlib.suppress(OSError):
                path.unlink()
            with contextlib.suppress(OSError):
                path.parent.rmdir()  # the last picture of its camera
