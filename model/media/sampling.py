"""The time grid picks frames at a fixed rate from video with any frame rate.

Clips therefore look alike for cameras with 12, 25, 30 or 120 frames per second, or with a varying
rate. Times are presentation times in seconds. Training and the live pipeline both use `TimeGrid`.
"""

from __future__ import annotations

import dataclasses
from typing import Generic, Literal, TypeVar

from configs import ConfigError

__all__ = ["GridSample", "ResetReason", "TimeGrid"]

Item = TypeVar("Item")
ResetReason = Literal["gap", "backwards"]
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

    The first position is the time of the first frame.

    Args:
        fps: number of grid positions per second.
        max_gap_seconds: maximum time between two frames; the grid restarts after a longer gap.

    Raises:
        ConfigError: a value is not positive.
    """

    def __init__(self, fps: float, max_gap_seconds: float = float("inf")) -> None:
        if not fps > 0 or not max_gap_seconds > 0:
            raise ConfigError(
                f"fps and max_gap_seconds must be above 0, got {fps} and {max_gap_seconds}"
            )
        self._fps = fps
        self._max_gap = max_gap_seconds
        self._previous: tuple[float, Item] | None = None
        self._last_emitted: Item | None = None
        self._origin = 0.0
        self._next = 0

    def restart(self) -> None:
        """Discard all frames; the next frame starts a new grid."""
        self._previous = self._last_emitted = None

    def push(
        self, item: Item, pts_seconds: float
    ) -> tuple[list[GridSample[Item]], ResetReason | None]:
        """Add the next frame.

        Returns:
            The grid positions whose frame is now known, and the reason why the grid restarted (None
            if it did not restart).
        """
        reason = self._reset_reason(pts_seconds)
        if reason is not None:
            self.restart()
        if self._previous is None:
            self._origin = pts_seconds
            self._next = 1
            self._previous = (pts_seconds, item)
            return [self._emit(pts_seconds, item)], reason
        previous_pts, previous = self._previous
        if pts_seconds == previous_pts:
            return [], None
        samples = []
        latest = pts_seconds + _TOLERANCE_SECONDS
        while (position := self._origin + self._next / self._fps) <= latest:
            nearest = previous if position - previous_pts < pts_seconds - position else item
            samples.append(self._emit(position, nearest))
            self._next += 1
        self._previous = (pts_seconds, item)
        return samples, None

    def _reset_reason(self, pts_seconds: float) -> ResetReason | None:
        if self._previous is None:
            return None
        step = pts_seconds - self._previous[0]
        if step < 0:
            return "backwards"
        return "gap" if step > self._max_gap else None

    def _emit(self, position: float, item: Item) -> GridSample[Item]:
        repeated = self._last_emitted is item
        self._last_emitted = item
        return GridSample(position, item, repeated)
