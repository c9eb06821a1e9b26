"""Coded video of one camera between its reader and its decoder: bounded, and what gives way is
whole groups of pictures.
"""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable

from stream.types import BreakReason, CodedPacket

__all__ = ["PacketQueue"]


class PacketQueue:
    """One reader puts, one decoder takes.

    When more than the bounds waits, the oldest groups of pictures go, each up to the next key
    frame: what is left decodes, and is the newest. A group that alone exceeds the bounds goes with
    all that follows up to the next key frame.

    Args:
        max_seconds: from the arrival of the oldest waiting packet to that of the newest.
        max_bytes: of all waiting packets.
        on_dropped: told how many packets were dropped.
    """

    def __init__(
        self,
        *,
        max_seconds: float,
        max_bytes: float,
        on_dropped: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._max_seconds = max_seconds
        self._max_bytes = max_bytes
        self._on_dropped = on_dropped
        self._waiting: collections.deque[CodedPacket] = collections.deque()
        self._bytes = 0
        self._skipping = False
        self._closed = False
        self._condition = threading.Condition()

    def put(self, coded: CodedPacket) -> None:
        """Add a packet; never waits."""
        dropped = 0
        with self._condition:
            if self._skipping and coded.size and not coded.is_key:
                dropped = 1
            else:
                self._skipping = self._skipping and coded.size > 0 and not coded.is_key
                self._add(coded)
                if self._is_over():
                    dropped = self._make_room()
            self._condition.notify()
        if dropped:
            self._on_dropped(dropped)

    def take(self, timeout_seconds: float) -> CodedPacket | None:
        """The next packet, or None after the timeout or when the queue is closed and empty."""
        with self._condition:
            if not self._waiting and not self._closed:
                self._condition.wait(timeout_seconds)
            if not self._waiting:
                return None
            coded = self._waiting.popleft()
            self._bytes -= coded.size
            return coded

    def close(self) -> None:
        """Nothing more will come."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    @property
    def is_over(self) -> bool:
        """Whether nothing waits and nothing more will come."""
        with self._condition:
            return self._closed and not self._waiting

    def __len__(self) -> int:
        with self._condition:
            return len(self._waiting)

    def _add(self, coded: CodedPacket) -> None:
        self._waiting.append(coded)
        self._bytes += coded.size

    def _is_over(self) -> bool:
        seconds = self._waiting[-1].arrived_monotonic - self._waiting[0].arrived_monotonic
        return len(self._waiting) > 1 and (
            seconds > self._max_seconds or self._bytes > self._max_bytes
        )

    def _make_room(self) -> int:
        """Drop groups from the oldest on, leaving a mark where they were."""
        dropped = 0
        newest = self._waiting[-1]
        while self._waiting:
            coded = self._waiting.popleft()
            self._bytes -= coded.size
            dropped += coded.size > 0
            if self._waiting and self._waiting[0].is_key and not self._is_over():
                break
        else:
            self._skipping = True
        first = self._waiting[0] if self._waiting else newest
        self._waiting.appendleft(
            CodedPacket(None, first.arrived_monotonic, first.wall_seconds, lost=BreakReason.DROPPED)
        )
        return dropped
