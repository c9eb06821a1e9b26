"""kafka-python: how to connect to it, what its errors mean, and every private part of it we use.

Two things cannot be done with the library's public methods (3.0.12):

- Give up a producer. `close(timeout)` first waits for every record that is under way and raises
  when one is left, before it ends the sender thread; a record that is never delivered would keep
  the thread, its sockets and its buffers for ever. `abandon_producer` ends the thread itself.
- Clean up after an admin client that could not connect. Its constructor starts a thread, then
  raises; nobody holds an object that could be closed. `connect_admin` keeps hold of it.

`tests/stream/events/test_kafka.py` fails, and says so, when a release changes one of these parts or
brings a public way.
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
from kafka.errors import IncompatibleBrokerVersion, KafkaConfigurationError, KafkaError

__all__ = [
    "REFUSALS",
    "abandon_producer",
    "connect_admin",
    "connect_producer",
    "explained",
    "kafka",
    "silence_log",
]

# The highest that the library takes: about 25 days.
_NEVER_MS = 2**31 - 1
# The oldest protocol that is spoken. Naming it lets constructors return while the broker is away.
_API_VERSION = (3, 9)
_SENDER_END_SECONDS = 2.0
# How the broker refuses a record. The producer fails all records of its batch with the refusal of
# one, or with KafkaError itself.
REFUSALS = (
    kafka.errors.MessageSizeTooLargeError,
    kafka.errors.RecordListTooLargeError,
    kafka.errors.InvalidRecordError,
)


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Turn Kafka's errors into a `BrokerError`.

    Raises:
        BrokerError: the settings cannot be used, or the broker is away or refused.
    """
    try:
        yield
    except (KafkaConfigurationError, ValueError, IncompatibleBrokerVersion) as error:
        raise BrokerError(f"kafka: {error}") from error
    except KafkaError as error:
        raise BrokerError(f"kafka: the broker cannot be reached or refused: {error}") from error


def silence_log() -> None:
    """Silence the library's log: it would repeat every refused connection.

    Reconnecting is the library's business; what matters is logged once by whoever uses it.
    """
    logging.getLogger("kafka").setLevel(logging.CRITICAL)


def connect_producer(config: KafkaConfig) -> Any:
    """Make an idempotent producer that never gives a record up; the broker may be away.

    Raises:
        BrokerError: the settings cannot be used.
    """
    with explained():
        return kafka.KafkaProducer(
            **config.connection(),
            acks="all",
            enable_idempotence=True,
            api_version=_API_VERSION,
            # With more than one request under way, records that follow a lost one could be stored
            # before it is sent again.
            max_in_flight_requests_per_connection=1,
            delivery_timeout_ms=_NEVER_MS,
            request_timeout_ms=int(config.request_timeout_seconds * 1000),
            max_block_ms=1_000,
            linger_ms=5,
            batch_size=262_144,
            retry_backoff_ms=100,
            reconnect_backoff_ms=50,
            reconnect_backoff_max_ms=1_000,
        )


def abandon_producer(producer: Any) -> None:
    """End a producer at once; what it has not delivered is lost to it."""
    producer._unregister_cleanup()  # it would be closed, and waited for, at interpreter exit
    producer._sender.force_close()
    producer._sender.join(_SENDER_END_SECONDS)
    producer._closed = True  # or its destructor would wait, too


def connect_admin(config: KafkaConfig) -> Any:
    """Make a connected admin client, and leave nothing behind if it cannot connect.

    Raises:
        KafkaError, OSError, ValueError: what the library raises.
    """
    admin = kafka.KafkaAdminClient.__new__(kafka.KafkaAdminClient)
    try:
        kafka.KafkaAdminClient.__init__(
            admin, **config.connection(), bootstrap_timeout_ms=2_000, request_timeout_ms=5_000
        )
    except BaseException:
        if hasattr(admin, "_net"):  # the thread was started
            admin._closed = False  # or `close` would take it for closed
            with contextlib.suppress(Exception):  # whatever state it was left in
                admin.close()
        raise
    return admin
