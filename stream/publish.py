"""From the outbox to Kafka, in order per camera, each event once for as long as this process lives.

The producer is idempotent and never gives a record up (`delivery_timeout_ms` at its maximum): while the broker is away
its own retries keep the producer's identity and sequence numbers, so the broker can tell a repetition from a new record.
Sending again from here would give a repetition a new identity. After a restart an event that was delivered but not yet
removed is sent again; readers remove such repetitions by `event_id`, `kind` and `sequence`.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import Field, SecretStr, field_validator, model_validator

from configs import BrokerError, StrictModel
from stream.events import SCHEMA, ActionEvent, StoredEvent

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # the package deprecates its own modules while importing them
    from kafka import KafkaConsumer, KafkaProducer, TopicPartition
    from kafka.errors import (
        IncompatibleBrokerVersion,
        KafkaConfigurationError,
        KafkaError,
        KafkaTimeoutError,
        MessageSizeTooLargeError,
    )

__all__ = ["KafkaConfig", "Publisher", "read_topic"]

_log = logging.getLogger(__name__)
_WINDOW = 500  # events handed to the producer and not yet acknowledged
_NEVER_MS = 2**31 - 1


class KafkaConfig(StrictModel):
    """The broker. Without `bootstrap` nothing is published and the outbox is where events end."""

    bootstrap: tuple[str, ...] = Field((), description="host:port of one or more brokers")
    topic: str = Field("action-events", description="topic of the events", pattern=r"^[A-Za-z0-9._-]{1,249}$")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field("PLAINTEXT", description="how to connect")
    ssl_cafile: str | None = Field(None, description="certificate authorities, PEM")
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(None, description="how to log in")
    sasl_username: str | None = Field(None, description="user name")
    sasl_password: SecretStr | None = Field(None, description="password; never printed")
    request_timeout_seconds: float = Field(30.0, ge=1, le=600, description="a request without an answer is repeated after this long")
    flush_seconds: float = Field(5.0, ge=0, description="at shutdown, wait this long for the broker; what is left stays in the outbox")

    @field_validator("bootstrap")
    @classmethod
    def _check_bootstrap(cls, addresses: tuple[str, ...]) -> tuple[str, ...]:
        for address in addresses:
            host, _, port = address.rpartition(":")
            if not host or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
                raise ValueError(f"{address!r} is not host:port")
        return addresses

    @model_validator(mode="after")
    def _check(self) -> KafkaConfig:
        login = (self.sasl_mechanism, self.sasl_username, self.sasl_password)
        if self.security_protocol.startswith("SASL") and None in login:
            raise ValueError(f"security_protocol {self.security_protocol} needs sasl_mechanism, sasl_username and sasl_password")
        if self.ssl_cafile is not None and not Path(self.ssl_cafile).is_file():
            raise ValueError(f"ssl_cafile not found: {self.ssl_cafile}")
        return self

    def connection(self) -> dict[str, Any]:
        """The settings that producer and consumer share."""
        password = self.sasl_password.get_secret_value() if self.sasl_password else None
        return {
            "bootstrap_servers": list(self.bootstrap), "security_protocol": self.security_protocol,
            "ssl_cafile": self.ssl_cafile, "sasl_mechanism": self.sasl_mechanism,
            "sasl_plain_username": self.sasl_username, "sasl_plain_password": password,
        }  # fmt: skip


class EventStore(Protocol):
    """What a publisher needs of an outbox."""

    def oldest(self, most: int, after_id: int = 0) -> list[StoredEvent]:
        """Up to `most` events after this id, in order."""

    def remove(self, ids: Sequence[int]) -> None:
        """Forget these."""

    def wait_for_change(self, timeout_seconds: float) -> None:
        """Return when events were added, or after the timeout."""

    def __len__(self) -> int: ...


class Publisher:
    """Drains an outbox in its own thread.

    Raises:
        BrokerError: the settings cannot be used. A broker that is away is no error: events wait.
    """

    def __init__(
        self, config: KafkaConfig, outbox: EventStore,
        on_published: Callable[[int], None] = lambda count: None, on_failure: Callable[[str], None] = lambda error: None,
    ) -> None:  # fmt: skip
        self._config, self._outbox, self._on_published, self._on_failure = config, outbox, on_published, on_failure
        self._stop = threading.Event()
        self._pending: dict[int, Any] = {}
        self._last_sent, self._reachable, self._closed = 0, True, False
        # Reconnecting is this library's business; its log would repeat every refused connection.
        logging.getLogger("kafka").setLevel(logging.CRITICAL)
        self._producer = self._connect()
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._thread.start()

    def close(self) -> bool:
        """Flush for at most `flush_seconds` and stop; False if events are left, which then stay in the outbox."""
        if self._closed:
            return len(self._outbox) == 0
        self._closed = True
        self._stop.set()
        self._thread.join()
        flushed = self._flush()
        if flushed:
            self._producer.close(timeout=1)
        else:
            self._abandon()
        return flushed and len(self._outbox) == 0

    def _connect(self) -> Any:
        with _explained():
            # A stated api_version lets the constructor return while the broker is away.
            return KafkaProducer(
                **self._config.connection(), acks="all", enable_idempotence=True, api_version=(3, 9),
                delivery_timeout_ms=_NEVER_MS, request_timeout_ms=int(self._config.request_timeout_seconds * 1000),
                max_block_ms=1_000, linger_ms=5, retry_backoff_ms=100, reconnect_backoff_ms=50, reconnect_backoff_max_ms=1_000,
            )  # fmt: skip

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                if not self._pump():
                    self._outbox.wait_for_change(0.05 if self._pending else 0.5)
            except Exception:  # the edge of the stage: count, log, go on; the events are still in the outbox
                self._on_failure("unexpected")
                _log.exception("publishing failed; trying again")
                self._stop.wait(1.0)

    def _pump(self) -> bool:
        """Collect acknowledgements and hand over the next events; returns whether anything happened."""
        collected = self._collect()
        room = _WINDOW - len(self._pending)
        waiting = self._outbox.oldest(room, self._last_sent) if room > 0 else []
        for stored in waiting:
            if self._stop.is_set() or not self._send(stored):
                break
        return bool(collected)

    def _send(self, stored: StoredEvent) -> bool:
        event = stored.event
        headers = [("schema", SCHEMA.encode()), ("event_id", event.event_id.encode())]
        try:
            future = self._producer.send(self._config.topic, event.to_json().encode(), key=event.camera_id.encode(), headers=headers)
        except KafkaTimeoutError:
            self._on_failure("no_metadata")  # the record was not taken: it can be offered again
            if self._reachable:
                _log.warning("no Kafka broker answers at %s; events wait in the outbox", ", ".join(self._config.bootstrap))
            self._reachable = False
            return False
        self._pending[stored.id] = future
        self._last_sent = stored.id
        return True

    def _collect(self) -> int:
        """Remove acknowledged events, in order, from the outbox."""
        acknowledged = []
        while self._pending:
            stored_id, future = next(iter(self._pending.items()))
            if not future.is_done:
                break
            del self._pending[stored_id]
            if future.failed():
                self._on_failure(type(future.exception).__name__)
                if not isinstance(future.exception, MessageSizeTooLargeError):
                    self._start_over(future.exception)
                    break
                _log.error("the broker takes no event as large as number %d; it stays in the outbox", stored_id)
            else:
                acknowledged.append(stored_id)
        if acknowledged:
            if not self._reachable:
                _log.warning("the Kafka broker answers again")
            self._reachable = True
            self._outbox.remove(acknowledged)
            self._on_published(len(acknowledged))
        return len(acknowledged)

    def _start_over(self, error: BaseException) -> None:
        """A producer that gave a record up is in no state to go on: replace it and send again what is in the outbox."""
        _log.warning("the Kafka producer failed (%s); starting a new one, events may be delivered twice", error)
        self._abandon()
        self._pending.clear()
        self._last_sent = 0
        self._stop.wait(1.0)
        self._producer = self._connect()

    def _flush(self) -> bool:
        """Send and collect until nothing is left or the time is over."""
        deadline = threading.Event()
        timer = threading.Timer(self._config.flush_seconds, deadline.set)
        timer.start()
        try:
            while not deadline.is_set():
                self._collect()
                waiting = self._outbox.oldest(_WINDOW - len(self._pending), self._last_sent)
                if not waiting and not self._pending:
                    return True
                for stored in waiting:
                    if not self._send(stored):
                        break
                deadline.wait(0.02)
        finally:
            timer.cancel()
        return not self._pending

    def _abandon(self) -> None:
        """Stop a producer that cannot flush. The public close() would wait for records that cannot be delivered."""
        self._producer._unregister_cleanup()
        self._producer._sender.force_close()
        self._producer._sender.join(2)
        self._producer._closed = True


def read_topic(config: KafkaConfig, stop: threading.Event, *, follow: bool, timeout_seconds: float = 15.0) -> Iterator[ActionEvent]:
    """Events of the topic from its beginning, repetitions left out; with `follow`, until `stop` is set.

    Raises:
        BrokerError: the broker or the topic cannot be reached within the timeout.
    """
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    seen: set[tuple[str, str, int]] = set()
    with _explained(), contextlib.closing(_consumer(config, timeout_seconds)) as consumer:
        partitions = _partitions(consumer, config, stop, timeout_seconds)
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        while not stop.is_set():
            records = consumer.poll(timeout_ms=200)
            for record in (record for batch in records.values() for record in batch):
                event = ActionEvent.from_json(record.value)
                key = (event.event_id, event.kind, event.sequence)
                if key not in seen:
                    seen.add(key)
                    yield event
            if not follow and all(_at_end(consumer, partition) for partition in partitions):
                return


def _consumer(config: KafkaConfig, timeout_seconds: float) -> Any:
    return KafkaConsumer(**config.connection(), group_id=None, enable_auto_commit=False, bootstrap_timeout_ms=int(timeout_seconds * 1000))


def _partitions(consumer: Any, config: KafkaConfig, stop: threading.Event, timeout_seconds: float) -> list[Any]:
    for _ in range(int(timeout_seconds / 0.1)):
        numbers = consumer.partitions_for_topic(config.topic)
        if numbers or stop.is_set():
            return [TopicPartition(config.topic, number) for number in sorted(numbers or ())]
        stop.wait(0.1)
    raise BrokerError(f"topic {config.topic!r} does not exist on {', '.join(config.bootstrap)}")


def _at_end(consumer: Any, partition: Any) -> bool:
    end = consumer.highwater(partition)
    return end is not None and consumer.position(partition) >= end


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except (KafkaConfigurationError, ValueError, IncompatibleBrokerVersion) as error:
        raise BrokerError(f"kafka: {error}") from error
    except KafkaError as error:
        raise BrokerError(f"kafka: the broker cannot be reached or refused: {error}") from error
