"""The outbox as the publisher of a worker sees it: with the topic of open events beside it.

For each event, in the order of the outbox:

1. Its record is written to the topic of open events, and acknowledged.
2. `ended` only: the worker makes sure that nobody has claimed the camera's partition since its own
   claim. If somebody has, that worker has found the action and ends it, and the event is dropped.
3. The event itself is sent, and acknowledged.
4. `ended` only: a tombstone is written to the topic of open events.

A `verified` event has no record, because it may come after the end of its action. It is dropped if
somebody has claimed the partition.

The process may die, or be cut from the broker, after any step. After 1, the successor finds the
action and ends it. After 3, it finds the same `ended` event that was sent, and sends it once more.
Both workers write first and look afterwards: this one writes its `ended` event and looks for
claims, the successor writes its claim and looks for open actions. So one of them sees the other.

What a worker started without having reached the topic in time is known to nobody else. Its worker
ends it itself, whenever it comes back.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from configs import BrokerError
from stream.events.config import KafkaConfig
from stream.events.event import ActionEvent, StoredEvent, open_json
from stream.events.event_store import EventStore
from stream.events.kafka import REFUSALS, kafka
from stream.fleet.open_log import MARK_KEY, OpenLogWriter, read_partitions

__all__ = ["ClaimLookup", "OpenEvents"]

_log = logging.getLogger(__name__)
_WAIT_SECONDS = 0.02
_READ_SECONDS = 3.0
# A record that is not acknowledged for so long is written again, with a new producer.
_STUCK_SECONDS = 60.0
# Kinds that are sent only while nobody has claimed the camera's partition again.
_CHECKED = ("ended", "verified")


class ClaimLookup(Protocol):
    """Knows which partitions were claimed again."""

    def claimed_after(self, claims: set[tuple[int, int]]) -> set[tuple[int, int]]:
        """Return those claims, as partition and epoch, that are not the newest; KafkaError."""


@dataclasses.dataclass
class _Record:
    """The record of one event in the topic of open events."""

    event: ActionEvent
    partition: int
    epoch: int
    future: Any  # None: there is none, or the broker refused it and will refuse the event, too
    sent_monotonic: float
    acknowledged_monotonic: float | None = None


class OpenEvents:
    """An outbox that passes an event on once its record is in the topic of open events.

    The publisher's thread calls all methods but `resend`, which any thread may call.

    Args:
        config: the broker of the events.
        partition_of: returns the partition of a camera in the topic of cameras.
        on_superseded: called for each `ended` event that is dropped, because another worker ends
            its action.
        on_late_answer: called for each `verified` event that is dropped, because another worker has
            the camera.
        read: reads partitions of the topic of open events.
    """

    def __init__(
        self,
        outbox: EventStore,
        config: KafkaConfig,
        writer: OpenLogWriter,
        claims: ClaimLookup,
        *,
        partition_of: Callable[[str], int],
        on_superseded: Callable[[], None] = lambda: None,
        on_late_answer: Callable[[], None] = lambda: None,
        read: Callable[..., Mapping[int, Any]] = read_partitions,
    ) -> None:
        self._outbox = outbox
        self._config = config
        self._writer = writer
        self._claims = claims
        self._partition_of = partition_of
        self._on_superseded = on_superseded
        self._on_late_answer = on_late_answer
        self._read = read
        self._records: dict[int, _Record] = {}
        self._started: dict[str, int] = {}  # offset of the record of each action's start, from here
        self._resent: dict[str, tuple[int, int]] = {}
        self._checked: dict[tuple[int, int], tuple[float, bool]] = {}
        self._lock = threading.Lock()
        self._is_away = False

    def resend(self, event_id: str, partition: int, epoch: int) -> None:
        """Note that an `ended` event of another worker is sent again as it is."""
        with self._lock:
            self._resent[event_id] = (partition, epoch)

    def oldest(self, max_events: int, after_id: int = 0) -> list[StoredEvent]:
        """Return the next events that may be sent, in order, with an id above `after_id`."""
        passed: list[StoredEvent] = []
        try:
            waiting = self._outbox.oldest(max_events, after_id)
            for stored in waiting:
                self._write(stored)
            self._note_acknowledged()
            for stored in waiting:
                verdict = self._verdict(stored)
                if verdict is None:
                    break
                if verdict:
                    passed.append(stored)
                else:
                    self._drop(stored)
        except (kafka.errors.KafkaError, BrokerError, AssertionError) as error:
            self._note_away(error)
        else:
            self._is_away = False
        return passed

    def remove(self, ids: Sequence[int]) -> None:
        """Remove events that the broker has acknowledged; actions that ended are open no longer."""
        self._outbox.remove(ids)
        for stored_id in ids:
            record = self._records.pop(stored_id, None)
            if record is not None and record.event.kind == "ended":
                self._close(record)

    def move_to_dead_letters(self, event_id: int, error: str) -> None:
        """Move an event that the broker refuses to the dead letters."""
        self._outbox.move_to_dead_letters(event_id, error)
        self._records.pop(event_id, None)

    def wait_for_change(self, timeout_seconds: float) -> None:
        """Wait until events are added or may be sent, at most until the timeout."""
        waits = any(record.acknowledged_monotonic is None for record in self._records.values())
        self._outbox.wait_for_change(_WAIT_SECONDS if waits else timeout_seconds)

    def __len__(self) -> int:
        return len(self._outbox)

    def _write(self, stored: StoredEvent) -> None:
        """Write the record of an event, unless that was done."""
        event = stored.event
        if stored.id in self._records or event.epoch is None:
            return
        is_answer = event.kind == "verified"
        with self._lock:
            own = (self._partition_of(event.camera_id), event.epoch)
            partition, epoch = self._resent.get(event.event_id, own)
        value = event.to_json() if event.kind == "ended" else open_json(event)
        try:
            key = event.event_id.encode()
            future = None if is_answer else self._writer.send(partition, key, value.encode(), epoch)
        except REFUSALS:
            future = None
        now = time.monotonic()
        self._records[stored.id] = _Record(event, partition, epoch, future, now)

    def _note_acknowledged(self) -> None:
        now = time.monotonic()
        for stored_id, record in list(self._records.items()):
            if record.acknowledged_monotonic is not None:
                continue
            if record.future is None:
                record.acknowledged_monotonic = now
            elif record.future.is_done and not record.future.failed():
                record.acknowledged_monotonic = now
                if record.event.kind == "started":
                    self._started[record.event.event_id] = record.future.value.offset
            elif record.future.is_done and isinstance(record.future.exception, REFUSALS):
                record.future = None
            elif record.future.is_done or now - record.sent_monotonic > _STUCK_SECONDS:
                self._start_over(stored_id)
                return

    def _start_over(self, stored_id: int) -> None:
        _log.warning("records of open events were not delivered; writing them again")
        self._writer.start_over()
        for other_id, record in list(self._records.items()):
            if record.acknowledged_monotonic is None or other_id == stored_id:
                del self._records[other_id]

    def _verdict(self, stored: StoredEvent) -> bool | None:
        """Return whether the event may be sent; False: it must not be; None: not known yet."""
        record = self._records.get(stored.id)
        if stored.event.epoch is None:
            return True
        if record is None or record.acknowledged_monotonic is None:
            return None
        with self._lock:
            is_resent = stored.event.event_id in self._resent
        kind = stored.event.kind
        if kind not in _CHECKED or (is_resent and kind == "ended"):
            return True
        if not self._was_claimed(record):
            return True
        return kind == "ended" and self._is_own(record)

    def _was_claimed(self, record: _Record) -> bool:
        """Whether the partition was claimed again, as seen after the record was acknowledged."""
        claim = (record.partition, record.epoch)
        asked, was_claimed = self._checked.get(claim, (float("-inf"), False))
        acknowledged = record.acknowledged_monotonic
        assert acknowledged is not None
        if was_claimed or asked >= acknowledged:
            return was_claimed
        now = time.monotonic()
        claims = {
            (each.partition, each.epoch)
            for each in self._records.values()
            if each.event.kind in _CHECKED and each.acknowledged_monotonic is not None
        }
        found = self._claims.claimed_after(claims)
        self._checked = {each: (now, each in found) for each in claims}
        return claim in found

    def _is_own(self, record: _Record) -> bool:
        """Whether only this worker knows of the action, because its start came too late."""
        event_id = record.event.event_id
        if event_id not in self._started:
            return False
        log = self._read(
            self._config, self._writer.topic, [record.partition], timeout_seconds=_READ_SECONDS
        )[record.partition]
        marks = [each.offset for each in log if each.key == MARK_KEY and each.epoch > record.epoch]
        if not marks:
            return False
        known = [each.offset for each in log if each.key == event_id.encode()]
        return bool(min([self._started[event_id], *known]) > min(marks))

    def _drop(self, stored: StoredEvent) -> None:
        if stored.event.kind == "verified":
            self._outbox.remove([stored.id])
            self._records.pop(stored.id, None)
            self._on_late_answer()
            return
        _log.info(
            "action %s of camera %s is ended by another worker",
            stored.event.event_id,
            stored.event.camera_id,
            extra={"camera": stored.event.camera_id},
        )
        self._outbox.remove([stored.id])
        self._records.pop(stored.id, None)
        self._started.pop(stored.event.event_id, None)
        self._on_superseded()

    def _close(self, record: _Record) -> None:
        """Note that an action has ended; if this is lost, the successor sends its end again."""
        event_id = record.event.event_id
        self._started.pop(event_id, None)
        with self._lock:
            self._resent.pop(event_id, None)
        try:
            self._writer.send(record.partition, event_id.encode(), None, record.epoch)
        except (kafka.errors.KafkaError, BrokerError) as error:
            self._note_away(error)

    def _note_away(self, error: Exception) -> None:
        if not self._is_away:
            reason = self._config.redact(f"{type(error).__name__}: {error}")
            _log.warning("the topic of open events: %s; events wait in the outbox", reason)
        self._is_away = True
