"""Fair, bounded hand-over between the cameras' threads and the analysis."""

from __future__ import annotations

import collections
import math
import threading
import time
from collections.abc import Callable

from stream.types import SampledFrame, StreamBreak, StreamItem

__all__ = ["Inbox"]

# A camera that waits for room looks this often whether it should stop.
_LOOK_SECONDS = 0.5


class Inbox:
    """One bounded queue per camera; taking goes round the cameras, so none can starve another.

    Args:
        max_frames: items of one camera that may wait; then the camera is blocked.
    """

    def __init__(self, max_frames: int) -> None:
        self._max_frames = max_frames
        self._closed = False
        self._queues: dict[str, collections.deque[StreamItem]] = {}
        self._turns: collections.deque[str] = collections.deque()
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        # One condition for each camera that waits: with a common one every item taken would wake
        # all of them.
        self._room: dict[str, threading.Condition] = {}

    def put(
        self,
        item: StreamItem,
        stop: threading.Event | None = None,
        on_blocked: Callable[[bool], None] = lambda blocked: None,
        *,
        max_wait_seconds: float = math.inf,
    ) -> bool:
        """Add an item of its camera. A frame waits for room; other items never wait.

        Args:
            stop: set when the camera should end; nothing is added after that.
            on_blocked: called with True when the camera begins to wait, with False afterwards.
            max_wait_seconds: a frame waits for no longer than this.

        Returns:
            Whether the item was taken: False if `stop` was set first, the inbox is closed, or there
            was no room in time.
        """
        stop = stop or threading.Event()
        with self._lock:
            if self._refuses(stop):
                return False
            if self._is_repeated_break(item):
                return True
            if isinstance(item, SampledFrame) and not self._wait_for_room(
                item, stop, on_blocked, max_wait_seconds
            ):
                return False
            queue = self._queues.setdefault(item.camera_id, collections.deque())
            if not queue:
                self._turns.append(item.camera_id)
            queue.append(item)
            self._arrived.notify()
        return True

    def take(
        self,
        max_items: int,
        timeout_seconds: float,
        is_held: Callable[[str], bool] = lambda camera_id: False,
    ) -> list[StreamItem]:
        """Remove up to `max_items` items, one camera after the other; empty after the timeout.

        Args:
            is_held: whether the items of a camera stay where they are for now.
        """
        with self._lock:
            if all(map(is_held, self._turns)) and not self._closed:
                self._arrived.wait(max(timeout_seconds, 0.0))
            items: list[StreamItem] = []
            passed: list[str] = []
            while self._turns and len(items) < max_items:
                camera_id = self._turns.popleft()
                if is_held(camera_id):
                    passed.append(camera_id)
                else:
                    items.append(self._take_one(camera_id))
            self._turns.extend(passed)
            return items

    def close(self) -> None:
        """Say that nothing more is put; what waits can still be taken."""
        with self._lock:
            self._closed = True
            self._arrived.notify_all()
            for room in self._room.values():
                room.notify_all()

    @property
    def is_closed(self) -> bool:
        """Whether nothing more is taken in."""
        with self._lock:
            return self._closed

    def __len__(self) -> int:
        with self._lock:
            return sum(len(queue) for queue in self._queues.values())

    # The methods below are called with the lock held.

    def _refuses(self, stop: threading.Event) -> bool:
        return self._closed or stop.is_set()

    def _is_repeated_break(self, item: StreamItem) -> bool:
        """Whether nothing came since the last break: a flood of them must not fill the memory."""
        if not isinstance(item, StreamBreak) or item.reason.is_final:
            return False
        queue = self._queues.get(item.camera_id)
        return queue is not None and len(queue) > 0 and isinstance(queue[-1], StreamBreak)

    def _wait_for_room(
        self,
        item: SampledFrame,
        stop: threading.Event,
        on_blocked: Callable[[bool], None],
        max_seconds: float,
    ) -> bool:
        if not self._is_full(item.camera_id):
            return True
        if max_seconds <= 0:
            return False
        on_blocked(True)
        deadline = time.monotonic() + max_seconds
        room = self._room.setdefault(item.camera_id, threading.Condition(self._lock))
        while self._is_full(item.camera_id) and not self._refuses(stop):
            if (seconds := deadline - time.monotonic()) <= 0:
                break
            room.wait(min(_LOOK_SECONDS, seconds))
        on_blocked(False)
        return not self._refuses(stop) and not self._is_full(item.camera_id)

    def _is_full(self, camera_id: str) -> bool:
        return len(self._queues.get(camera_id, ())) >= self._max_frames

    def _take_one(self, camera_id: str) -> StreamItem:
        queue = self._queues[camera_id]
        item = queue.popleft()
        if camera_id in self._room:
            self._room[camera_id].notify_all()
        if queue:
            self._turns.append(camera_id)
        elif isinstance(item, StreamBreak) and item.reason.is_final:
            del self._queues[camera_id]  # a camera that is gone leaves nothing behind
            self._room.pop(camera_id, None)
        return item
