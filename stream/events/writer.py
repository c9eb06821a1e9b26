"""The writer thread stores announced events in the outbox.

A slow disk or a locked database delays only this thread, not the network.
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
from stream.stage import Stage

__all__ = ["EventWriter"]

_log = logging.getLogger(__name__)
_MAX_AT_ONCE = 1_000
_LOOK_SECONDS = 0.2


class EventSink(Protocol):
    """The methods of an outbox that the writer uses."""

    def append(self, events: Sequence[ActionEvent]) -> None:
        """Store events, all or none, in order; raises OutboxError."""

    def next_sequence(self, camera_id: str, epoch: int | None = None) -> int:
        """Return the camera's next sequence number in an epoch, based on the stored events."""


class EventWriter(Stage):
    """Stores events in order; while the outbox cannot be written, events wait in memory.

    Args:
        on_result: called for every clip with its latency in seconds: from the arrival of its newest
            frame until its events were stored, or until its result was known if it has no events;
            and with the id of its trace, if it has one.
        on_stored: called with events that were stored.
        max_unsaved: maximum number of events in memory; beyond it, the oldest are dropped.
        retry_seconds: pause after a failure.
        flush_seconds: maximum time for further attempts to store the events after `close`.
    """

    def __init__(
        self,
        outbox: EventSink,
        metrics: Metrics,
        on_result: Callable[[float, str | None], None] = lambda seconds, trace_id: None,
        on_stored: Callable[[Sequence[ActionEvent]], None] = lambda events: None,
        *,
        max_unsaved: int = 100_000,
        retry_seconds: float = 1.0,
        flush_seconds: float = 5.0,
    ) -> None:
        super().__init__("writer")
        self._max_unsaved = max_unsaved
        self._retry_seconds = retry_seconds
        self._flush_seconds = flush_seconds
        self._outbox = outbox
        self._metrics = metrics
        self._on_result = on_result
        self._on_stored = on_stored
        self._condition = threading.Condition()
        self._waiting: collections.deque[ActionEvent] = collections.deque()
        self._storing: list[ActionEvent] = []
        # Arrival time and trace of each clip.
        self._arrivals_storing: list[tuple[float, str | None]] = []
        self._arrivals: collections.deque[tuple[float, str | None]] = collections.deque(
            maxlen=max_unsaved
        )
        self._retry_at = 0.0
        self._closing = False
        self._dropped = 0
        self.problem: str | None = None

    def put(
        self,
        events: Sequence[ActionEvent],
        arrivals: Sequence[float] = (),
        trace_ids: Sequence[str | None] = (),
    ) -> None:
        """Queue events, with the arrival times of their batch of clips; return at once.

        Args:
            trace_ids: trace of each clip; empty without tracing.
        """
        if not events:
            for arrived in arrivals:
                self._on_result(time.monotonic() - arrived, None)
            return
        with self._condition:
            self._waiting.extend(events)
            traces = trace_ids or (None,) * len(arrivals)
            self._arrivals.extend(zip(arrivals, traces, strict=True))
            if len(self._waiting) > self._max_unsaved:
                self._drop_oldest()
            self._condition.notify()

    def next_sequence(self, camera_id: str, epoch: int | None = None) -> int:
        """Return the next sequence number in an epoch; events not yet stored are counted too."""
        with self._condition:
            numbers = [
                event.sequence
                for event in itertools.chain(self._storing, self._waiting)
                if event.camera_id == camera_id and event.epoch == epoch
            ]
        return max(numbers) + 1 if numbers else self._outbox.next_sequence(camera_id, epoch)

    @property
    def unsaved(self) -> int:
        """Number of events not yet stored; it grows only while the outbox cannot be written."""
        return len(self._storing) + len(self._waiting)

    @property
    def lost(self) -> int:
        """Number of events that are lost if the run ends now: not yet stored, or dropped."""
        return self.unsaved + self._dropped

    def run(self) -> None:
        """Store events until `close`; then try for `flush_seconds` to store the remaining ones."""
        while not self._closing:
            self.beat()
            with self._condition:
                self._condition.wait_for(self._has_work, timeout=_LOOK_SECONDS)
            if time.monotonic() >= self._retry_at:
                self._store()
        deadline = time.monotonic() + self._flush_seconds
        self._store()
        while self.unsaved and time.monotonic() < deadline:
            time.sleep(0.1)
            self._store()

    def close(self) -> None:
        """Signal that no more events will be added."""
        with self._condition:
            self._closing = True
            self._condition.notify()

    def _has_work(self) -> bool:
        return self._closing or (bool(self._waiting) and time.monotonic() >= self._retry_at)

    def _store(self) -> None:
        while self._take():
            self.beat()
            try:
                with self._metrics.stage.labels("store").time():
                    self._outbox.append(self._storing)
            except OutboxError as error:
                self._put_back()
                self._record_failure(error)
                return
            if self.problem is not None:
                _log.warning("The outbox can be written again")
                self.problem = None
            with self._condition:
                stored, arrivals = self._storing, self._arrivals_storing
                self._storing = []
                self._arrivals_storing = []
            self._on_stored(stored)
            for arrived, trace_id in arrivals:
                self._on_result(time.monotonic() - arrived, trace_id)

    def _take(self) -> bool:
        with self._condition:
            self._storing = [
                self._waiting.popleft() for _ in range(min(_MAX_AT_ONCE, len(self._waiting)))
            ]
            # While events wait, the arrival times wait too: their clips may not be complete.
            if self._storing and not self._waiting:
                self._arrivals_storing = list(self._arrivals)
                self._arrivals.clear()
        return bool(self._storing)

    def _put_back(self) -> None:
        with self._condition:
            self._waiting.extendleft(reversed(self._storing))
            self._arrivals.extendleft(reversed(self._arrivals_storing))
            self._storing = []
            self._arrivals_storing = []
        self._retry_at = time.monotonic() + self._retry_seconds

    def _drop_oldest(self) -> None:
        """Drop a tenth of the waiting events: oldest `updated` first, then the oldest others."""
        if not self._dropped:
            _log.error(
                "more than %d events wait in memory; dropping the oldest, `updated` first",
                self._max_unsaved,
            )
        excess = len(self._waiting) - self._max_unsaved * 9 // 10
        for wanted in (("updated",), ("started", "ended", "verified")):
            kept: collections.deque[ActionEvent] = collections.deque()
            for event in self._waiting:
                if excess > 0 and event.kind in wanted:
                    excess -= 1
                    self._dropped += 1
                    self._metrics.outbox_dropped.labels(event.kind).inc()
                else:
                    kept.append(event)
            self._waiting = kept

    def _record_failure(self, error: OutboxError) -> None:
        if self.problem is None:
            _log.error("The outbox cannot be written; events wait in memory: %s", error)
        self.problem = str(error)
        self._metrics.outbox_failures.inc()
