"""The outbox stores events on disk, in a SQLite database in write-ahead mode.

Each event is stored once and waits for all sinks that get it: Kafka, webhooks and others. Their
threads send it and note that their sink has it; then it is deleted. Without sinks, events stay.
The transaction that stores new events also stores which events are still open. If the process is
killed, the next start ends those events. Events that a sink refuses are kept as dead letters.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from configs import DataError
from stream.events.config import OutboxConfig
from stream.events.event import ActionEvent, StoredEvent, numbering
from stream.events.open_actions import end_open_actions
from stream.events.outbox_database import BUSY_SECONDS, OutboxDatabase
from stream.events.outbox_reader import read_events
from stream.events.sink_registry import OutboxSink, free_events, register, routes_of
from stream.events.sink_rows import FIRST_BIT, waits
from stream.events.sink_view import SinkView
from stream.events.storing import store_events
from stream.sinks.config import KAFKA

__all__ = ["Outbox", "read_events"]

_log = logging.getLogger(__name__)
# Maximum time that a metrics request waits for the database.
_METRICS_WAIT_SECONDS = 0.2
_END_EVENT = "delete from open_events where event_id = ?"
_SET_SEQUENCE = "insert or replace into sequences values (?, ?)"


class Outbox:
    """The event store of one pipeline. Any thread may call its methods.

    Args:
        on_dropped: called with the kind of each event that was dropped because too many wait for
            Kafka, or because too many are kept.
        on_damaged: called when a damaged database has been replaced.
        on_lost: called with the name of a sink and the kind of each event that it loses, because
            too many wait for it.
        sinks: the sinks that get events; events of others are given up. None: those that the file
            knows, with their filters.
        busy_seconds: maximum time to wait for another program's lock while cameras run.

    Raises:
        OutboxError: the database cannot be opened or written, or a newer release wrote it; the
            message names the file.
    """

    def __init__(
        self,
        config: OutboxConfig,
        on_dropped: Callable[[str], None] = lambda kind: None,
        on_damaged: Callable[[], None] = lambda: None,
        *,
        on_lost: Callable[[str, str], None] = lambda sink, kind: None,
        sinks: Sequence[OutboxSink] | None = None,
        busy_seconds: float = BUSY_SECONDS,
    ) -> None:
        self._config = config
        self._on_dropped = on_dropped
        self._on_lost = on_lost
        self._changed = threading.Condition()
        self._oldest_at: dict[str | None, float | None] = {}
        self._database = OutboxDatabase(
            config.path, on_damaged=on_damaged, busy_seconds=busy_seconds
        )
        try:
            if sinks is None:
                self._routes = routes_of(
                    self._database.bits, self._database.filters, config.max_events
                )
            else:
                self._routes = register(self._database, sinks, config.max_events)
        except BaseException:
            self._database.close()
            raise

    def of(self, sink: str) -> SinkView:
        """Return the outbox as a sink sees it."""
        return SinkView(self, sink)

    def append(self, events: Sequence[ActionEvent]) -> None:
        """Store events, all or none, in order.

        Raises:
            OutboxError: the events cannot be stored.
        """
        if not events:
            return
        last = {event.numbering: event.sequence for event in events}
        with self._database.transaction() as change:
            last_id, lost = store_events(change, events, self._routes, self._database.waiting)
            change.connection.executemany(_SET_SEQUENCE, last.items())
        self._database.last_id = max(self._database.last_id, last_id)
        self._database.sequences |= last
        for route, kind in lost:
            if route.bit == FIRST_BIT:
                self._on_dropped(kind)
            if route.name is not None:
                self._on_lost(route.name, kind)
        with self._changed:
            self._changed.notify_all()

    def close_open_events(self) -> list[ActionEvent]:
        """End the events that a killed process left open, with reason `crash`.

        Each event ends where its action had got to, in the stream, at its last stored event. If
        workers share the cameras, the next worker ends what has reached Kafka: such an event is
        left alone once its start no longer waits for Kafka here.

        Returns:
            The `ended` events that were added.

        Raises:
            OutboxError: the events cannot be stored.
        """
        with self._database.patience():
            return self._close_open_events()

    def _close_open_events(self) -> list[ActionEvent]:
        with self._database.reading() as connection:
            closing, forgotten = end_open_actions(connection, self._database.sequences)
        with self._database.transaction() as change:
            change.connection.executemany(_END_EVENT, [(each,) for each in forgotten])
        self.append(closing)
        return closing

    def next_sequence(self, camera_id: str, epoch: int | None = None) -> int:
        """Return the sequence number of the camera's next event, in an epoch if it has one."""
        return self._database.sequences.get(numbering(camera_id, epoch), 0) + 1

    def sequences(self) -> dict[str, int]:
        """Return the sequence number of the last event of each camera, outside of epochs."""
        numbers = self._database.sequences.items()  # those of epochs are named camera@epoch
        return {name: last for name, last in numbers if "@" not in name}

    def continue_sequences(self, sequences: Mapping[str, int]) -> None:
        """Continue the numbers of cameras whose earlier events are in another outbox.

        Raises:
            OutboxError: they cannot be stored.
        """
        with self._database.transaction() as change:
            change.connection.executemany(_SET_SEQUENCE, sequences.items())
        self._database.sequences |= sequences

    def oldest(self, max_events: int, after_id: int = 0, sink: str = KAFKA) -> list[StoredEvent]:
        """Return up to `max_events` events that wait for a sink, above `after_id`, in order.

        Without Kafka, its events are those that are kept. Events that cannot be read become dead
        letters.

        Raises:
            OutboxError: the database cannot be read.
        """
        bit = self._bit(sink)
        if bit is None:
            return []
        with self._database.reading() as connection:
            query = (
                "select id, cast(payload as blob), traceparent from events"
                f" where {waits(bit)} and id > ? order by id limit ?"
            )
            rows = connection.execute(query, (after_id, max_events)).fetchall()
        stored = []
        for row_id, payload, traceparent in rows:
            try:
                event = ActionEvent.from_json(payload)
                if traceparent is not None:
                    event = dataclasses.replace(event, traceparent=str(traceparent))
                stored.append(StoredEvent(row_id, event))
            except DataError as error:
                _log.error(
                    "event number %d of outbox %s cannot be read; moved it to the dead letters: %s",
                    row_id,
                    self._config.path,
                    error,
                )
                self.move_to_dead_letters(row_id, str(error), sink)
        return stored

    def remove(self, ids: Sequence[int], sink: str = KAFKA) -> None:
        """Note that a sink has taken events; those that no other sink waits for are deleted.

        Raises:
            OutboxError: the database cannot be written.
        """
        if (bit := self._bit(sink)) is None:
            return
        with self._database.transaction() as change:
            change.take(bit, ids)

    def move_to_dead_letters(self, event_id: int, error: str, sink: str = KAFKA) -> None:
        """Move an event that a sink refuses, with the error; keep the sink's latest 10000.

        Other sinks that wait for the event still get it.

        Raises:
            OutboxError: the database cannot be written.
        """
        if (bit := self._bit(sink)) is None:
            return
        with self._database.transaction() as change:
            change.bury(event_id, error, sink)
            change.take(bit, [event_id])

    def end_sink(self, sink: str) -> Mapping[str, int]:
        """Store no more events for a sink, and give up those that wait for it.

        This holds until the outbox is opened again. If no other sink is left, new events are kept.

        Returns:
            The number of events of each kind that were given up.

        Raises:
            OutboxError: the database cannot be written; some events still wait.
        """
        if (bit := self._bit(sink)) is None:
            return {}
        left = tuple(route for route in self._routes if route.name != sink)
        self._routes = left or routes_of({}, {}, self._config.max_events)
        return free_events(self._database, bit)

    def waiting(self, sink: str) -> int:
        """Return how many events wait for a sink; without Kafka, its events are those kept."""
        bit = self._bit(sink)
        return 0 if bit is None else self._database.waiting.get(bit, 0)

    def _bit(self, sink: str) -> int | None:
        """Return the bit of a sink; None if the outbox does not know it."""
        return FIRST_BIT if sink == KAFKA else self._database.bits.get(sink)

    def wait_for_change(self, timeout_seconds: float) -> None:
        """Wait until events are added, at most until the timeout."""
        with self._changed:
            self._changed.wait(timeout_seconds)

    def __len__(self) -> int:
        return self._database.count

    @property
    def is_recovering(self) -> bool:
        """Whether a damaged database is being replaced, which may take a long time."""
        return self._database.is_recovering

    def oldest_age_seconds(self, sink: str | None = None) -> float:
        """Return how long the oldest event has been waiting for a sink; 0 if there is none.

        If the database stays in use for 0.2 s, the age is computed from the last known event.

        Args:
            sink: its name; None: the age of the oldest of all events.

        Raises:
            OutboxError: the database cannot be read.
        """
        bit = None if sink is None else self._bit(sink)
        where = "" if bit is None else f"where {waits(bit)}"
        query = f"select stored_at from events {where} order by id limit 1"
        with self._database.try_reading(_METRICS_WAIT_SECONDS) as connection:
            if connection is not None:
                row = connection.execute(query).fetchone()
                self._oldest_at[sink] = row[0] if row else None
        oldest_at = self._oldest_at.get(sink)
        return 0.0 if oldest_at is None else max(0.0, time.time() - oldest_at)

    def close(self) -> None:
        """Close the database; stored events are kept."""
        self._database.close()
