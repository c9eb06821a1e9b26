"""For those who consume events: from an outbox or from Kafka, each event once.

Delivery is at least once: after a crash a record may come again. A repetition has the `event_id`,
`kind` and `sequence` of the first; `Deduplicator` leaves it out and needs little memory for it,
because repetitions come soon after.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import math
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from configs import BrokerError, DataError, OutboxError, is_file
from stream.events.config import KafkaConfig
from stream.events.event import ActionEvent
from stream.events.kafka import explained, kafka
from stream.events.outbox import read_events

__all__ = ["Deduplicator", "read_outbox", "read_topic"]

_log = logging.getLogger(__name__)
_MOST_REMEMBERED = 200_000
_AT_ONCE = 5_000
# Of one poll: a reader must be back for the next within five minutes, or counts as gone.
_MOST_RECORDS = 100
_COMMIT_SECONDS = 1.0
# A reader that follows an outbox gives up when it cannot be read for this long.
_UNREADABLE_SECONDS = 10.0
# Joining a group takes some brokers half a minute.
_JOIN_SECONDS = 60.0
_NOT_TAKEN = (
    kafka.errors.CommitFailedError,
    kafka.errors.RebalanceInProgressError,
    kafka.errors.IllegalGenerationError,
    kafka.errors.KafkaTimeoutError,
)


class Deduplicator:
    """Knows the latest events and says which have been seen.

    Args:
        most: events remembered; more than a publisher may send twice (those of its outbox).
    """

    def __init__(self, most: int = _MOST_REMEMBERED) -> None:
        self._most = most
        self._seen: collections.OrderedDict[tuple[str, str, int], None] = collections.OrderedDict()

    def is_new(self, event: ActionEvent) -> bool:
        """Whether this is the first time that the event comes."""
        key = (event.event_id, event.kind, event.sequence)
        if key in self._seen:
            return False
        self._seen[key] = None
        if len(self._seen) > self._most:
            self._seen.popitem(last=False)
        return True


def read_outbox(
    path: Path, *, follow: bool = False, stop: threading.Event | None = None
) -> Iterator[ActionEvent]:
    """Events of an outbox in order; with `follow`, also those that come, until `stop` is set.

    With `follow` an outbox that is not there yet is waited for.

    Raises:
        OutboxError: the file is missing or is not an outbox, or cannot be read for long.
    """
    last = 0
    stop = stop or threading.Event()
    failing_since: float | None = None
    while not stop.is_set():
        try:
            found = read_events(path, after_id=last, most=_AT_ONCE)
        except OutboxError:
            # While it is made, or rescued, it is for a moment not what it will be.
            if failing_since is None:
                failing_since = time.monotonic()
                if follow and not is_file(path):
                    _log.warning("waiting for the outbox %s, which does not exist yet", path)
            if not follow or (
                is_file(path) and time.monotonic() - failing_since > _UNREADABLE_SECONDS
            ):
                raise
            if not is_file(path):
                failing_since = time.monotonic()
            stop.wait(0.5)
            continue
        failing_since = None
        for stored in found:
            last = stored.id
            yield stored.event
        if not found:
            if not follow:
                return
            stop.wait(0.5)


def read_topic(
    config: KafkaConfig,
    stop: threading.Event,
    *,
    follow: bool,
    group: str | None = None,
    timeout_seconds: float = 15.0,
) -> Iterator[ActionEvent]:
    """Events of the topic, repetitions left out; with `follow`, until `stop` is set.

    With `follow` a topic that does not exist yet is waited for. Without a group all of the topic is
    read, from its beginning. With one, reading goes on where the group left off, the group's
    readers share the partitions, and an event counts as read once the next is asked for. The broker
    is told every second and at the end: after a crash what was read in the last second comes again.
    Records that are no events are skipped with a warning.

    Raises:
        BrokerError: the broker or the topic cannot be reached within the timeout.
    """
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    repeated = Deduplicator()
    with explained(), contextlib.closing(_consumer(config, group, timeout_seconds)) as consumer:
        partitions = _partitions(consumer, config, stop, math.inf if follow else timeout_seconds)
        if not partitions:
            return
        if group is None:
            consumer.assign(partitions)
            consumer.seek_to_beginning(*partitions)
        else:
            consumer.subscribe([config.topic])
        deadline = time.monotonic() + _JOIN_SECONDS
        with contextlib.closing(_Progress(consumer, group)) as progress:
            while not stop.is_set():
                for record in (
                    record for batch in consumer.poll(timeout_ms=200).values() for record in batch
                ):
                    event = _event(record)
                    if event is not None and repeated.is_new(event):
                        yield event
                    progress.note(record)
                progress.tell()
                assigned = consumer.assignment()
                if (
                    not follow
                    and assigned
                    and all(_at_end(consumer, partition) for partition in assigned)
                ):
                    return
                if not follow and not assigned and time.monotonic() > deadline:
                    return  # the group has more readers than the topic has partitions


class _Progress:
    """Tells the broker how far a group has read, every second, and when it is closed; nothing
    without a group.
    """

    def __init__(self, consumer: Any, group: str | None) -> None:
        self._consumer = consumer
        self._group = group
        self._next: dict[Any, Any] = {}
        self._committed_at = time.monotonic()

    def note(self, record: Any) -> None:
        """A record has been dealt with."""
        partition = kafka.TopicPartition(record.topic, record.partition)
        self._next[partition] = kafka.structs.OffsetAndMetadata(record.offset + 1)
        self.tell()

    def tell(self) -> None:
        """Tell the broker, if it was not told within the last second."""
        if time.monotonic() - self._committed_at >= _COMMIT_SECONDS:
            self.close()

    def close(self) -> None:
        """Tell the broker now. What it does not take comes again, to this reader or another."""
        mine = self._consumer.assignment() if self._group is not None else set()
        offsets = {
            partition: offset for partition, offset in self._next.items() if partition in mine
        }
        self._next.clear()
        self._committed_at = time.monotonic()
        if offsets:
            with contextlib.suppress(*_NOT_TAKEN):
                self._consumer.commit(offsets, timeout_ms=5_000)


def _event(record: Any) -> ActionEvent | None:
    try:
        return ActionEvent.from_json(record.value)
    except DataError as error:
        _log.warning(
            "record %d of partition %d skipped: %s", record.offset, record.partition, error
        )
        return None


def _consumer(config: KafkaConfig, group: str | None, timeout_seconds: float) -> Any:
    return kafka.KafkaConsumer(
        **config.connection(),
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_poll_records=_MOST_RECORDS,
        bootstrap_timeout_ms=int(timeout_seconds * 1000),
    )


def _partitions(
    consumer: Any, config: KafkaConfig, stop: threading.Event, timeout_seconds: float
) -> list[Any]:
    deadline = time.monotonic() + timeout_seconds
    asked = False
    while time.monotonic() < deadline:
        numbers = consumer.partitions_for_topic(config.topic)
        if numbers or stop.is_set():
            return [kafka.TopicPartition(config.topic, number) for number in sorted(numbers or ())]
        if timeout_seconds == math.inf and not asked:
            asked = True
            _log.warning("waiting for the topic %r, which does not exist yet", config.topic)
        stop.wait(0.1)
    raise BrokerError(f"topic {config.topic!r} does not exist on {', '.join(config.bootstrap)}")


def _at_end(consumer: Any, partition: Any) -> bool:
    end = consumer.highwater(partition)
    return end is not None and consumer.position(partition) >= end
