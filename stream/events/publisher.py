"""The publisher sends the events of the outbox to Kafka, in order per camera.

Each event is delivered once, unless a record is refused, the producer is replaced or the process is
killed. The producer is idempotent and retries each record until it is delivered. Its retries keep
the producer's id and the record's sequence number, so the broker recognises a repeated record. If
the publisher itself sent the record again, it would get a new sequence number. After a restart, or
with a new producer, an event that was delivered but not yet removed from the outbox is sent again;
consumers drop the repetition by `event_id`, `kind` and `sequence`.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from stream.events.config import KafkaConfig
from stream.events.event import SCHEMA, StoredEvent
from stream.events.event_store import EventStore, OnAcknowledged, tell_acknowledged
from stream.events.kafka import REFUSALS, abandon_producer, connect_producer, kafka, silence_log
from stream.events.producer_watch import ProducerWatch, PublisherTimings
from stream.events.topic import TopicProblem, find_topic
from stream.sinks.config import KAFKA
from stream.stage import Stage

__all__ = ["BrokerCalls", "Publisher"]

_log = logging.getLogger(__name__)
_MAX_UNACKNOWLEDGED = 2000  # events handed to the producer and not yet acknowledged


@dataclasses.dataclass(frozen=True, kw_only=True)
class BrokerCalls:
    """The functions with which a publisher uses Kafka; tests replace them."""

    connect: Callable[[KafkaConfig], Any] = connect_producer
    find_topic: Callable[[KafkaConfig], TopicProblem | None] = find_topic
    abandon: Callable[[Any], None] = abandon_producer


class Publisher(Stage):
    """Sends the events of an outbox to a topic; `close` publishes the rest and ends the thread.

    Args:
        on_published: called with the number of events that the broker acknowledged.
        on_failure: called with a one-word name of each failure.
        on_dead_letter: called for each event that the broker refuses.
        on_acknowledged: called with the name of the sink and with events that the broker has.
        timings: times after which the broker counts as away or the producer as broken.
        calls: functions that connect to Kafka.
    """

    def __init__(
        self,
        config: KafkaConfig,
        outbox: EventStore,
        on_published: Callable[[int], None] = lambda count: None,
        on_failure: Callable[[str], None] = lambda error: None,
        on_dead_letter: Callable[[], None] = lambda: None,
        *,
        on_acknowledged: OnAcknowledged | None = None,
        timings: PublisherTimings | None = None,
        calls: BrokerCalls | None = None,
    ) -> None:
        super().__init__("publisher")
        self._config = config
        self._address = ", ".join(config.bootstrap)
        self._outbox = outbox
        self._on_published = on_published
        self._on_failure = on_failure
        self._on_dead_letter = on_dead_letter
        self._on_acknowledged = on_acknowledged
        self._timings = timings or PublisherTimings()
        self._calls = calls or BrokerCalls()
        self._watch = ProducerWatch(self._timings)
        self._is_open = False
        self.problem: str | None = None  # why the broker gets no events; None if it does
        self._has_topic = False
        self._producer: Any = None  # None while a new one is needed
        self._pending: dict[int, Any] = {}  # the future of each unacknowledged event, by its id
        self._sent: dict[int, StoredEvent] = {}  # those events, if a hook is to be told
        self._last_sent = 0
        # Events up to this id are sent one by one, to find the event that the broker refuses.
        self._alone_until = 0

    def start(self) -> None:
        """Create the producer and start the thread; the broker need not be reachable.

        Raises:
            BrokerError: the settings cannot be used.
        """
        silence_log()
        self._producer = self._calls.connect(self._config)
        self._is_open = True
        super().start()

    def close(self) -> bool:
        """Publish waiting events for at most `drain_seconds`, then end the thread.

        Returns:
            False if unpublished events remain in the outbox.
        """
        if not self._is_open:
            return len(self._outbox) == 0
        self._is_open = False
        self.stop()
        self.join(threading.TIMEOUT_MAX)
        is_flushed = self._flush()
        if self._producer is not None and is_flushed:
            self._producer.close(timeout=1)
        elif self._producer is not None:
            self._calls.abandon(self._producer)
        return is_flushed and len(self._outbox) == 0

    def run(self) -> None:
        """Publish until `stop`."""
        while not self.stopping.is_set():
            self.beat()
            try:
                if not self._pump():
                    self._outbox.wait_for_change(0.05 if self._pending else 0.5)
            except Exception:
                # The thread must survive any error; the events are still in the outbox.
                self._on_failure("unexpected")
                _log.exception("publishing to %s failed; trying again", self._address)
                self.stopping.wait(self._timings.retry_seconds)

    def _pump(self) -> bool:
        """Process acknowledgements and send the next events; return False if nothing changed."""
        if self._producer is None:
            self._producer = self._calls.connect(self._config)
        if not self._has_topic and not self._find_topic():
            self.stopping.wait(self._timings.retry_seconds)
            return True
        acknowledged = self._collect()
        self._check_producer()
        if self._producer is None:
            return True
        self._send_next()
        return acknowledged > 0

    def _send_next(self) -> None:
        limit = 1 if self._last_sent < self._alone_until else _MAX_UNACKNOWLEDGED
        room = limit - len(self._pending)
        if room > 0:
            for stored in self._outbox.oldest(room, self._last_sent):
                if not self._send(stored):
                    return

    def _check_producer(self) -> None:
        """Replace a producer that delivers nothing although the broker answers a new client."""
        has_work = bool(self._pending) or self._watch.is_blocked
        if self._producer is None or not has_work or not self._watch.is_due:
            return
        if self._watch.is_suspect:
            self._watch.note_progress()
            self._start_over("no acknowledgement, although the broker answers a new client")
        else:
            self._watch.note_check(broker_answers=self._find_topic())

    def _send(self, stored: StoredEvent) -> bool:
        """Pass an event to the producer; return whether the next event can be sent."""
        event = stored.event
        headers = [("schema", SCHEMA.encode()), ("event_id", event.event_id.encode())]
        if event.traceparent is not None:
            headers.append(("traceparent", event.traceparent.encode()))
        try:
            future = self._producer.send(
                self._config.topic,
                event.to_json().encode(),
                key=event.camera_id.encode(),
                headers=headers,
            )
        except kafka.errors.MessageSizeTooLargeError as error:
            self._add_dead_letter(stored.id, error)
        except kafka.errors.KafkaError as error:
            self._note_blocked(error)
            return False
        else:
            if not self._pending:
                self._watch.note_progress()  # the timeouts start with the first pending event
            self._pending[stored.id] = future
            if self._on_acknowledged is not None:
                self._sent[stored.id] = stored
        self._last_sent = stored.id
        return True

    def _note_blocked(self, error: BaseException) -> None:
        """Record that the producer did not accept an event; the event will be sent again."""
        if isinstance(error, kafka.errors.KafkaTimeoutError):
            self._note_away("no_metadata", "no broker answers")
        else:
            self._note_away(type(error).__name__, str(error))
        if not (self._watch.is_blocked or self._pending):
            self._watch.note_progress()  # the timeouts start now
        self._watch.is_blocked = True

    def _collect(self) -> int:
        """Remove acknowledged events from the outbox; return their number.

        An unacknowledged event delays no other event until the limit of such events is reached.
        """
        done = {stored_id: future for stored_id, future in self._pending.items() if future.is_done}
        acknowledged = [stored_id for stored_id, future in done.items() if not future.failed()]
        failed = [stored_id for stored_id, future in done.items() if future.failed()]
        if acknowledged:
            self._note_acknowledged(acknowledged)
        elif self._pending and not done and self.problem is None and self._watch.is_silent:
            reason = f"no acknowledgement for {self._timings.away_seconds:g} s"
            self._note_away("no_answer", reason)
        if failed:
            self._handle_failure(failed[0], done[failed[0]].exception)
        return len(acknowledged)

    def _note_acknowledged(self, ids: Sequence[int]) -> None:
        self._note_back()
        self._outbox.remove(ids)  # if this fails, the next call collects the same ids again
        for stored_id in ids:
            del self._pending[stored_id]
        self._watch.note_progress()
        self._on_published(len(ids))
        if self._sent:
            taken = [self._sent.pop(each) for each in ids if each in self._sent]
            tell_acknowledged(self._on_acknowledged, KAFKA, taken)

    def _handle_failure(self, stored_id: int, error: BaseException) -> None:
        """Replace the producer after a record failed, because its other records failed as well.

        A record that is refused when it is sent alone becomes a dead letter.
        """
        self._on_failure(type(error).__name__)
        if isinstance(error, REFUSALS) and len(self._pending) == 1:
            self._add_dead_letter(stored_id, error)
        elif isinstance(error, REFUSALS) or type(error) is kafka.errors.KafkaError:
            self._alone_until = max(self._pending)
        self._start_over(error)

    def _add_dead_letter(self, stored_id: int, error: BaseException) -> None:
        _log.error(
            "the broker refused event number %d (%s); moved it to the dead letters of the outbox",
            stored_id,
            reason := self._config.redact(f"{type(error).__name__}: {error}"),
        )
        self._outbox.move_to_dead_letters(stored_id, reason)
        self._on_dead_letter()

    def _note_away(self, failure: str, reason: str) -> None:
        self._on_failure(failure)
        shown = self._config.redact(reason)
        if self.problem is None:
            _log.warning("Kafka at %s: %s; events wait in the outbox", self._address, shown)
        self.problem = shown

    def _note_back(self) -> None:
        if self.problem is not None:
            _log.warning("Kafka at %s answers again; publishing continues", self._address)
        self.problem = None

    def _find_topic(self) -> bool:
        problem = self._calls.find_topic(self._config)
        if problem is not None:
            self._note_away(problem.failure, problem.reason)
            return False
        if not (self._pending or self._watch.is_blocked):
            self._note_back()  # there may be nothing to send for a long time
        self._has_topic = True
        return True

    def _start_over(self, error: BaseException | str) -> None:
        """Discard the failed producer; a new one will send all events of the outbox again."""
        _log.warning(
            "the Kafka producer failed (%s); starting a new one; events may be delivered twice",
            self._config.redact(error),
        )
        self._calls.abandon(self._producer)
        self._producer = None
        self._pending.clear()
        self._sent.clear()
        self._last_sent = 0
        self._has_topic = False
        self.stopping.wait(self._timings.retry_seconds)

    def _flush(self) -> bool:
        """Publish events until the outbox is empty or `drain_seconds` are over.

        Returns:
            Whether the broker has answered for every event that was sent.
        """
        deadline = time.monotonic() + self._config.drain_seconds
        while len(self._outbox) and time.monotonic() < deadline:
            try:
                self._pump()
            except Exception:  # shutdown must continue; unpublished events stay in the outbox
                _log.exception("the last events could not be published; trying again")
            time.sleep(0.02 if self._has_topic else 0.2)
        return not self._pending
