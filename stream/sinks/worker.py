"""The thread of one sink delivers the events of the outbox that wait for it, in their order.

Delivery is at least once: after a crash, or if the answer of the receiver was lost, events are
delivered again. A receiver that is away delays only its own sink.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
import time
from collections.abc import Sequence

from configs import OutboxError
from stream.backoff import Backoff
from stream.events.event import StoredEvent
from stream.events.event_store import OnAcknowledged, SinkStore, tell_acknowledged
from stream.sink_metrics import SinkCounts
from stream.sinks.config import SinkConfig
from stream.sinks.delivery import Delivery, Gone, Refused, StaysConnected, Undelivered
from stream.stage import Stage

__all__ = ["SinkTimings", "SinkWorker"]

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SinkTimings:
    """The times of a sink's thread, in seconds.

    Args:
        backoff_initial_seconds, backoff_max_seconds: first and longest pause after a failure.
        max_retry_after_seconds: longest pause that a receiver can ask for.
        slow_seconds: a delivery that takes longer counts as a failure of the receiver.
        grace_seconds: time for a delivery to return once it was told to.
    """

    backoff_initial_seconds: float = 1.0
    backoff_max_seconds: float = 60.0
    max_retry_after_seconds: float = 600.0
    slow_seconds: float = 60.0
    grace_seconds: float = 3.0
    look_seconds: float = 0.5
    closing_pause_seconds: float = 1.0


class SinkWorker(Stage):
    """Delivers what waits for a sink; `close` delivers the rest and ends the thread.

    Args:
        store: the outbox as this sink sees it.
        counts: counters of the sink.
        on_acknowledged: called with the name of the sink and with events that it has taken.
    """

    def __init__(
        self,
        config: SinkConfig,
        delivery: Delivery,
        store: SinkStore,
        counts: SinkCounts,
        *,
        on_acknowledged: OnAcknowledged | None = None,
        timings: SinkTimings | None = None,
    ) -> None:
        super().__init__(f"sink-{config.name}")
        self.config = config
        self.address = delivery.address
        self._delivery = delivery
        self._store = store
        self._counts = counts
        self._on_acknowledged = on_acknowledged
        self._timings = timings or SinkTimings()
        self._backoff = Backoff(
            self._timings.backoff_initial_seconds, self._timings.backoff_max_seconds
        )
        self._problem: str | None = None
        self._delivering_since: float | None = None
        self._taken: list[StoredEvent] = []  # taken by the receiver, not yet noted in the outbox
        # Events up to this id are delivered one by one, to find the one that is refused.
        self._alone_until = 0
        self._is_gone = False
        self._has_ended = False
        self._closing = threading.Event()
        self._is_closed = False
        self._ends_at = 0.0

    @property
    def problem(self) -> str | None:
        """Why the sink takes no events, in one line; None if it takes them."""
        since = self._delivering_since
        seconds = 0.0 if since is None else time.monotonic() - since
        if seconds > self._timings.slow_seconds and self._problem is None:
            return f"a delivery has taken {seconds:.0f} s"
        return self._problem

    def run(self) -> None:
        """Deliver until `stop`; after `begin_end`, until nothing waits."""
        while not (self.stopping.is_set() or self._has_ended):
            self.beat()
            try:
                if not self._step() and not self._wait():
                    return
            except Exception as error:
                # The thread must survive any error; the events are still in the outbox.
                if not self.stopping.is_set():
                    self._note_unexpected(error)
                    _log.exception("delivering to sink %s failed; trying again", self.config.name)
                    self._pause(None)

    def begin_end(self) -> None:
        """Let the thread end once nothing waits, `drain_seconds` from now at the latest."""
        if not self._closing.is_set():
            self._ends_at = time.monotonic() + self.config.drain_seconds
            self._closing.set()

    def close(self) -> bool:
        """Deliver waiting events for at most `drain_seconds`, then end the thread.

        Returns:
            False if events for the sink remain in the outbox.
        """
        if not self._is_closed:
            self.begin_end()
            self.join(max(0.0, self._ends_at - time.monotonic()))
            self.stop()
            self._is_closed = True
            if self.join(self._timings.grace_seconds):
                with contextlib.suppress(Exception):  # the end of a run must go on
                    self._delivery.close()
            else:
                _log.error("sink %s hangs while it delivers; it is left behind", self.config.name)
        return len(self._store) == 0

    def _step(self) -> bool:
        """Deliver the next events; return False if none wait."""
        if self._is_gone:
            self._counts.note_lost(self._store.end())
            self._has_ended = True
            return True
        if self._taken:
            self._note_taken()
        events = self._store.oldest(self._delivery.max_batch)
        if not events:
            return False
        if events[0].id <= self._alone_until:
            events = events[:1]
        self._delivering_since = time.monotonic()
        try:
            self._delivery.deliver(events, self.stopping)
        except Undelivered as error:
            self._take(events[: error.delivered])
            if not self.stopping.is_set():
                self._handle(error, events)
        else:
            self._note_up()
            self._take(events)
        finally:
            self._delivering_since = None
        return True

    def _wait(self) -> bool:
        """Wait for events; return False if the thread is to end because none wait."""
        if self._closing.is_set():
            return False
        if isinstance(self._delivery, StaysConnected) and not self._keep_connected():
            return True
        self._store.wait_for_change(self._timings.look_seconds)
        return True

    def _keep_connected(self) -> bool:
        """Return whether there is a connection; wait a while if there is none."""
        assert isinstance(self._delivery, StaysConnected)
        self._delivering_since = time.monotonic()
        try:
            self._delivery.keep_connected(self.stopping)
        except Undelivered as error:
            if not self.stopping.is_set():
                self._handle(error, ())
            return False
        finally:
            self._delivering_since = None
        self._note_up()
        return True

    def _take(self, events: Sequence[StoredEvent]) -> None:
        self._taken += events
        if self._taken:
            self._note_taken()

    def _note_taken(self) -> None:
        """Note in the outbox what the receiver has; if this fails, it is tried again first."""
        taken = self._taken
        self._store.remove([stored.id for stored in taken])
        self._taken = []
        self._counts.note_taken(len(taken))
        tell_acknowledged(self._on_acknowledged, self.config.name, taken)

    def _handle(self, error: Undelivered, events: Sequence[StoredEvent]) -> None:
        self._counts.note_failure(error.reason)
        if isinstance(error, Gone):
            _log.error(
                "sink %s at %s wants no more events (%s); it gets none until the next start",
                self.config.name,
                self.address,
                error,
            )
            self._problem = f"ended until the next start: {error}"
            self._is_gone = True
        elif isinstance(error, Refused):
            self._note_up()  # it answers
            if len(events) == 1:
                self._bury(events[0], error)
            else:
                self._alone_until = events[-1].id
        else:
            self._note_away(str(error))
            if error.delivered:
                self._backoff.reset()
            self._pause(error.retry_after_seconds)

    def _bury(self, stored: StoredEvent, error: Refused) -> None:
        _log.error(
            "sink %s refused event number %d (%s); moved it to the dead letters of the outbox",
            self.config.name,
            stored.id,
            error,
        )
        self._store.move_to_dead_letters(stored.id, f"{error.reason}: {error}")
        self._counts.note_dead_letter()

    def _note_up(self) -> None:
        if self._problem is not None:
            _log.warning("sink %s at %s takes events again", self.config.name, self.address)
        self._problem = None
        self._backoff.reset()

    def _note_away(self, reason: str) -> None:
        if self._problem is None:
            _log.warning(
                "sink %s at %s: %s; its events wait in the outbox",
                self.config.name,
                self.address,
                reason,
            )
        self._problem = reason

    def _note_unexpected(self, error: Exception) -> None:
        if isinstance(error, OutboxError):  # the receiver is not to blame
            self._counts.note_failure("outbox")
        else:
            self._counts.note_failure("unexpected")
            self._note_away(f"unexpected error: {type(error).__name__}")

    def _pause(self, retry_after_seconds: float | None) -> None:
        """Wait after a failure: twice as long each time, with a random part, or as was asked for.

        The end of the run cuts the pause short, and the pauses after it.
        """
        times = self._timings
        pause = self._backoff.next_seconds()
        if retry_after_seconds is not None:
            asked = min(retry_after_seconds, times.max_retry_after_seconds)
            pause = max(asked, times.backoff_initial_seconds / 2)
        if not self._closing.is_set():
            self._closing.wait(pause)
        elif retry_after_seconds is None:
            self.stopping.wait(min(pause, times.closing_pause_seconds))
        else:
            self.stopping.wait(pause)
