"""A bounded hand-over between two threads, for the live pipeline and for the training loader."""

from __future__ import annotations

import collections
import threading
from collections.abc import Iterator
from typing import Generic, TypeVar

__all__ = ["Channel"]

Item = TypeVar("Item")


class Channel(Generic[Item]):
    """A queue that holds at most `capacity` items and can be closed.

    Methods may be called from any thread. Closing it says that nothing more is put; what it holds
    can still be taken. Cancelling it wakes everybody and throws away what it holds.

    Args:
        capacity: items that may wait; `put` waits while there are so many.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"a channel holds at least one item, got capacity {capacity}")
        self.capacity = capacity
        self._items: collections.deque[Item] = collections.deque()
        self._changed = threading.Condition()
        self._closed = False

    def __len__(self) -> int:
        with self._changed:
            return len(self._items)

    @property
    def is_closed(self) -> bool:
        """Whether nothing more can be put."""
        with self._changed:
            return self._closed

    @property
    def is_drained(self) -> bool:
        """Whether it is closed and everything has been taken."""
        with self._changed:
            return self._closed and not self._items

    def put(self, item: Item, timeout_seconds: float | None = None) -> bool:
        """Add an item, waiting for room; False if the time is over or the channel is closed."""
        with self._changed:
            self._changed.wait_for(
                lambda: len(self._items) < self.capacity or self._closed, timeout_seconds
            )
            if self._closed or len(self._items) >= self.capacity:
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True

    def take(self, timeout_seconds: float | None = None) -> Item | None:
        """Remove the oldest item; None if none came in time, or it is closed and drained."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._items) or self._closed, timeout_seconds)
            if not self._items:
                return None
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def close(self) -> None:
        """Say that nothing more is put."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def cancel(self) -> None:
        """Close it and throw away what it holds."""
        with self._changed:
            self._items.clear()
            self.close()

    def __iter__(self) -> Iterator[Item]:
        """Take items until it is closed and drained. None cannot be an item here."""
        while not self.is_drained:
            item = self.take()
            if item is not None:
                yield item
