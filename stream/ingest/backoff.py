"""How long to wait before a camera is opened again."""

from __future__ import annotations

import random

from stream.ingest.config import SourceConfig

__all__ = ["Backoff"]


class Backoff:
    """Pauses that double with each failure, up to a maximum.

    Each pause has a random part: cameras that failed together must not come back together.
    """

    def __init__(self, config: SourceConfig) -> None:
        self._config = config
        self._failures = 0

    def reset(self) -> None:
        """Note a success: the next pause is short again."""
        self._failures = 0

    def next_seconds(self) -> float:
        """Note a failure; return how long to wait after it."""
        doubled = self._config.backoff_initial_seconds * 2 ** min(self._failures, 20)
        self._failures += 1
        longest = min(doubled, self._config.backoff_max_seconds)
        return random.uniform(longest / 2, longest)
