"""Clips that are due, gathered into batches."""

from __future__ import annotations

import time

from stream.analysis.config import BatchConfig
from stream.types import Window

__all__ = ["WindowBatch"]


class WindowBatch:
    """Clips that are due, gathered until the batch is full or its oldest has waited for the
    deadline.
    """

    def __init__(self, config: BatchConfig) -> None:
        self._config = config
        self._windows: list[tuple[int, Window]] = []
        self._oldest = 0.0

    def __len__(self) -> int:
        return len(self._windows)

    def add(self, slot: int, window: Window) -> None:
        """A clip of this ring slot is due now."""
        if not self._windows:
            self._oldest = time.monotonic()
        self._windows.append((slot, window))

    def holds(self, slot: int) -> bool:
        """Whether a clip of this slot waits: it must be gathered before the slot is written
        again.
        """
        return any(waiting == slot for waiting, _ in self._windows)

    def is_due(self) -> bool:
        """Whether the batch should go now."""
        return len(self) >= self._config.max_batch or (
            bool(self._windows) and self.seconds_left() <= 0
        )

    def seconds_left(self) -> float:
        """Time until the deadline; infinite while nothing waits."""
        if not self._windows:
            return float("inf")
        return self._oldest + self._config.deadline_seconds - time.monotonic()

    def take(self) -> list[tuple[int, Window]]:
        """All waiting clips as (slot, window), and start anew."""
        windows = self._windows
        self._windows = []
        return windows
