"""When each view's next clip is due, and whose turn it is when not all can be analysed."""

from __future__ import annotations

import time

from stream.types import View

__all__ = ["Schedule"]

# A view that was postponed and has not asked again for this long gives up its turn: its camera
# fell silent.
_CLAIM_SECONDS = 1.0


class Schedule:
    """When each view's next clip is due, and whose turn it is when not all can be analysed.

    `count` is always the number of frames a view has had since its clip was restarted, `stride`
    the frames from one clip to the next.

    Args:
        frames: of a clip.
    """

    def __init__(self, frames: int) -> None:
        self._frames = frames
        self._last_due: dict[View, int] = {}
        self._last_taken: dict[View, int] = {}
        self._last_turn: dict[View, int] = {}
        self._postponed_at: dict[View, float] = {}
        self._turn = 0

    def is_due(self, view: View, count: int, stride: int) -> bool:
        """Whether a view's next clip is due: as soon as it has enough frames, then every stride.

        A clip that had to wait does not bring the next one nearer: other views that wait would
        have to pay for it.
        """
        after_last = self._last_taken.get(view, -stride) + stride
        return count >= max(self._next_due(view, stride), after_last)

    def is_last_due(self, view: View, count: int) -> bool:
        """Whether the newest frames of a view that ends have been in no clip yet."""
        return count > self._last_taken.get(view, 0)

    def waiting_longer(self, view: View) -> int:
        """How many postponed views have waited longer: room must be left for them."""
        mine = self._last_turn.get(view, 0)
        since = time.monotonic() - _CLAIM_SECONDS
        return sum(
            self._last_turn.get(other, 0) < mine
            for other, postponed_at in self._postponed_at.items()
            if postponed_at > since
        )

    def mark_taken(self, view: View, count: int, stride: int) -> int:
        """Note that a view's clip was taken; returns how many due clips were skipped before it."""
        self._turn += 1
        due = self._next_due(view, stride)
        skipped = max(0, (count - due) // stride)
        self._last_due[view] = due + skipped * stride
        self._last_taken[view] = count
        self._last_turn[view] = self._turn
        self._postponed_at.pop(view, None)
        return skipped

    def postpone(self, view: View) -> None:
        """Note that a view's clip cannot be taken now; it stays due."""
        self._postponed_at[view] = time.monotonic()

    def restart(self, view: View, count: int, stride: int) -> int:
        """Restart a view's clip; returns how many due clips will never be taken."""
        skipped = max(0, (count - self._next_due(view, stride)) // stride + 1)
        for noted in (self._last_due, self._last_taken, self._postponed_at):
            noted.pop(view, None)
        return skipped

    def forget(self, view: View) -> None:
        """Forget a view whose camera is gone."""
        self._last_turn.pop(view, None)

    def _next_due(self, view: View, stride: int) -> int:
        return self._last_due[view] + stride if view in self._last_due else self._frames
