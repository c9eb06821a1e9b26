"""The topic of open events: for each action that has not ended, its newest event.

The key is the `event_id`. The value is the action's newest event. It is written before the event
itself is sent to Kafka, so that no action starts there that nobody could end. The last value of an
action is its `ended` event; after that event has been sent, a tombstone follows. The topic may be
compacted.

The number of partitions is that of the topic of the cameras, and an action lies in the partition
with the number of its camera's partition. So a worker that takes a partition over reads this one
partition, which holds little more than the actions that are going on.

Every record carries the epoch of its camera's partition in a header. A worker that takes a
partition over first writes a mark with its own epoch. Records after a mark that have a lower epoch
are void: they come from a worker that did not know yet that it had lost the partition.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from configs import DataError
from stream.events.config import KafkaConfig
from stream.events.event import ActionEvent
from stream.events.kafka import abandon_producer, connect_producer, connect_reader, kafka

__all__ = [
    "MARK_KEY",
    "LogRecord",
    "OpenAction",
    "OpenLogWriter",
    "open_actions",
    "read_partitions",
]

MARK_KEY = b"#taken-over"
_POLL_MS = 100
_WAIT_MS = 10


@dataclasses.dataclass(frozen=True)
class LogRecord:
    """One record of the topic; `value` is None for a tombstone."""

    offset: int
    key: bytes
    value: bytes | None
    epoch: int
    timestamp_ms: int = -1


@dataclasses.dataclass(frozen=True)
class OpenAction:
    """An action that has not ended, and its newest event."""

    event: ActionEvent
    value: bytes
    epoch: int


class OpenLogWriter:
    """Writes records of the topic. Any thread may call its methods.

    Args:
        config: the broker of the events.
        connect, abandon: how producers are made and dropped; tests replace them.
    """

    def __init__(
        self,
        config: KafkaConfig,
        topic: str,
        connect: Callable[[KafkaConfig], Any] = connect_producer,
        abandon: Callable[[Any], None] = abandon_producer,
    ) -> None:
        self.topic = topic
        self._config = config
        self._connect = connect
        self._abandon = abandon
        self._producer: Any = None
        self._lock = threading.Lock()

    def send(self, partition: int, key: bytes, value: bytes | None, epoch: int) -> Any:
        """Send a record; returns its future.

        Raises:
            BrokerError, KafkaError: it cannot be sent now; nothing was sent.
        """
        with self._lock:
            if self._producer is None:
                self._producer = self._connect(self._config)
            producer = self._producer
        headers = [("epoch", str(epoch).encode())]
        return producer.send(self.topic, value, key=key, headers=headers, partition=partition)

    def start_over(self) -> None:
        """Drop the producer, with what it has not delivered."""
        with self._lock:
            if self._producer is not None:
                self._abandon(self._producer)
            self._producer = None


def open_actions(
    records: Iterable[LogRecord], before: int
) -> tuple[dict[str, OpenAction], set[str]]:
    """Return the actions that are open, and void ones that can be removed, by their event ids.

    Args:
        records: of one partition, in order.
        before: offset of the mark up to which the records count; later ones are left out.
    """
    found: dict[str, OpenAction] = {}
    void: set[str] = set()
    mark = -1
    for record in records:
        if record.offset >= before:
            break
        event_id = record.key.decode(errors="replace")
        if record.key == MARK_KEY:
            mark = max(mark, record.epoch)
        elif record.epoch < mark:
            (void.discard if record.value is None else void.add)(event_id)
        elif record.value is None:
            found.pop(event_id, None)
            void.discard(event_id)
        else:
            with contextlib.suppress(DataError):
                event = ActionEvent.from_json(record.value)
                found[event_id] = OpenAction(event, record.value, record.epoch)
                void.discard(event_id)
    return found, void - found.keys()


def read_partitions(
    config: KafkaConfig,
    topic: str,
    partitions: Iterable[int],
    *,
    timeout_seconds: float,
    connect: Callable[..., Any] = connect_reader,
) -> Mapping[int, list[LogRecord]]:
    """Read partitions from their beginning to the end that they have now.

    Raises:
        KafkaError: the broker does not answer within the timeout.
    """
    deadline = time.monotonic() + timeout_seconds
    named = [kafka.TopicPartition(topic, number) for number in sorted(partitions)]
    found: dict[int, list[LogRecord]] = {partition.partition: [] for partition in named}
    with contextlib.closing(connect(config, max_wait_ms=_WAIT_MS)) as reader:
        reader.assign(named)
        reader.seek_to_beginning(*named)
        ends = reader.end_offsets(named, timeout_ms=int(timeout_seconds * 1000))
        left = dict(ends)
        while left:
            if time.monotonic() > deadline:
                raise kafka.errors.KafkaTimeoutError(f"topic {topic!r} could not be read in time")
            for partition, batch in reader.poll(timeout_ms=_POLL_MS).items():
                found[partition.partition] += _log_records(batch)
            left = {
                partition: end
                for partition, end in left.items()
                if not _is_read(reader, partition, end)
            }
    return found


def _is_read(reader: Any, partition: Any, end: int) -> bool:
    """Whether a partition was read to its end: by what the broker said, also with the records."""
    newest = reader.highwater(partition)
    position = reader.position(partition, timeout_ms=_POLL_MS)
    return newest is not None and position is not None and position >= max(newest, end)


def _log_records(batch: Iterable[Any]) -> Iterator[LogRecord]:
    for record in batch:
        epoch = dict(record.headers or ()).get("epoch", b"")
        if record.key is not None and epoch.isdigit():
            yield LogRecord(record.offset, record.key, record.value, int(epoch), record.timestamp)
