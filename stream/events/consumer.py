"""Functions for consumers: read each event once, from an outbox or from Kafka.

Kafka delivery is at least once: after a crash a record may be delivered again. A repeated record
has the same `event_id`, `kind`, `epoch` and `sequence`. `Deduplicator` drops it. It only remembers
the latest events, because a record is repeated soon after its first delivery. An action starts once
and ends once: of two `ended` events of one action, from two workers, the first one counts.
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

from configs import BrokerError, DataError, OutboxError, UnknownKindError, is_file
from stream.events.broker_addresses import unreachable_broker
from stream.events.config import KafkaConfig
from stream.events.event import ActionEvent
from stream.events.kafka import advertised_brokers, explained, kafka, silence_log
from stream.events.outbox_reader import read_events
from stream.events.skipped_kinds import SkippedKinds

__all__ = ["Deduplicator", "SkippedKinds", "read_outbox", "read_topic"]

_log = logging.getLogger(__name__)
_MAX_REMEMBERED = 200_000
_MAX_ROWS = 5_000  # maximum number of events in one read of an outbox
# Maximum number of records in one poll. It is small because a consumer that does not poll again
# within five minutes is removed from its group.
_MAX_RECORDS = 100
_COMMIT_SECONDS = 1.0
# An outbox that is being created or recovered cannot be read for a short time.
_MAX_UNREADABLE_SECONDS = 10.0
_WAIT_SECONDS = 0.5
# With some brokers, joining a group takes half a minute.
_JOIN_SECONDS = 60.0
# These commit errors can be ignored, because the records are delivered again.
_NOT_COMMITTED = (
    kafka.errors.CommitFailedError,
    kafka.errors.RebalanceInProgressError,
    kafka.errors.IllegalGenerationError,
    kafka.errors.KafkaTimeoutError,
)


class Deduplicator:
    """Remembers the latest events and detects repeated ones.

    Args:
        max_events: number of remembered events; it must be larger than the number of events that a
            publisher may send twice, which is at most the number of events in its outbox.
    """

    def __init__(self, max_events: int = _MAX_REMEMBERED) -> None:
        self._max_events = max_events
        self._seen: collections.OrderedDict[tuple[object, ...], None] = collections.OrderedDict()

    def is_new(self, event: ActionEvent) -> bool:
        """Remember the event; return whether it was not seen before."""
        number = event.order if event.kind == "updated" else None
        key = (event.event_id, event.kind, number)
        if key in self._seen:
            return False
        self._seen[key] = None
        if len(self._seen) > self._max_events:
            self._seen.popitem(last=False)
        return True


def read_outbox(
    path: Path,
    *,
    follow: bool = False,
    stop: threading.Event | None = None,
    skipped: SkippedKinds | None = None,
) -> Iterator[ActionEvent]:
    """Yield the events of an outbox in order; with `follow`, also new ones, until `stop` is set.

    With `follow`, the function waits for an outbox that does not exist yet. Events of a kind that
    this version does not know are left out, and counted in `skipped`.

    Raises:
        OutboxError: the file is missing (without `follow`), is not an outbox, or could not be read
            for 10 s.
    """
    last_id = 0
    stop = stop or threading.Event()
    skipped = skipped or SkippedKinds()
    failing_since: float | None = None
    while not stop.is_set():
        try:
            found = read_events(path, after_id=last_id, max_events=_MAX_ROWS, skipped=skipped)
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
    """Return the monotonic time since which an existing file cannot be read; now if missing."""
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
    skipped: SkippedKinds | None = None,
) -> Iterator[ActionEvent]:
    """Yield the events of the topic without repetitions; with `follow`, until `stop` is set.

    With `follow`, the function waits for a topic that does not exist yet. Without a group, the
    whole topic is read from its beginning. With a group, reading continues at the group's last
    committed position, and the consumers of the group share the partitions. An event counts as read
    when the caller asks for the next one. The position is committed every second and at the end, so
    after a crash the events of the last second are delivered again. Records that are not events are
    skipped with a warning; events of a kind that this version does not know are also counted, in
    `skipped`.

    Raises:
        BrokerError: the broker or the topic cannot be reached within the timeout.
    """
    silence_log()
    repetitions = Deduplicator()
    skipped = skipped or SkippedKinds()
    with (
        explained(config),
        contextlib.closing(_consumer(config, group, timeout_seconds)) as consumer,
    ):
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
                    event = _event(record, skipped)
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
    """Return whether all assigned partitions were read to the end, or none was assigned in time."""
    assigned = consumer.assignment()
    if assigned:
        return all(_is_at_end(consumer, partition) for partition in assigned)
    return time.monotonic() > join_deadline  # the group has more consumers than partitions


def _is_at_end(consumer: Any, partition: Any) -> bool:
    end = consumer.highwater(partition)
    return end is not None and consumer.position(partition) >= end


class _Progress:
    """Commits the position of a group every second and at the end; does nothing without a group."""

    def __init__(self, consumer: Any, group: str | None) -> None:
        self._consumer = consumer
        self._group = group
        self._next: dict[Any, Any] = {}
        self._committed_at = time.monotonic()

    def note(self, record: Any) -> None:
        """Record that the caller has processed a record, and commit if a commit is due."""
        partition = kafka.TopicPartition(record.topic, record.partition)
        self._next[partition] = kafka.structs.OffsetAndMetadata(record.offset + 1)
        self.commit_if_due()

    def commit_if_due(self) -> None:
        """Commit if the last commit was at least a second ago."""
        if time.monotonic() - self._committed_at >= _COMMIT_SECONDS:
            self.close()

    def close(self) -> None:
        """Commit now; records whose commit fails are delivered again, to any consumer."""
        mine = self._consumer.assignment() if self._group is not None else set()
        offsets = {
            partition: offset for partition, offset in self._next.items() if partition in mine
        }
        self._next.clear()
        self._committed_at = time.monotonic()
        if offsets:
            with contextlib.suppress(*_NOT_COMMITTED):
                self._consumer.commit(offsets, timeout_ms=5_000)


def _event(record: Any, skipped: SkippedKinds) -> ActionEvent | None:
    try:
        return ActionEvent.from_json(record.value)
    except UnknownKindError as error:
        skipped.add(error.kind)
        return None
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
    """Wait until the topic exists and return its partitions; return none if `stop` is set."""
    deadline = time.monotonic() + timeout_seconds
    has_warned = False
    while time.monotonic() < deadline:
        numbers = _partition_numbers(consumer, config)
        if numbers or stop.is_set():
            return [kafka.TopicPartition(config.topic, number) for number in sorted(numbers or ())]
        if timeout_seconds == math.inf and not has_warned:
            has_warned = True
            _log.warning("waiting for the topic %r, which does not exist yet", config.topic)
        stop.wait(0.1)
    raise BrokerError(f"topic {config.topic!r} does not exist on {', '.join(config.bootstrap)}")


def _partition_numbers(consumer: Any, config: KafkaConfig) -> set[int] | None:
    try:
        numbers: set[int] | None = consumer.partitions_for_topic(config.topic)
    except (kafka.errors.KafkaConnectionError, kafka.errors.KafkaTimeoutError):
        if (reason := unreachable_broker(advertised_brokers(consumer))) is not None:
            raise BrokerError(f"kafka at {', '.join(config.bootstrap)}: {reason}") from None
        raise
    return numbers
