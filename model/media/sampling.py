"""Frames on a time grid: the same clip from a 12, 25, 30 or 120 frames-a-second or variable-rate
camera.

Times are presentation times in seconds. Training and the live pipeline both take their frames
through `TimeGrid`.
"""

from __future__ import annotations

import dataclasses
from typing import Generic, Literal, TypeVar

from configs import ConfigError

__all__ = ["GridSample", "ResetReason", "TimeGrid"]

Item = TypeVar("Item")
ResetReason = Literal["gap", "backwards"]
# Time bases round presentation times; a frame this early still counts as on time.
_TOLERANCE_SECONDS = 0.001


@dataclasses.dataclass(frozen=True)
class GridSample(Generic[Item]):
    """One position of the grid. `repeated` says that the position before it took the same frame."""

    pts_seconds: float
    item: Item
    repeated: bool


class TimeGrid(Generic[Item]):
    """For every multiple of 1/fps after the first frame, the frame whose presentation time is
    nearest.

    Args:
        fps: grid positions per second.
        max_gap_seconds: a longer distance between two frames starts the grid anew.

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
        """Forget everything: the next frame starts a new grid."""
        self._previous = self._last_emitted = None

    def push(
        self, item: Item, pts_seconds: float
    ) -> tuple[list[GridSample[Item]], ResetReason | None]:
        """Take the next frame; returns the grid positions it settles, and why the grid began
        anew, if it did.
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
        while (
            position := self._origin + self._next / self._fps
        ) <= pts_seconds + _TOLERANCE_SECONDS:
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
