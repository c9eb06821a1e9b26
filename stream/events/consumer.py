"""For those who consume events: from an outbox or from Kafka, each event once.

Delivery is at least once: after a crash a record may come again. A repetition has the `event_id`,
`kind` and `sequence` of the first; `Deduplicator` drops it and needs little memory for it, because
repetitions come soon after.
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
from stream.events.kafka import explained, kafka, silence_log
from stream.events.outbox_reader import read_events

__all__ = ["Deduplicator", "read_outbox", "read_topic"]

_log = logging.getLogger(__name__)
_MAX_REMEMBERED = 200_000
_MAX_ROWS = 5_000  # read from an outbox at once
# Of one poll: a consumer must be back for the next within five minutes, or counts as gone.
_MAX_RECORDS = 100
_COMMIT_SECONDS = 1.0
# While it is made or recovered, an outbox is for a moment not readable.
_MAX_UNREADABLE_SECONDS = 10.0
_WAIT_SECONDS = 0.5
# Joining a group takes some brokers half a minute.
_JOIN_SECONDS = 60.0
# A commit that failed like this is made up for: its records come again.
_NOT_COMMITTED = (
    kafka.errors.CommitFailedError,
    kafka.errors.RebalanceInProgressError,
    kafka.errors.IllegalGenerationError,
    kafka.errors.KafkaTimeoutError,
)


class Deduplicator:
    """Knows the latest events and says which have been seen.

    Args:
        max_events: events remembered; more than a publisher may send twice (those of its outbox).
    """

    def __init__(self, max_events: int = _MAX_REMEMBERED) -> None:
        self._max_events = max_events
        self._seen: collections.OrderedDict[tuple[str, str, int], None] = collections.OrderedDict()

    def is_new(self, event: ActionEvent) -> bool:
        """Whether this is the first time that the event comes."""
        key = (event.event_id, event.kind, event.sequence)
        if key in self._seen:
            return False
        self._seen[key] = None
        if len(self._seen) > self._max_events:
            self._seen.popitem(last=False)
        return True


def read_outbox(
    path: Path, *, follow: bool = False, stop: threading.Event | None = None
) -> Iterator[ActionEvent]:
    """Give the events of an outbox in order; with `follow`, also new ones, until `stop` is set.

    With `follow` an outbox that does not exist yet is waited for.

    Raises:
        OutboxError: the file is missing or is not an outbox, or cannot be read for long.
    """
    last_id = 0
    stop = stop or threading.Event()
    failing_since: float | None = None
    while not stop.is_set():
        try:
            found = read_events(path, after_id=last_id, max_events=_MAX_ROWS)
        except OutboxError:
            if not follow:
                raise
            failing_since = _since_when_unreadable(path, failing_since)
            if time.monotonic() - failing_since > _MAX_UNREADABLE_SECONDS:
                raise
            stop.wait(_WAIT_SECONDS)
            continue
        failing_since = None
        for stored in found:
            last_id = stored.id
            yield stored.event
        if not found:
            if not follow:
                return
            stop.wait(_WAIT_SECONDS)


def _since_when_unreadable(path: Path, failing_since: float | None) -> float:
    """Return since when the file is there and cannot be read; a missing one is waited for."""
    now = time.monotonic()
    if is_file(path):
        return now if failing_since is None else failing_since
    if failing_since is None:
        _log.warning("waiting for the outbox %s, which does not exist yet", path)
    return now


def read_topic(
    config: KafkaConfig,
    stop: threading.Event,
    *,
    follow: bool,
    group: str | None = None,
    timeout_seconds: float = 15.0,
) -> Iterator[ActionEvent]:
    """Give the events of the topic without repetitions; with `follow`, until `stop` is set.

    With `follow` a topic that does not exist yet is waited for. Without a group the whole topic is
    read, from its beginning. With one, reading goes on where the group left off, the group's
    consumers divide the partitions among them, and an event counts as read once the next is asked
    for. That is committed every second and at the end: after a crash what was read in the last
    second comes again. Records that are not events are skipped with a warning.

    Raises:
        BrokerError: the broker or the topic cannot be reached within the timeout.
    """
    silence_log()
    repetitions = Deduplicator()
    with explained(), contextlib.closing(_consumer(config, group, timeout_seconds)) as consumer:
        wait_seconds = math.inf if follow else timeout_seconds
        partitions = _partitions(consumer, config, stop, wait_seconds)
        if not partitions:
            return
        if group is None:
            consumer.assign(partitions)
            consumer.seek_to_beginning(*partitions)
        else:
            consumer.subscribe([config.topic])
        join_deadline = time.monotonic() + _JOIN_SECONDS
        with contextlib.closing(_Progress(consumer, group)) as progress:
            while not stop.is_set():
                for record in _poll(consumer):
                    event = _event(record)
                    if event is not None and repetitions.is_new(event):
                        yield event
                    progress.note(record)
                progress.commit_if_due()
                if not follow and _is_finished(consumer, join_deadline):
                    return


def _poll(consumer: Any) -> list[Any]:
    batches = consumer.poll(timeout_ms=200).values()
    return [record for batch in batches for record in batch]


def _is_finished(consumer: Any, join_deadline: float) -> bool:
    """Whether all partitions were read to their end, or there is none for this consumer."""
    assigned = consumer.assignment()
    if assigned:
        return all(_is_at_end(consumer, partition) for partition in assigned)
    return time.monotonic() > join_deadline  # the group has more consumers than partitions


def _is_at_end(consumer: Any, partition: Any) -> bool:
    end = consumer.highwater(partition)
    return end is not None and consumer.position(partition) >= end


class _Progress:
    """Commits how far a group has read, every second and at the end; nothing without a group."""

    def __init__(self, consumer: Any, group: str | None) -> None:
        self._consumer = consumer
        self._group = group
        self._next: dict[Any, Any] = {}
        self._committed_at = time.monotonic()

    def note(self, record: Any) -> None:
        """Note that a record has been dealt with."""
        partition = kafka.TopicPartition(record.topic, record.partition)
        self._next[partition] = kafka.structs.OffsetAndMetadata(record.offset + 1)
        self.commit_if_due()

    def commit_if_due(self) -> None:
        """Commit if the last commit is a second ago."""
        if time.monotonic() - self._committed_at >= _COMMIT_SECONDS:
            self.close()

    def close(self) -> None:
        """Commit now. What fails to be committed comes again, to this consumer or another."""
        mine = self._consumer.assignment() if self._group is not None else set()
        offsets = {
            partition: offset for partition, offset in self._next.items() if partition in mine
        }
        self._next.clear()
        self._committed_at = time.monotonic()
        if offsets:
            with contextlib.suppress(*_NOT_COMMITTED):
                self._consumer.commit(offsets, timeout_ms=5_000)


def _event(record: Any) -> ActionEvent | None:
    try:
        return ActionEvent.from_json(record.value)
    except DataError as error:
        _log.warning(
            "skipped record %d of partition %d of topic %s: %s",
            record.offset,
            record.partition,
            record.topic,
            error,
        )
        return None


def _consumer(config: KafkaConfig, group: str | None, timeout_seconds: float) -> Any:
    return kafka.KafkaConsumer(
        **config.connection(),
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_poll_records=_MAX_RECORDS,
        bootstrap_timeout_ms=int(timeout_seconds * 1000),
    )


def _partitions(
    consumer: Any, config: KafkaConfig, stop: threading.Event, timeout_seconds: float
) -> list[Any]:
    """Return the partitions of the topic, once it exists; none if `stop` is set before."""
    deadline = time.monotonic() + timeout_seconds
    has_warned = False
    while time.monotonic() < deadline:
        numbers = consumer.partitions_for_topic(config.topic)
        if numbers or stop.is_set():
            return [kafka.TopicPartition(config.topic, number) for number in sorted(numbers or ())]
        if timeout_seconds == math.inf and not has_warned:
            has_warned = True
            _log.warning("waiting for the topic %r, which does not exist yet", config.topic)
        stop.wait(0.1)
    raise BrokerError(f"topic {config.topic!r} does not exist on {', '.join(config.bootstrap)}")
