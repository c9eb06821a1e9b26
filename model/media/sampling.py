"""The time grid picks frames at a fixed rate from video with any frame rate.

Clips therefore look alike for cameras with 12, 25, 30 or 120 frames per second, or with a varying
rate. Times are presentation times in seconds. Training and the live pipeline both use `TimeGrid`.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Generic, TypeVar

from configs import ConfigError
from model.media.time_line import JumpReason, Timed, TimeLine

__all__ = ["GridSample", "TimeGrid"]

Item = TypeVar("Item")
# Presentation times are rounded to the time base, so a frame that is this early counts as on time.
_TOLERANCE_SECONDS = 0.001


@dataclasses.dataclass(frozen=True)
class GridSample(Generic[Item]):
    """The frame of one grid position; `repeated` if the previous position has the same frame."""

    pts_seconds: float
    item: Item
    repeated: bool


class TimeGrid(Generic[Item]):
    """Picks the nearest frame for each grid position; positions are 1/fps apart.

    The first position is the time of the first frame. Frames with wrong times are left out, and the
    grid restarts where the time line jumps (see `TimeLine`).

    Args:
        fps: number of grid positions per second.
        max_gap_seconds: maximum time between two frames; the grid restarts after a longer gap. For
            a slow camera it is at least two and a half frame intervals.

    Raises:
        ConfigError: a value is not positive.
    """

    def __init__(self, fps: float, max_gap_seconds: float = float("inf")) -> None:
        if not fps > 0 or not max_gap_seconds > 0:
            raise ConfigError(
                f"fps and max_gap_seconds must be above 0, got {fps} and {max_gap_seconds}"
            )
        self._fps = fps
        self._time_line: TimeLine[Item] = TimeLine(max_gap_seconds)
        self._previous: Timed[Item] | None = None
        self._last_emitted: Item | None = None
        self._origin = 0.0
        self._next = 0

    @property
    def skipped(self) -> int:
        """The number of frames left out so far because their times were wrong."""
        return self._time_line.skipped

    @property
    def duplicates(self) -> int:
        """The number of frames left out so far because they had the time of the frame before."""
        return self._time_line.duplicates

    def copy(self) -> TimeGrid[Item]:
        """Return a grid that goes on from here by itself; the frames are the same."""
        twin = copy.copy(self)
        twin._time_line = self._time_line.copy()
        return twin

    @property
    def held(self) -> list[Item]:
        """The frames that a later position may still take."""
        previous = [] if self._previous is None else [self._previous.item]
        return [*previous, *self._time_line.waiting]

    def restart(self) -> None:
        """Discard all frames; the next frame starts a new grid."""
        self._time_line.restart()
        self._previous = self._last_emitted = None

    def push(
        self, item: Item, pts_seconds: float
    ) -> tuple[list[GridSample[Item]], JumpReason | None]:
        """Add the next frame.

        Returns:
            The grid positions whose frame is now known, and the reason why the grid restarted just
            before them (None if it did not restart).
        """
        frames, jump = self._time_line.push(item, pts_seconds)
        if jump is not None:
            self._previous = self._last_emitted = None
        return [sample for frame in frames for sample in self._place(frame)], jump

    def finish(self) -> list[GridSample[Item]]:
        """End the grid; return the positions of frames that waited for the next one."""
        samples = [sample for frame in self._time_line.finish() for sample in self._place(frame)]
        self.restart()
        return samples

    def _place(self, frame: Timed[Item]) -> list[GridSample[Item]]:
        """Fill the positions up to this frame."""
        pts_seconds = frame.pts_seconds
        previous = self._previous
        self._previous = frame
        if previous is None:
            self._origin = pts_seconds
            self._next = 1
            return [self._emit(pts_seconds, frame.item)]
        samples = []
        latest = pts_seconds + _TOLERANCE_SECONDS
        while (position := self._origin + self._next / self._fps) <= latest:
            is_nearer = position - previous.pts_seconds < pts_seconds - position
            samples.append(self._emit(position, previous.item if is_nearer else frame.item))
            self._next += 1
        return samples

    def _emit(self, position: float, item: Item) -> GridSample[Item]:
        repeated = self._last_emitted is item
        self._last_emitted = item
        return GridSample(position, item, repeated)
