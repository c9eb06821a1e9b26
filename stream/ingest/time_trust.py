"""Decide whether a live camera's timestamps can be used."""

from __future__ import annotations

import collections

from model.media.clip_cutter import DEFAULT_FRAMES

__all__ = ["TimeTrust"]

_FRAMES = 30
_MAX_WRONG = _FRAMES // 2
_MAX_SHORT_RUNS = 5


class TimeTrust:
    """Watches how a camera's frames fit on the time grid.

    Its timestamps cannot be used if half of the last 30 frames had wrong times, or if the time line
    jumped five times in a row before it gave a clip.
    """

    def __init__(self) -> None:
        self._wrong: collections.deque[int] = collections.deque(maxlen=_FRAMES)
        self._run = 0
        self._short_runs = 0

    def note(self, *, wrong: int, jumped: bool, positions: int) -> bool:
        """Note what became of one frame; return whether timestamps can no longer be used.

        Args:
            wrong: number of frames that turned out to have wrong times.
            jumped: whether the time line jumped.
            positions: number of grid positions that were filled.
        """
        self._wrong.append(wrong)
        if jumped:
            self._short_runs = self._short_runs + 1 if self._run < DEFAULT_FRAMES else 0
            self._run = 0
        self._run += positions
        return sum(self._wrong) >= _MAX_WRONG or self._short_runs >= _MAX_SHORT_RUNS
