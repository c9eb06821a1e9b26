"""Fair, bounded hand-over between the cameras' threads and the analysis."""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable

from stream.analysis.config import BatchConfig
from stream.types import SampledFrame, StreamBreak

__all__ = ["FOR_GOOD", "Inbox"]
Item = SampledFrame | StreamBreak
# After these nothing more comes of a camera, unless it is started anew.
FOR_GOOD = ("removed", "paused", "changed", "ended")


class Inbox:
    """One bounded queue per camera; taking goes round the cameras, so none can starve another."""

    def __init__(self, config: BatchConfig) -> None:
        self._most = config.camera_queue
        self._queues: dict[str, collections.deque[Item]] = {}
        self._turns: collections.deque[str] = collections.deque()
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        # One for each camera that waits: if all of them woke for every item taken, many cameras
        # would wake each other all the time.
        self._room: dict[str, threading.Condition] = {}

    def put(
        self,
        item: Item,
        stop: threading.Event,
        on_blocked: Callable[[bool], None] = lambda blocked: None,
    ) -> bool:
        """Add an item of its camera, waiting for room; False if `stop` was set first. Breaks
        never wait.
        """
        with self._lock:
            if stop.is_set():
                return False
            waiting = self._queues.setdefault(item.camera_id, collections.deque())
            if (
                isinstance(item, StreamBreak)
                and waiting
                and isinstance(waiting[-1], StreamBreak)
                and item.reason not in FOR_GOOD
            ):
                # nothing came since the last one: a flood of them must not fill the memory
                return True
            if len(waiting) >= self._most and isinstance(item, SampledFrame):
                on_blocked(True)
                room = self._room.setdefault(item.camera_id, threading.Condition(self._lock))
                while len(waiting) >= self._most and not stop.is_set():
                    room.wait(0.5)
                on_blocked(False)
                if stop.is_set():
                    return False
                # it may have been emptied and forgotten
                waiting = self._queues.setdefault(item.camera_id, collections.deque())
            if not waiting:
                self._turns.append(item.camera_id)
            waiting.append(item)
            self._arrived.notify()
        return True

    def take(
        self,
        most: int,
        timeout_seconds: float,
        held: Callable[[str], bool] = lambda camera_id: False,
    ) -> list[Item]:
        """Up to `most` items, one camera after the other; empty after the timeout. Cameras that
        are held keep theirs.
        """
        with self._lock:
            if all(map(held, self._turns)):
                self._arrived.wait(max(timeout_seconds, 0.0))
            items: list[Item] = []
            passed: list[str] = []
            while self._turns and len(items) < most:
                camera_id = self._turns.popleft()
                if held(camera_id):
                    passed.append(camera_id)
                    continue
                waiting = self._queues[camera_id]
                items.append(waiting.popleft())
                if camera_id in self._room:
                    self._room[camera_id].notify_all()
                if waiting:
                    self._turns.append(camera_id)
                elif isinstance(items[-1], StreamBreak) and items[-1].reason in FOR_GOOD:
                    del self._queues[camera_id]  # a camera that went for good leaves nothing behind
                    self._room.pop(camera_id, None)
            self._turns.extend(passed)
            return items

    def __len__(self) -> int:
        with self._lock:
            return sum(len(waiting) for waiting in self._queues.values())
