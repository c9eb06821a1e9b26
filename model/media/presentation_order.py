"""Sort frames into presentation order if a decoder delivers them slightly out of order."""

from __future__ import annotations

from typing import Generic, TypeVar

__all__ = ["PresentationOrder"]

Item = TypeVar("Item")
# A longer step back in time is treated as a jump of the stream, not as wrong order.
_JUMP_SECONDS = 1.0
_MAX_HELD = 4


class PresentationOrder(Generic[Item]):
    """Sorts frames that a decoder delivers slightly out of order.

    Frames of some files (MPEG-4 with B-frames in AVI) are delivered in decoding order. At first,
    every frame is returned at once. A frame that arrives late by less than a second is dropped.
    After each late frame, the sorter delays one more frame, so that it can sort the next ones; it
    delays at most four. A longer step back in time, or more than four late frames one after
    another, is a jump of the stream: the delayed frames and the new frame are returned.
    """

    def __init__(self) -> None:
        self._held: list[tuple[float, Item]] = []
        self._depth = 0
        self._late = 0  # late frames one after another
        self._newest = float("-inf")
        self._emitted = float("-inf")

    def push(self, item: Item, time: float | None) -> list[Item]:
        """Add an item with its time in seconds; return the items whose order is now known."""
        if time is None:
            return [*self.flush(), item]
        if self._newest - time >= _JUMP_SECONDS or self._late == _MAX_HELD:
            # The late frames came after a frame with a wrong time; the order was right.
            self._depth = max(0, self._depth - self._late)
            self._late = 0
            self._newest = self._emitted = time
            return [*self.flush(), item]
        self._newest = max(self._newest, time)
        if time < self._emitted:
            self._late += 1
            self._depth = min(self._depth + 1, _MAX_HELD)
            return []  # the frame is late: one with a later time has already been returned
        self._late = 0
        self._held = sorted([*self._held, (time, item)], key=lambda pair: pair[0])
        ready = self._held[: len(self._held) - self._depth]
        self._held = self._held[len(self._held) - self._depth :]
        if ready:
            self._emitted = ready[-1][0]
        return [item for _, item in ready]

    def flush(self) -> list[Item]:
        """Return all delayed items."""
        held = [item for _, item in self._held]
        self._held = []
        return held
