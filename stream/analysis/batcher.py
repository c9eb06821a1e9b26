"""Clips that are due, gathered into batches."""

from __future__ import annotations

import time

from stream.types import ClipRef

__all__ = ["Batcher"]


class Batcher:
    """Gathers due clips until the batch is full or its oldest clip has waited for the deadline.

    Args:
        max_batch: clips of a batch.
        deadline_seconds: a clip waits at most this long for others.
    """

    def __init__(self, *, max_batch: int, deadline_seconds: float) -> None:
        self._max_batch = max_batch
        self._deadline_seconds = deadline_seconds
        self._clips: list[tuple[int, ClipRef]] = []
        self._oldest_monotonic = 0.0

    def __len__(self) -> int:
        return len(self._clips)

    def add(self, slot: int, ref: ClipRef) -> None:
        """Add the clip that a slot of the ring holds now."""
        if not self._clips:
            self._oldest_monotonic = time.monotonic()
        self._clips.append((slot, ref))

    def holds(self, slot: int) -> bool:
        """Whether a clip of this slot waits: it must be gathered before the slot is written."""
        return any(waiting == slot for waiting, _ in self._clips)

    def is_due(self) -> bool:
        """Whether the batch should be sent now."""
        return len(self._clips) >= self._max_batch or self.seconds_left() <= 0

    def seconds_left(self) -> float:
        """Seconds until the deadline; infinite while nothing waits."""
        if not self._clips:
            return float("inf")
        return self._oldest_monotonic + self._deadline_seconds - time.monotonic()

    def take(self) -> list[tuple[int, ClipRef]]:
        """Remove all waiting clips, each with the slot of the ring that holds it."""
        clips = self._clips
        self._clips = []
        return clips
