"""When each camera's next clip is due, and whose turn it is when not all can go."""

from __future__ import annotations

import time

from stream.types import View

__all__ = ["Schedule"]
# Whoever was put off and has not asked again for this long has no claim any more: its camera fell
# silent.
_CLAIM_SECONDS = 1.0


class Schedule:
    """When each view's next clip is due, and whose turn it is when not all can go.

    Args:
        clip: frames of a clip.
    """

    def __init__(self, clip: int) -> None:
        self._clip = clip
        self._last_due: dict[View, int] = {}
        self._last_taken: dict[View, int] = {}
        self._last_turn: dict[View, int] = {}
        self._put_off: dict[View, float] = {}
        self._turn = 0

    def is_due(self, view: View, count: int, hop: int) -> bool:
        """Whether a view that has had `count` frames since its clip began is due: at once when
        full, then every hop.

        A clip that had to wait does not bring the next one nearer: others that wait would have to
        pay for it.
        """
        return count >= max(self._next_due(view, hop), self._last_taken.get(view, -hop) + hop)

    def is_last_due(self, view: View, count: int) -> bool:
        """Whether its newest frames, the last of all, have been in no clip yet."""
        return count > self._last_taken.get(view, 0)

    def elders(self, view: View) -> int:
        """How many views that were put off have waited longer: room must be left for them."""
        mine = self._last_turn.get(view, 0)
        since = time.monotonic() - _CLAIM_SECONDS
        return sum(
            self._last_turn.get(other, 0) < mine
            for other, asked in self._put_off.items()
            if asked > since
        )

    def went(self, view: View, count: int, hop: int) -> int:
        """The view's clip was taken; returns how many that were due before it never will be."""
        self._turn += 1
        lost = max(0, (count - self._next_due(view, hop)) // hop)
        self._last_due[view] = self._next_due(view, hop) + lost * hop
        self._last_taken[view], self._last_turn[view] = count, self._turn
        self._put_off.pop(view, None)
        return lost

    def put_off(self, view: View) -> None:
        """The clip cannot be taken now and stays due."""
        self._put_off[view] = time.monotonic()

    def restart(self, view: View, count: int, hop: int) -> int:
        """The view's clip begins anew; returns how many clips that were due will never be taken."""
        lost = max(0, (count - self._next_due(view, hop)) // hop + 1)
        for known in (self._last_due, self._last_taken, self._put_off):
            known.pop(view, None)
        return lost

    def forget(self, view: View) -> None:
        """The view is gone."""
        self._last_turn.pop(view, None)

    def _next_due(self, view: View, hop: int) -> int:
        return self._last_due[view] + hop if view in self._last_due else self._clip
