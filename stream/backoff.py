"""How long to wait before something is tried again."""

from __future__ import annotations

import random

__all__ = ["Backoff"]


class Backoff:
    """Pauses that double with each failure, up to a maximum.

    Each pause has a random part: what failed together must not come back together.

    Args:
        initial_seconds: the first pause.
        max_seconds: the longest pause.
    """

    def __init__(self, initial_seconds: float, max_seconds: float) -> None:
        self._initial_seconds = initial_seconds
        self._max_seconds = max_seconds
        self._failures = 0

    def reset(self) -> None:
        """Note a success: the next pause is short again."""
        self._failures = 0

    def next_seconds(self) -> float:
        """Note a failure; return how long to wait after it."""
        doubled = self._initial_seconds * 2 ** min(self._failures, 20)
        self._failures += 1
        longest = min(doubled, self._max_seconds)
        return random.uniform(longest / 2, longest)
