"""From the outbox to Kafka, in order per camera, each event once unless something is refused or the
process dies.

The producer is idempotent and never gives a record up (`delivery_timeout_ms` at its maximum): while
the broker is away its own retries keep the producer's identity and sequence numbers, so the broker
can tell a repetition from a new record. Sending again from here would give a repetition a new
identity. After a restart, or with the new producer that a refused record makes necessary, an event
that was delivered but not yet removed is sent again; readers remove such repetitions by `event_id`,
`kind` and `sequence`.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from stream.events.config import KafkaConfig
from stream.events.event import SCHEMA, StoredEvent
from stream.events.kafka import explained, kafka

__all__ = ["Publisher"]

_log = logging.getLogger(__name__)
_WINDOW = 2000  # events handed to the producer and not yet acknowledged
_NEVER_MS = 2**31 - 1
# After this long without an acknowledgement the broker counts as away.
_AWAY_SECONDS = 5.0
# A producer that gets no acknowledgement for this long may know an old address, password or topic:
# whether a new client gets through is tried, and if it does, the producer has so long to do the
# same before it is replaced.
_SUSPECT_SECONDS = 60.0
_GRACE_SECONDS = 10.0
# A refusal of the record itself. The producer gives its whole batch the refusal, or KafkaError
# itself.
_REFUSALS = (
    kafka.errors.MessageSizeTooLargeError,
    kafka.errors.RecordListTooLargeError,
    kafka.errors.InvalidRecordError,
)


class EventStore(Protocol):
    """What a publisher needs of an outbox."""

    def oldest(self, most: int, after_id: int = 0) -> list[StoredEvent]:
        """Up to `most` events after this id, in order."""

    def remove(self, ids: Sequence[int]) -> None:
        """Forget these."""

    def set_aside(self, event_id: int, error: str) -> None:
        """Keep an event that no broker takes apart from the others."""

    def wait_for_change(self, timeout_seconds: float) -> None:
        """Return when events were added, or after the timeout."""

    def __len__(self) -> int: ...


class Publisher:
    """Drains an outbox in its own thread.

    Raises:
        BrokerError: the settings cannot be used. A broker that is away is no error: events wait.
    """

    def __init__(
        self,
        config: KafkaConfig,
        outbox: EventStore,
        on_published: Callable[[int], None] = lambda count: None,
        on_failure: Callable[[str], None] = lambda error: None,
        on_rejected: Callable[[], None] = lambda: None,
    ) -> None:
        self._config = config
        self._outbox = outbox
        self._on_published = on_published
        self._on_failure = on_failure
        self._on_rejected = on_rejected
        self._has_topic = False
        self._stop = threading.Event()
        self._pending: dict[int, Any] = {}  # the future of each event handed over
        self._last_sent = 0
        self._reachable = True
        self._closed = False
        self._progress_at = time.monotonic()
        self._is_suspect = False
        self._suspect_at = 0.0
        self._is_blocked = False  # the producer does not even take a record
        # up to this number events go one by one, to find the one that is refused
        self._alone_until = 0
        # Reconnecting is this library's business; its log would repeat every refused connection.
        logging.getLogger("kafka").setLevel(logging.CRITICAL)
        self._producer: Any = self._connect()  # None while a new one is needed
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._thread.start()

    def close(self) -> bool:
        """Flush for at most `flush_seconds` and stop; False if events are left, which then stay
        in the outbox.
        """
        if self._closed:
            return len(self._outbox) == 0
        self._closed = True
        self._stop.set()
        self._thread.join()
        flushed = self._flush()
        if flushed and self._producer is not None:
            self._producer.close(timeout=1)
        else:
            self._abandon()
        return flushed and len(self._outbox) == 0

    def _connect(self) -> Any:
        with explained():
            # A stated api_version lets the constructor return while the broker is away. With more
            # than one request under way, records that follow a lost one could be stored before it
            # is sent again.
            return kafka.KafkaProducer(
                **self._config.connection(),
                acks="all",
                enable_idempotence=True,
                api_version=(3, 9),
                max_in_flight_requests_per_connection=1,
                delivery_timeout_ms=_NEVER_MS,
                request_timeout_ms=int(self._config.request_timeout_seconds * 1000),
                max_block_ms=1_000,
                linger_ms=5,
                batch_size=262_144,
                retry_backoff_ms=100,
                reconnect_backoff_ms=50,
                reconnect_backoff_max_ms=1_000,
            )

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                if not self._pump():
                    self._outbox.wait_for_change(0.05 if self._pending else 0.5)
            except Exception:
                # the edge of the stage: count, log, go on; the events are still in the outbox
                self._on_failure("unexpected")
                _log.exception("publishing failed; trying again")
                self._stop.wait(1.0)

    def _pump(self) -> bool:
        """Collect acknowledgements and hand over the next events; returns whether anything
        happened.
        """
        if self._producer is None:
            self._producer = self._connect()
        if not self._has_topic and not self._find_topic():
            self._stop.wait(1.0)
            return True
        collected = self._collect()
        self._look_after_producer()
        if self._producer is None:
            return True
        room = (1 if self._last_sent < self._alone_until else _WINDOW) - len(self._pending)
        waiting = self._outbox.oldest(room, self._last_sent) if room > 0 else []
        for stored in waiting:
            if not self._send(stored):
                break
        return bool(collected)

    def _note_progress(self) -> None:
        self._progress_at = time.monotonic()
        self._is_suspect = False
        self._is_blocked = False
        self._suspect_at = self._progress_at + _SUSPECT_SECONDS

    def _look_after_producer(self) -> None:
        """Replace a producer that gets nothing through although a new client would."""
        if (
            not (self._pending or self._is_blocked)
            or time.monotonic() < self._suspect_at
            or self._producer is None
        ):
            return
        if self._is_suspect:
            self._note_progress()
            self._start_over("no acknowledgement, though the broker answers others")
        else:
            self._is_suspect = self._find_topic()
            self._suspect_at = time.monotonic() + (
                _GRACE_SECONDS if self._is_suspect else _SUSPECT_SECONDS
            )

    def _send(self, stored: StoredEvent) -> bool:
        event = stored.event
        headers = [("schema", SCHEMA.encode()), ("event_id", event.event_id.encode())]
        try:
            future = self._producer.send(
                self._config.topic,
                event.to_json().encode(),
                key=event.camera_id.encode(),
                headers=headers,
            )
        except kafka.errors.MessageSizeTooLargeError as error:
            self._set_aside(stored.id, error)
        except kafka.errors.KafkaError as error:
            # the record was not taken: it can be offered again
            waits = isinstance(error, kafka.errors.KafkaTimeoutError)
            self._is_away(
                "no_metadata" if waits else type(error).__name__,
                "no broker answers" if waits else str(error),
            )
            if not (self._is_blocked or self._pending):
                self._note_progress()  # from now on it is waited for
            self._is_blocked = True
            return False
        else:
            if not self._pending:
                self._note_progress()  # until now there was nothing to wait for
            self._pending[stored.id] = future
        self._last_sent = stored.id
        return True

    def _collect(self) -> int:
        """Remove acknowledged events from the outbox. One without an answer holds up no other,
        until the window is full of such.
        """
        done = {stored_id: future for stored_id, future in self._pending.items() if future.is_done}
        acknowledged = [stored_id for stored_id, future in done.items() if not future.failed()]
        failed = next(
            (
                (stored_id, future.exception)
                for stored_id, future in done.items()
                if future.failed()
            ),
            None,
        )
        if (
            self._pending
            and not done
            and self._reachable
            and time.monotonic() - self._progress_at > _AWAY_SECONDS
        ):
            self._is_away("no_answer", f"no acknowledgement for {_AWAY_SECONDS:g} s")
        if acknowledged:
            if not self._reachable:
                _log.warning("the Kafka broker answers again")
            self._reachable = True
            self._outbox.remove(acknowledged)  # should this fail they are collected again
            for stored_id in acknowledged:
                del self._pending[stored_id]
            self._note_progress()
            self._on_published(len(acknowledged))
        if failed is not None:
            self._fail(*failed)
        return len(acknowledged)

    def _fail(self, stored_id: int, error: BaseException) -> None:
        """A record failed, and with it all that the producer held: start over, and set aside
        what is refused when it goes alone.
        """
        self._on_failure(type(error).__name__)
        if isinstance(error, _REFUSALS) and len(self._pending) == 1:
            self._set_aside(stored_id, error)
        elif isinstance(error, _REFUSALS) or type(error) is kafka.errors.KafkaError:
            self._alone_until = max(self._pending)
        self._start_over(error)

    def _set_aside(self, stored_id: int, error: BaseException) -> None:
        _log.error(
            "the broker takes no such event as number %d (%s); it was set aside in the outbox",
            stored_id,
            error,
        )
        self._outbox.set_aside(stored_id, f"{type(error).__name__}: {error}")
        self._on_rejected()

    def _is_away(self, failure: str, why: str) -> None:
        self._on_failure(failure)
        if self._reachable:
            _log.warning(
                "Kafka at %s: %s; events wait in the outbox", ", ".join(self._config.bootstrap), why
            )
        self._reachable = False

    def _find_topic(self) -> bool:
        """Whether the topic is there; makes it if that is wanted. What the broker does not let
        us see is left to the producer.
        """
        topic = self._config.topic
        try:
            with contextlib.closing(_admin(self._config)) as admin:
                if topic not in admin.list_topics():
                    if not self._config.create_topic:
                        self._is_away(
                            "no_topic",
                            f"there is no topic {topic!r}, and kafka.create_topic is false",
                        )
                        return False
                    with contextlib.suppress(kafka.errors.TopicAlreadyExistsError):
                        wanted = {
                            "num_partitions": self._config.partitions,
                            "replication_factor": self._config.replication,
                        }
                        admin.create_topics({topic: wanted})
                        _log.info("made the Kafka topic %r", topic)
        except (kafka.errors.AuthorizationError, kafka.errors.UnsupportedVersionError) as error:
            _log.warning(
                "the topic %r cannot be checked (%s); publishing all the same", topic, error
            )
        except (kafka.errors.KafkaTimeoutError, kafka.errors.KafkaConnectionError) as error:
            self._is_away("no_metadata", f"no broker answers ({error})")
            return False
        except (kafka.errors.KafkaError, OSError, ValueError) as error:
            self._is_away(type(error).__name__, f"{type(error).__name__}: {error}")
            return False
        self._has_topic = True
        return True

    def _start_over(self, error: BaseException | str) -> None:
        """A producer that gave a record up is in no state to go on: replace it and send again
        what is in the outbox.
        """
        _log.warning(
            "the Kafka producer failed (%s); starting a new one, events may be delivered twice",
            error,
        )
        self._abandon()
        self._producer = None
        self._pending.clear()
        self._last_sent = 0
        self._has_topic = False
        self._stop.wait(1.0)

    def _flush(self) -> bool:
        """Send and collect until nothing is left or the time is over; returns whether nothing is
        under way.
        """
        deadline = time.monotonic() + self._config.flush_seconds
        while len(self._outbox) and time.monotonic() < deadline:
            try:
                if not self._has_topic and not self._find_topic():
                    break
                self._pump()
            except Exception:  # the edge of the stage: what is left stays in the outbox
                _log.exception("flushing failed; trying again")
            time.sleep(0.02)
        return not self._pending

    def _abandon(self) -> None:
        """Stop a producer that cannot flush. The public close() would wait for records that
        cannot be delivered.
        """
        if self._producer is not None:
            self._producer._unregister_cleanup()
            self._producer._sender.force_close()
            self._producer._sender.join(2)
            self._producer._closed = True


def _admin(config: KafkaConfig) -> Any:
    """A connected admin client. The library leaves a thread and sockets behind when it cannot
    connect; they are ended here.
    """
    admin = kafka.KafkaAdminClient.__new__(kafka.KafkaAdminClient)
    try:
        kafka.KafkaAdminClient.__init__(
            admin, **config.connection(), bootstrap_timeout_ms=2_000, request_timeout_ms=5_000
        )
    except BaseException:
        if hasattr(admin, "_net"):
            admin._closed = False
            with contextlib.suppress(Exception):  # whatever state it was left in
                admin.close()
        raise
    return admin
