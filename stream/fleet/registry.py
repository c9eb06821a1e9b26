"""Read all cameras of the topic, and write cameras to it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from configs import BrokerError
from stream.events.broker_addresses import unreachable_broker
from stream.events.config import KafkaConfig
from stream.events.kafka import (
    abandon_producer,
    advertised_brokers,
    connect_producer,
    explained,
    kafka,
    silence_log,
)
from stream.fleet.records import Place, Record, decode_record, encode_camera
from stream.fleet.secrets import refuse_plain_address
from stream.fleet.table import CameraTable, table_of

__all__ = ["CameraTopic", "read_records", "read_table"]

_MAX_RECORDS = 5_000  # in one poll
_TIMEOUT_SECONDS = 30.0


def read_table(
    config: KafkaConfig,
    complete: Callable[[Mapping[str, Any]], Any] = dict,
    *,
    timeout_seconds: float = _TIMEOUT_SECONDS,
) -> CameraTable:
    """Return the cameras of the topic `config.topic` as they are now.

    Args:
        complete: as in `decode_record`.

    Raises:
        BrokerError: the topic is missing, or could not be read within the timeout.
    """
    return table_of(read_records(config, complete, timeout_seconds=timeout_seconds))


def read_records(
    config: KafkaConfig,
    complete: Callable[[Mapping[str, Any]], Any] = dict,
    *,
    timeout_seconds: float = _TIMEOUT_SECONDS,
) -> list[Record]:
    """Return every record of the topic, from its beginning to its present end.

    Those of one partition are in order.

    Raises:
        BrokerError: as for `read_table`.
    """
    silence_log()
    deadline = time.monotonic() + timeout_seconds
    with (
        explained(config),
        contextlib.closing(_consumer(config, timeout_seconds)) as consumer,
    ):
        partitions = _partitions(consumer, config)
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        ends = consumer.end_offsets(partitions)
        records: list[Record] = []
        while not all(_is_read(consumer, each, ends[each]) for each in partitions):
            if time.monotonic() > deadline:
                raise BrokerError(
                    f"the topic {config.topic!r} could not be read to its end within"
                    f" {timeout_seconds:g} s; try again, and look at the load of the broker"
                )
            for batch in consumer.poll(timeout_ms=200).values():
                records += [_decoded(record, complete) for record in batch]
        return records


class CameraTopic:
    """Writes cameras to the topic, and waits until the broker has stored them.

    Methods may be called from any thread. `close` ends it.

    Args:
        config: the broker, and the topic of the cameras.
        timeout_seconds: the longest wait for the broker.
    """

    def __init__(self, config: KafkaConfig, *, timeout_seconds: float = 15.0) -> None:
        self._config = config
        self._timeout_seconds = timeout_seconds
        self._producer: Any = None
        self._lock = threading.Lock()

    def put(self, cameras: Iterable[Mapping[str, Any]], table: CameraTable) -> None:
        """Add or replace cameras; each is given by its settings, which were checked.

        Args:
            table: the cameras of the topic. A camera stays in its partition.

        Raises:
            BrokerError: the broker did not store them; some of them may be stored.
            ConfigError: an address holds a secret, which must not enter the topic.
            DataError: a record would be too long.
        """
        for fields in (cameras := list(cameras)):
            refuse_plain_address(str(fields["id"]), str(fields["url"]))
        records: list[tuple[bytes, bytes | None, int | None]] = []
        for fields in cameras:
            key, value = encode_camera(fields)
            home = table.home(str(fields["id"]))
            records.append((key, value, home))
            others = table.places.get(str(fields["id"]), frozenset()) - {home}
            records += [(key, None, partition) for partition in sorted(others)]
        self._send(records)

    def remove(self, camera_ids: Iterable[str], table: CameraTable) -> None:
        """Remove cameras, wherever the topic has records of them.

        Raises:
            BrokerError: the broker did not store it.
        """
        self._send(
            [
                (camera_id.encode(), None, partition)
                for camera_id in camera_ids
                for partition in sorted(table.places.get(camera_id, ()))
            ]
        )

    def close(self) -> None:
        """End the connection to the broker."""
        with self._lock:
            self._abandon()

    def _send(self, records: list[tuple[bytes, bytes | None, int | None]]) -> None:
        deadline = time.monotonic() + self._timeout_seconds
        silence_log()
        with self._lock, explained(self._config):
            try:
                if self._producer is None:
                    self._producer = connect_producer(self._config)
                self._wait_for_topic(deadline)
                topic = self._config.topic
                futures = [
                    self._producer.send(topic, value, key=key, partition=partition)
                    for key, value, partition in records
                ]
                for future in futures:
                    future.get(max(0.01, deadline - time.monotonic()))
            except BaseException:
                self._abandon()  # otherwise it would go on sending after it was reported as failed
                raise

    def _wait_for_topic(self, deadline: float) -> None:
        """Wait until the producer knows the topic; it asks for a second at a time.

        Raises:
            KafkaTimeoutError: it does not until the deadline.
        """
        while True:
            try:
                self._producer.partitions_for(self._config.topic)
            except kafka.errors.KafkaTimeoutError:
                if time.monotonic() > deadline:
                    raise
            else:
                return

    # Called with the lock held.
    def _abandon(self) -> None:
        if self._producer is not None:
            abandon_producer(self._producer)
            self._producer = None


def _consumer(config: KafkaConfig, timeout_seconds: float) -> Any:
    return kafka.KafkaConsumer(
        **config.connection(),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_poll_records=_MAX_RECORDS,
        bootstrap_timeout_ms=int(timeout_seconds * 1000),
    )


def _partitions(consumer: Any, config: KafkaConfig) -> list[Any]:
    where = ", ".join(config.bootstrap)
    try:
        numbers = consumer.partitions_for_topic(config.topic)
    except (kafka.errors.KafkaConnectionError, kafka.errors.KafkaTimeoutError):
        if (reason := unreachable_broker(advertised_brokers(consumer))) is not None:
            raise BrokerError(f"kafka at {where}: {reason}") from None
        raise
    if not numbers:
        raise BrokerError(
            f"the topic {config.topic!r} does not exist on {where}; name the topic of the cameras,"
            " or create it with `cidc-stream cameras add` or `import`"
        )
    return [kafka.TopicPartition(config.topic, number) for number in sorted(numbers)]


def _is_read(consumer: Any, partition: Any, end: int) -> bool:
    """Return whether a partition was read to its end.

    The end is both what the broker said when asked, and what it said with the records: some brokers
    answer the first question with an older one.
    """
    newest = consumer.highwater(partition)
    return newest is not None and consumer.position(partition) >= max(newest, end)


def _decoded(record: Any, complete: Callable[[Mapping[str, Any]], Any]) -> Record:
    place = Place(record.partition, record.offset, record.timestamp)
    return decode_record(record.key, record.value, place, complete)
