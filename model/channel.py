"""A bounded queue between two threads, used by the live pipeline and by the training loader."""

from __future__ import annotations

import collections
import threading
from collections.abc import Iterator
from typing import Generic, TypeVar

__all__ = ["Channel"]

Item = TypeVar("Item")


class Channel(Generic[Item]):
    """A queue that holds at most `capacity` items and can be closed.

    Methods may be called from any thread. After `close`, no items can be added, but queued items
    can still be taken. `cancel` closes the queue, discards its items and wakes all waiting threads.

    Args:
        capacity: maximum number of queued items; `put` waits while the queue is full.
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
        """Whether the queue is closed, so that no items can be added."""
        with self._changed:
            return self._closed

    @property
    def is_drained(self) -> bool:
        """Whether the queue is closed and empty."""
        with self._changed:
            return self._closed and not self._items

    def put(self, item: Item, timeout_seconds: float | None = None) -> bool:
        """Add an item; wait while the queue is full.

        Return False if the queue is closed or still full after the timeout.
        """
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
        """Remove and return the oldest item; wait while the queue is empty.

        Return None after the timeout, or if the queue is closed and empty.
        """
        with self._changed:
            self._changed.wait_for(lambda: bool(self._items) or self._closed, timeout_seconds)
            if not self._items:
                return None
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def close(self) -> None:
        """Close the queue: no more items can be added, but queued items can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def cancel(self) -> None:
        """Close the queue and discard its items."""
        with self._changed:
            self._items.clear()
            self.close()

    def __iter__(self) -> Iterator[Item]:
        """Yield items until the queue is closed and empty; items must not be None."""
        while not self.is_drained:
            item = self.take()
            if item is not None:
                yield item
