"""The outbox stores events on disk, in a SQLite database in write-ahead mode.

With a broker, a publisher sends the stored events and removes them; without one, they stay here.
The transaction that stores new events also stores which events are still open. If the process is
killed, the next start ends those events. Events that the broker refuses are kept as dead letters.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from configs import DataError
from stream.events.config import OutboxConfig
from stream.events.event import (
    ActionEvent,
    StoredEvent,
    ended_by_crash,
    latest_moment,
    numbering,
    open_json,
)
from stream.events.outbox_database import BUSY_SECONDS, OutboxDatabase
from stream.events.outbox_reader import read_events

__all__ = ["Outbox", "read_events"]

_log = logging.getLogger(__name__)
_MAX_DEAD_LETTERS = 10_000
# Maximum time that a metrics request waits for the database.
_METRICS_WAIT_SECONDS = 0.2
_ADD_EVENT = (
    "insert into events (event_id, kind, camera_id, payload, stored_at) values (?, ?, ?, ?, ?)"
)
_OPEN_EVENT = "insert or replace into open_events values (?, ?)"
_END_EVENT = "delete from open_events where event_id = ?"
_SET_SEQUENCE = "insert or replace into sequences values (?, ?)"
_REMOVE_EVENT = "delete from events where id = ?"
_ADD_DEAD_LETTER = (
    "insert or replace into rejected select id, payload, ?, ? from events where id = ?"
)
_REMOVE_OLD_DEAD_LETTERS = (
    "delete from rejected where id not in (select id from rejected order by id desc limit ?)"
)


class Outbox:
    """The event store of one pipeline. Any thread may call its methods.

    Args:
        on_dropped: called with the kind of each event that was dropped because the outbox is full.
        on_damaged: called when a damaged database has been replaced.
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
        busy_seconds: float = BUSY_SECONDS,
    ) -> None:
        self._config = config
        self._on_dropped = on_dropped
        self._changed = threading.Condition()
        self._oldest_at: float | None = None
        self._database = OutboxDatabase(
            config.path, on_damaged=on_damaged, busy_seconds=busy_seconds
        )

    def append(self, events: Sequence[ActionEvent]) -> None:
        """Store events, all or none, in order.

        Raises:
            OutboxError: the events cannot be stored.
        """
        if not events:
            return
        last = {event.numbering: event.sequence for event in events}
        with self._database.transaction() as change:
            for event in events:
                self._add(change.connection, event)
            change.connection.executemany(_SET_SEQUENCE, last.items())
            excess = self._database.count + len(events) - self._config.max_events
            dropped = _drop_oldest(change.connection, excess)
            change.added = len(events) - len(dropped)
        self._database.sequences |= last
        for kind in dropped:
            self._on_dropped(kind)
        with self._changed:
            self._changed.notify_all()

    def _add(self, connection: sqlite3.Connection, event: ActionEvent) -> None:
        payload = event.to_json()
        row = (event.event_id, event.kind, event.camera_id, payload, time.time())
        self._database.last_id = connection.execute(_ADD_EVENT, row).lastrowid or 0
        if event.kind == "ended":
            connection.execute(_END_EVENT, (event.event_id,))
        elif event.kind != "verified":  # the answer may come after the end
            connection.execute(_OPEN_EVENT, (event.event_id, open_json(event)))

    def close_open_events(self) -> list[ActionEvent]:
        """End the events that a killed process left open, with reason `crash`.

        Each event ends where its action had got to, in the stream, at its last stored event. If
        workers share the cameras, the next worker ends what has reached Kafka: such an event is
        left alone once its start is no longer stored here.

        Returns:
            The `ended` events that were added.

        Raises:
            OutboxError: the events cannot be stored.
        """
        with self._database.patience():
            return self._close_open_events()

    def _close_open_events(self) -> list[ActionEvent]:
        with self._database.reading() as connection:
            query = "select event_id, cast(payload as blob) from open_events order by rowid"
            rows = connection.execute(query).fetchall()
            query = "select event_id from events where kind = 'started'"
            stored = {event_id for (event_id,) in connection.execute(query)}
        closing = []
        forgotten = []
        last = dict(self._database.sequences)
        for event_id, payload in rows:
            try:
                event = ActionEvent.from_json(payload)
            except DataError as error:
                forgotten.append((event_id,))
                _log.error(
                    "open event %s cannot be read; it will not be ended: %s", event_id, error
                )
                continue
            if event.epoch is not None and event_id not in stored:
                forgotten.append((event_id,))
                continue
            last[event.numbering] = last.get(event.numbering, event.sequence) + 1
            until = latest_moment(payload)
            closing.append(ended_by_crash(event, last[event.numbering], until))
        with self._database.transaction() as change:
            change.connection.executemany(_END_EVENT, forgotten)
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

    def oldest(self, max_events: int, after_id: int = 0) -> list[StoredEvent]:
        """Return up to `max_events` events with an id above `after_id`, in order.

        Events that cannot be read become dead letters.

        Raises:
            OutboxError: the database cannot be read.
        """
        with self._database.reading() as connection:
            query = "select id, cast(payload as blob) from events where id > ? order by id limit ?"
            rows = connection.execute(query, (after_id, max_events)).fetchall()
        stored = []
        for row_id, payload in rows:
            try:
                stored.append(StoredEvent(row_id, ActionEvent.from_json(payload)))
            except DataError as error:
                _log.error(
                    "event number %d of outbox %s cannot be read; moved it to the dead letters: %s",
                    row_id,
                    self._config.path,
                    error,
                )
                self.move_to_dead_letters(row_id, str(error))
        return stored

    def remove(self, ids: Sequence[int]) -> None:
        """Remove events that the broker has acknowledged.

        Raises:
            OutboxError: the database cannot be written.
        """
        with self._database.transaction() as change:
            rows = [(event_id,) for event_id in ids]
            change.added = -change.connection.executemany(_REMOVE_EVENT, rows).rowcount

    def move_to_dead_letters(self, event_id: int, error: str) -> None:
        """Move an event that cannot be published, with its error; keep the latest 10000.

        Raises:
            OutboxError: the database cannot be written.
        """
        with self._database.transaction() as change:
            change.connection.execute(_ADD_DEAD_LETTER, (error, time.time(), event_id))
            change.added = -change.connection.execute(_REMOVE_EVENT, (event_id,)).rowcount
            change.connection.execute(_REMOVE_OLD_DEAD_LETTERS, (_MAX_DEAD_LETTERS,))

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

    def oldest_age_seconds(self) -> float:
        """Return how long the oldest event has been waiting; 0 for an empty outbox.

        If the database stays in use for 0.2 s, the age is computed from the last known event.

        Raises:
            OutboxError: the database cannot be read.
        """
        query = "select stored_at from events order by id limit 1"
        with self._database.try_reading(_METRICS_WAIT_SECONDS) as connection:
            if connection is not None:
                row = connection.execute(query).fetchone()
                self._oldest_at = row[0] if row else None
        return 0.0 if self._oldest_at is None else max(0.0, time.time() - self._oldest_at)

    def close(self) -> None:
        """Close the database; stored events are kept."""
        self._database.close()


def _drop_oldest(connection: sqlite3.Connection, excess: int) -> list[str]:
    """Remove `excess` events, the oldest `updated` first; return the kinds of those removed."""
    if excess <= 0:
        return []
    updates = "select id, kind from events where kind = 'updated' order by id limit ?"
    others = "select id, kind from events where kind != 'updated' order by id limit ?"
    rows = connection.execute(updates, (excess,)).fetchall()
    if len(rows) < excess:
        rows += connection.execute(others, (excess - len(rows),)).fetchall()
    connection.executemany(_REMOVE_EVENT, [(event_id,) for event_id, _ in rows])
    return [kind for _, kind in rows]
