"""Decide which frames continue a stream's time line, step over wrong times, and notice jumps.

Cameras and recorders stamp a frame wrongly now and then: some write one frame every two seconds
that is an hour ahead. Such a frame is left out. If the new times go on, they are a new time line:
the stream has jumped. Times are presentation times in seconds.
"""

from __future__ import annotations

import collections
import copy
import dataclasses
from typing import Generic, Literal, TypeVar

__all__ = ["JumpReason", "TimeLine", "Timed"]

Item = TypeVar("Item")
JumpReason = Literal["gap", "backwards"]

# Consecutive frames that must agree on a new time line before it is accepted.
_FRAMES_OF_PROOF = 3
# The frame interval is a quantile of this many steps: below the median, because a frame with a
# wrong time makes two long steps. It is known after a few of them.
_REMEMBERED_STEPS = 15
_ENOUGH_STEPS = 3
_QUANTILE = 0.4
# A step of up to this many frame intervals, or this many seconds, needs no proof.
_REGULAR_INTERVALS = 3.0
_REGULAR_SECONDS = 0.2
# A slow camera may be silent for this many of its frame intervals; but a clip lasts about two
# seconds, so a camera with longer intervals shows no motion in it.
_GAP_INTERVALS = 2.5
_SLOW_INTERVALS_SECONDS = (0.4, 2.5)


@dataclasses.dataclass(frozen=True)
class Timed(Generic[Item]):
    """A frame and its presentation time in seconds."""

    pts_seconds: float
    item: Item


class TimeLine(Generic[Item]):
    """Passes on the frames whose times continue the time line.

    A step in time is regular, long or a jump. It is regular up to three frame intervals; the frame
    is passed on at once. It is a jump if it goes backwards, or if it is longer than the maximum
    gap. After a long step or a jump, frames wait until three of them agree. If the next frame
    continues the old time line instead, the waiting frames had wrong times and are left out.

    Args:
        max_gap_seconds: longest step that does not count as a jump. For a slow camera, with frame
            intervals from 0.4 to 2.5 seconds, it is at least two and a half of them.

    Attributes:
        skipped: number of frames left out so far because their times were wrong.
        duplicates: number of frames left out so far because they had the time of the frame before.
    """

    def __init__(self, max_gap_seconds: float) -> None:
        self._max_gap_seconds = max_gap_seconds
        self._newest: float | None = None
        self._waiting: list[Timed[Item]] = []
        self._last_received: float | None = None
        self._steps: collections.deque[float] = collections.deque(maxlen=_REMEMBERED_STEPS)
        self.skipped = 0
        self.duplicates = 0

    def copy(self) -> TimeLine[Item]:
        """Return a time line that goes on from here by itself; the frames are the same."""
        twin = copy.copy(self)
        twin._waiting = list(self._waiting)
        twin._steps = self._steps.copy()
        return twin

    @property
    def waiting(self) -> list[Item]:
        """The frames that wait until others agree with them."""
        return [frame.item for frame in self._waiting]

    def restart(self) -> None:
        """Forget the time line; the next frame starts a new one. The frame interval is kept."""
        self.skipped += len(self._waiting)
        self._waiting = []
        self._newest = self._last_received = None

    def push(self, item: Item, pts_seconds: float) -> tuple[list[Timed[Item]], JumpReason | None]:
        """Add the next frame.

        Returns:
            The frames that continue the time line, in order, and why the time line jumped just
            before them (None if it did not jump). A frame with the time of the previous one is left
            out.
        """
        self._learn_interval(pts_seconds)
        frame = Timed(pts_seconds, item)
        if self._newest is None:
            self._newest = pts_seconds
            return [frame], None
        step = pts_seconds - self._newest
        if step == 0:
            self.duplicates += 1
            return [], None
        if 0 < step <= self._regular_seconds():
            self.skipped += len(self._waiting)
            self._waiting = []
            self._newest = pts_seconds
            return [frame], None
        return self._wait(frame)

    def finish(self) -> list[Timed[Item]]:
        """End the time line; return the waiting frames unless they come after a jump."""
        ready = [] if self._jump() else self._waiting
        self._waiting = [] if ready else self._waiting
        self.restart()
        return ready

    def _wait(self, frame: Timed[Item]) -> tuple[list[Timed[Item]], JumpReason | None]:
        """Let a frame wait that needs proof; return all waiting frames once there is enough."""
        if self._waiting:
            step = frame.pts_seconds - self._waiting[-1].pts_seconds
            if step == 0:
                self.duplicates += 1
                return [], None
            if not 0 < step <= self._allowed_seconds():
                self.skipped += len(self._waiting)
                self._waiting = []
        self._waiting.append(frame)
        if len(self._waiting) < _FRAMES_OF_PROOF:
            return [], None
        jump = self._jump()
        ready = self._waiting
        self._waiting = []
        self._newest = ready[-1].pts_seconds
        return ready, jump

    def _jump(self) -> JumpReason | None:
        """Return the kind of jump from the time line to the waiting frames."""
        if not self._waiting or self._newest is None:
            return None
        step = self._waiting[0].pts_seconds - self._newest
        if step < 0:
            return "backwards"
        return "gap" if step > self._allowed_seconds() else None

    def _learn_interval(self, pts_seconds: float) -> None:
        last = self._last_received
        self._last_received = pts_seconds
        if last is not None and pts_seconds != last:
            self._steps.append(abs(pts_seconds - last))

    def _interval_seconds(self) -> float | None:
        """Return the frame interval, or None if it is not known yet."""
        if len(self._steps) < _ENOUGH_STEPS:
            return None
        return sorted(self._steps)[int(_QUANTILE * len(self._steps))]

    def _regular_seconds(self) -> float:
        interval = self._interval_seconds()
        if interval is None:
            return self._max_gap_seconds
        regular = max(_REGULAR_INTERVALS * interval, _REGULAR_SECONDS)
        return min(regular, self._allowed_seconds())

    def _allowed_seconds(self) -> float:
        interval = self._interval_seconds()
        shortest, longest = _SLOW_INTERVALS_SECONDS
        if interval is None or not shortest <= interval <= longest:
            return self._max_gap_seconds
        return max(self._max_gap_seconds, _GAP_INTERVALS * interval)
