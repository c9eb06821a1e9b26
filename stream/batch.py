"""Fair, bounded hand-over between the cameras' threads and the analysis, and the forming of
batches.
"""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Callable

from pydantic import Field

from configs import StrictModel
from stream.frames import SampledFrame, StreamBreak, View, Window

__all__ = ["FOR_GOOD", "BatchConfig", "Inbox", "Schedule", "WindowBatch"]

Item = SampledFrame | StreamBreak
# After these nothing more comes of a camera, unless it is started anew.
FOR_GOOD = ("removed", "paused", "changed", "ended")
# Whoever was put off and has not asked again for this long has no claim any more: its camera fell
# silent.
_CLAIM_SECONDS = 1.0


class BatchConfig(StrictModel):
    """Bounds of the hand-over and of batches."""

    max_batch: int = Field(8, ge=1, le=1024, description="most clips in one run of the network")
    deadline_seconds: float = Field(
        0.05, ge=0, le=10, description="a clip waits at most this long for others to join its batch"
    )
    camera_queue: int = Field(
        32,
        ge=2,
        le=4096,
        description="sampled frames of one camera that may wait; then its reader is blocked",
    )
    ready_batches: int = Field(
        16, ge=1, le=64, description="formed batches that may wait for the network"
    )
    wait_seconds: float = Field(
        0.75,
        gt=0,
        le=60,
        description=(
            "clips of live cameras are left out, evenly, once the network would get to them only"
            " after this long"
        ),
    )
    most_views: int | None = Field(
        None,
        ge=1,
        le=4096,
        description=(
            "cameras, or their regions, at once; null: as many as are configured, at least 64"
        ),
    )


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


class Schedule:
    """When each view's next clip is due, and whose turn it is when not all can go.

    Args:
        clip: frames of a clip.
    """

    def __init__(self, clip: int) -> None:
        self._clip = clip
        self._last_due: dict[View, int] = {}
        self._last_taken: dict[View, int] = {}
        self._last_turn: dict[View, int] = {}
        self._put_off: dict[View, float] = {}
        self._turn = 0

    def is_due(self, view: View, count: int, hop: int) -> bool:
        """Whether a view that has had `count` frames since its clip began is due: at once when
        full, then every hop.

        A clip that had to wait does not bring the next one nearer: others that wait would have to
        pay for it.
        """
        return count >= max(self._next_due(view, hop), self._last_taken.get(view, -hop) + hop)

    def is_last_due(self, view: View, count: int) -> bool:
        """Whether its newest frames, the last of all, have been in no clip yet."""
        return count > self._last_taken.get(view, 0)

    def elders(self, view: View) -> int:
        """How many views that were put off have waited longer: room must be left for them."""
        mine = self._last_turn.get(view, 0)
        since = time.monotonic() - _CLAIM_SECONDS
        return sum(
            self._last_turn.get(other, 0) < mine
            for other, asked in self._put_off.items()
            if asked > since
        )

    def went(self, view: View, count: int, hop: int) -> int:
        """The view's clip was taken; returns how many that were due before it never will be."""
        self._turn += 1
        lost = max(0, (count - self._next_due(view, hop)) // hop)
        self._last_due[view] = self._next_due(view, hop) + lost * hop
        self._last_taken[view], self._last_turn[view] = count, self._turn
        self._put_off.pop(view, None)
        return lost

    def put_off(self, view: View) -> None:
        """The clip cannot be taken now and stays due."""
        self._put_off[view] = time.monotonic()

    def restart(self, view: View, count: int, hop: int) -> int:
        """The view's clip begins anew; returns how many clips that were due will never be taken."""
        lost = max(0, (count - self._next_due(view, hop)) // hop + 1)
        for known in (self._last_due, self._last_taken, self._put_off):
            known.pop(view, None)
        return lost

    def forget(self, view: View) -> None:
        """The view is gone."""
        self._last_turn.pop(view, None)

    def _next_due(self, view: View, hop: int) -> int:
        return self._last_due[view] + hop if view in self._last_due else self._clip


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
