"""The writer thread: announced events into the outbox, so that a slow disk or a locked database
holds up no network.
"""

from __future__ import annotations

import collections
import itertools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from configs import OutboxError
from stream.events.event import ActionEvent
from stream.metrics import Metrics

__all__ = ["EventWriter"]

_log = logging.getLogger(__name__)
_MOST_UNSAVED = 100_000
_AT_ONCE = 1_000
_RETRY_SECONDS = 1.0
# At the end a lock or a full disk gets this long to pass.
_LAST_SECONDS = 5.0


class EventSink(Protocol):
    """What the writer needs of an outbox."""

    def append(self, events: Sequence[ActionEvent]) -> None:
        """Store events, all or none, in order; raises OutboxError."""

    def next_sequence(self, camera_id: str) -> int:
        """The number that the camera's next event gets, by what is stored."""


class EventWriter:
    """Stores events in order. While the outbox cannot be written they wait in memory, and video
    goes on.

    Args:
        on_result: told the seconds from the arrival of a clip's newest frame until its events, if
            it gave any, were stored.
    """

    def __init__(
        self,
        outbox: EventSink,
        metrics: Metrics,
        on_result: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self._outbox = outbox
        self._metrics = metrics
        self._on_result = on_result
        self._condition = threading.Condition()
        self._waiting: collections.deque[ActionEvent] = collections.deque()
        self._in_hand: list[ActionEvent] = []
        self._arrivals_in_hand: list[float] = []
        self._arrivals: collections.deque[float] = collections.deque(maxlen=_MOST_UNSAVED)
        self._retry_at = 0.0
        self._closing = False
        self._dropped = 0
        self.problem: str | None = None
        self.beat_monotonic = time.monotonic()

    def put(self, events: Sequence[ActionEvent], arrivals: Sequence[float] = ()) -> None:
        """Take events, and the monotonic times at which the frames came that they are the
        results of. Never waits.
        """
        if not events:
            for arrived in arrivals:
                self._on_result(time.monotonic() - arrived)
            return
        with self._condition:
            self._waiting.extend(events)
            self._arrivals.extend(arrivals)
            if len(self._waiting) > _MOST_UNSAVED:
                self._make_room()
            self._condition.notify()

    def next_sequence(self, camera_id: str) -> int:
        """The number that the camera's next event gets: those that wait have numbers, too."""
        with self._condition:
            numbers = [
                event.sequence
                for event in itertools.chain(self._in_hand, self._waiting)
                if event.camera_id == camera_id
            ]
        return max(numbers) + 1 if numbers else self._outbox.next_sequence(camera_id)

    @property
    def unsaved(self) -> int:
        """Events that are not stored: more than a few only while the outbox cannot be written."""
        return len(self._in_hand) + len(self._waiting)

    @property
    def lost(self) -> int:
        """Events that will never be stored, if this is the end: those that wait, and those for
        which there was no room to wait.
        """
        return self.unsaved + self._dropped

    def run(self) -> None:
        """Work until `close`; then, for a few seconds, until everything is stored."""
        while not self._closing:
            self.beat_monotonic = time.monotonic()
            with self._condition:
                self._condition.wait_for(self._has_work, timeout=0.2)
            if time.monotonic() >= self._retry_at:
                self._store()
        deadline = time.monotonic() + _LAST_SECONDS
        self._store()
        while self.unsaved and time.monotonic() < deadline:
            time.sleep(0.1)
            self._store()

    def close(self) -> None:
        """Nothing more comes."""
        with self._condition:
            self._closing = True
            self._condition.notify()

    def _has_work(self) -> bool:
        return self._closing or (bool(self._waiting) and time.monotonic() >= self._retry_at)

    def _store(self) -> None:
        while self._take():
            self.beat_monotonic = time.monotonic()
            try:
                with self._metrics.stage.labels("store").time():
                    self._outbox.append(self._in_hand)
            except OutboxError as error:
                self._put_back()
                self._complain(error)
                return
            if self.problem is not None:
                _log.warning("the outbox takes events again")
                self.problem = None
            with self._condition:
                arrivals = self._arrivals_in_hand
                self._in_hand = []
                self._arrivals_in_hand = []
            for arrived in arrivals:
                self._on_result(time.monotonic() - arrived)

    def _take(self) -> bool:
        with self._condition:
            self._in_hand = [
                self._waiting.popleft() for _ in range(min(_AT_ONCE, len(self._waiting)))
            ]
            if self._in_hand and not self._waiting:  # otherwise some of their events may still wait
                self._arrivals_in_hand = list(self._arrivals)
                self._arrivals.clear()
        return bool(self._in_hand)

    def _put_back(self) -> None:
        with self._condition:
            self._waiting.extendleft(reversed(self._in_hand))
            self._arrivals.extendleft(reversed(self._arrivals_in_hand))
            self._in_hand = []
            self._arrivals_in_hand = []
        self._retry_at = time.monotonic() + _RETRY_SECONDS

    def _make_room(self) -> None:
        """Drop the oldest `updated`, and only without any, the oldest event; a tenth at once."""
        if not self._dropped:
            _log.error(
                "more than %d events wait in memory; the oldest are dropped from now on, `updated`"
                " first",
                _MOST_UNSAVED,
            )
        excess = len(self._waiting) - _MOST_UNSAVED * 9 // 10
        for wanted in (("updated",), ("started", "ended")):
            kept: collections.deque[ActionEvent] = collections.deque()
            for event in self._waiting:
                if excess > 0 and event.kind in wanted:
                    excess -= 1
                    self._dropped += 1
                    self._metrics.outbox_dropped.labels(event.kind).inc()
                else:
                    kept.append(event)
            self._waiting = kept

    def _complain(self, error: OutboxError) -> None:
        if self.problem is None:
            _log.error("events wait in memory: %s", error)
        self.problem = str(error)
        self._metrics.outbox_failures.inc()
