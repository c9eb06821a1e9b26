"""Connect to Kafka with kafka-python and translate its errors; only this module uses its internals.

Four tasks cannot be done with the library's public methods (3.0.12):

- Abandoning a producer. `close(timeout)` waits for all unfinished records and, if one remains,
  raises before it ends the sender thread. A record that is never delivered would keep the thread,
  its sockets and its buffers for ever. `abandon_producer` therefore ends the thread itself.
- Cleaning up after an admin client that could not connect. Its constructor starts a thread and then
  raises, so the caller has no object to close. `connect_admin` keeps the object and closes it.
- Asking when the group's coordinator last answered a heartbeat. The public metrics say when one was
  sent. `last_heartbeat` reads the time from the coordinator's client.
- Listing the addresses that brokers advertise, if none of them can be reached.
  `advertised_brokers` reads them from the client.

`tests/stream/events/test_kafka.py` fails when a release of the library changes these internals or
adds a public method for these tasks.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from typing import Any

from configs import BrokerError
from stream.events.config import KafkaConfig

with warnings.catch_warnings():
    # the package deprecates its own modules while importing them
    warnings.simplefilter("ignore", DeprecationWarning)
    import kafka
    import kafka.errors
    import kafka.future
    import kafka.structs
    from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
    from kafka.partitioner.default import murmur2
from kafka.errors import IncompatibleBrokerVersion, KafkaConfigurationError, KafkaError

__all__ = [
    "REFUSALS",
    "abandon_producer",
    "advertised_brokers",
    "connect_admin",
    "connect_member",
    "connect_producer",
    "connect_reader",
    "explained",
    "kafka",
    "last_heartbeat",
    "partition_of_key",
    "silence_log",
]

# The maximum that the library accepts, in milliseconds: about 25 days.
_NEVER_MS = 2**31 - 1
# The oldest protocol version in use. Because it is given explicitly, the producer's constructor
# does not need to ask a broker for it and returns even if the broker cannot be reached.
_API_VERSION = (3, 9)
_SENDER_END_SECONDS = 2.0
# A reader asks a broker that does not answer for three seconds again. A member waits longer: while
# its group shares partitions out, some brokers answer late.
_READER_REQUEST_MS = 3_000
_MEMBER_REQUEST_MS = 30_000
_READING: dict[str, Any] = {
    "api_version": _API_VERSION,
    "enable_auto_commit": False,
    "auto_offset_reset": "earliest",
    "allow_auto_create_topics": False,
    "metadata_max_age_ms": 10_000,
    "reconnect_backoff_ms": 50,
    "reconnect_backoff_max_ms": 1_000,
}
# Errors with which the broker refuses a record. The producer then fails all records of the batch,
# either with the same error or with a plain KafkaError.
REFUSALS = (
    kafka.errors.MessageSizeTooLargeError,
    kafka.errors.RecordListTooLargeError,
    kafka.errors.InvalidRecordError,
)


@contextlib.contextmanager
def explained(config: KafkaConfig) -> Iterator[None]:
    """Turn Kafka's errors into a `BrokerError`, without the password of the settings.

    Raises:
        BrokerError: the settings cannot be used, the broker cannot be reached, or it refused.
    """
    try:
        yield
    except (KafkaConfigurationError, ValueError, IncompatibleBrokerVersion) as error:
        raise BrokerError(f"kafka: {config.redact(error)}") from None
    except KafkaError as error:
        reason = config.redact(error)
        raise BrokerError(f"kafka: the broker cannot be reached or refused: {reason}") from None


def silence_log() -> None:
    """Silence the library's log, which would report every refused connection.

    The library reconnects by itself; the callers log each important failure once.
    """
    logging.getLogger("kafka").setLevel(logging.CRITICAL)


def connect_producer(config: KafkaConfig, delivery_seconds: float | None = None) -> Any:
    """Create an idempotent producer; needs no reachable broker.

    Args:
        delivery_seconds: after this long a record fails; None: it is sent again for ever.

    Raises:
        BrokerError: the settings cannot be used.
    """
    never = delivery_seconds is None
    request_ms = int(config.request_timeout_seconds * 1000)
    delivery_ms = _NEVER_MS if delivery_seconds is None else int(delivery_seconds * 1000)
    with explained(config):
        return kafka.KafkaProducer(
            **config.connection(),
            acks="all",
            enable_idempotence=True,
            api_version=_API_VERSION,
            # With more than one request in flight, later records could be stored before a lost
            # record has been sent again.
            max_in_flight_requests_per_connection=1,
            delivery_timeout_ms=delivery_ms,
            request_timeout_ms=request_ms if never else min(request_ms, delivery_ms - 100),
            max_block_ms=1_000,
            linger_ms=5,
            batch_size=262_144,
            retry_backoff_ms=100,
            reconnect_backoff_ms=50,
            reconnect_backoff_max_ms=1_000,
        )


def abandon_producer(producer: Any) -> None:
    """End a producer at once, without delivering its remaining records."""
    producer._unregister_cleanup()  # the exit handler would call `close` and wait
    producer._sender.force_close()
    producer._sender.join(_SENDER_END_SECONDS)
    producer._closed = True  # otherwise the destructor would also wait


def connect_admin(config: KafkaConfig) -> Any:
    """Create a connected admin client; end its thread if it cannot connect.

    Raises:
        KafkaError, OSError, ValueError: raised by the library if it cannot connect.
    """
    admin = kafka.KafkaAdminClient.__new__(kafka.KafkaAdminClient)
    try:
        kafka.KafkaAdminClient.__init__(
            admin, **config.connection(), bootstrap_timeout_ms=2_000, request_timeout_ms=5_000
        )
    except BaseException:
        if hasattr(admin, "_net"):  # the thread was started
            admin._closed = False  # otherwise `close` would do nothing
            with contextlib.suppress(Exception):  # the client is only partly constructed
                admin.close()
        raise
    return admin


def connect_reader(config: KafkaConfig, *, max_wait_ms: int = 500) -> Any:
    """Create a consumer without a group that reads from the beginning; needs no reachable broker.

    Args:
        max_wait_ms: how long the broker may wait for new records before it answers that there are
            none.

    Raises:
        BrokerError: the settings cannot be used.
    """
    with explained(config):
        return kafka.KafkaConsumer(
            **config.connection(),
            **_READING,
            group_id=None,
            request_timeout_ms=_READER_REQUEST_MS,
            fetch_max_wait_ms=max_wait_ms,
        )


def connect_member(
    config: KafkaConfig,
    *,
    group: str,
    session_seconds: float,
    instance: str | None,
    listener: Any = None,
) -> Any:
    """Create a member of a group that shares the partitions of `config.topic`.

    Partitions move one by one: a member keeps those that it does not lose.

    Args:
        instance: name of a member that keeps its partitions while it restarts.
        listener: a `ConsumerRebalanceListener`, told of partitions that come and go.

    Raises:
        BrokerError: the settings cannot be used.
    """
    with explained(config):
        consumer = kafka.KafkaConsumer(
            **config.connection(),
            **_READING,
            group_id=group,
            group_instance_id=instance,
            request_timeout_ms=_MEMBER_REQUEST_MS,
            session_timeout_ms=int(session_seconds * 1000),
            heartbeat_interval_ms=int(session_seconds * 1000 / 5),
            max_poll_interval_ms=int(max(30.0, 3 * session_seconds) * 1000),
            partition_assignment_strategy=[CooperativeStickyAssignor],
        )
        consumer.subscribe([config.topic], listener=listener)
        return consumer


def last_heartbeat(member: Any) -> float:
    """Return when the group last answered a heartbeat, by the monotonic clock; -inf: never."""
    return float(member._coordinator.heartbeat.last_receive)


def partition_of_key(key: bytes, partitions: int) -> int:
    """Return the partition, of so many, that Kafka's own producers choose for a key."""
    return int(murmur2(key) & 0x7FFFFFFF) % partitions


def advertised_brokers(client: Any) -> list[tuple[str, int]]:
    """Return host and port of each broker that the cluster has told an admin or a consumer."""
    return [(broker.host, broker.port) for broker in client._client.cluster.brokers()]
