"""Work between the clip stage and the network, and how long it will take."""

from __future__ import annotations

import math
import threading

from model.channel import Channel
from stream.types import CameraOpened, ClipBatch, StreamBreak

__all__ = ["Backlog", "Work"]

Work = ClipBatch | CameraOpened | StreamBreak
# Weight of the newest batch in the running mean of seconds per clip.
_NEWEST = 0.2


class Backlog:
    """A channel of work that knows how many clips wait, and how fast the network is.

    Args:
        max_batches: items that may wait.
        max_batch: clips of a full batch.
    """

    def __init__(self, *, max_batches: int, max_batch: int) -> None:
        self._channel: Channel[Work] = Channel(max_batches)
        self._max_batch = max_batch
        self._lock = threading.Lock()
        self._clips = 0
        self._seconds_per_clip = 0.0

    def put(self, work: Work) -> bool:
        """Add work, waiting for room; False if the backlog is closed."""
        # Counted before the network can have finished it.
        self._count(work, 1)
        if not self._channel.put(work):
            self._count(work, -1)
            return False
        return True

    def take(self, timeout_seconds: float) -> Work | None:
        """Remove the oldest work; None if none came in time, or it is closed and empty."""
        return self._channel.take(timeout_seconds)

    def note_done(self, batch: ClipBatch, seconds: float) -> None:
        """Note that the network has finished a batch in this time."""
        self._count(batch, -1)
        per_clip = seconds / len(batch.refs)
        weight = _NEWEST if self._seconds_per_clip else 1.0
        self._seconds_per_clip += (per_clip - self._seconds_per_clip) * weight

    def is_behind(self, max_wait_seconds: float, more_clips: int = 0) -> bool:
        """Whether a clip formed now, after `more_clips` others, would wait longer or find no room.

        Args:
            max_wait_seconds: until the network gets to the clip.
        """
        items = len(self._channel) + math.ceil((more_clips + 1) / self._max_batch)
        if items > self._channel.capacity:
            return True
        return (self._clips + more_clips) * self._seconds_per_clip > max_wait_seconds

    def close(self) -> None:
        """Say that nothing more is put."""
        self._channel.close()

    def cancel(self) -> None:
        """Close it and throw away what waits."""
        self._channel.cancel()

    @property
    def is_drained(self) -> bool:
        """Whether it is closed and everything has been taken."""
        return self._channel.is_drained

    def _count(self, work: Work, sign: int) -> None:
        if isinstance(work, ClipBatch):
            with self._lock:
                self._clips += sign * len(work.refs)
