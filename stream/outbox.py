"""Events on disk before they go anywhere: a SQLite database in write-ahead mode.

Without a broker the outbox is where events end; with one, a publisher drains it. Which events are open is kept in the
same transaction, so a process that died is tidied up after at the next start.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from configs import OutboxError, StrictModel
from stream.events import ActionEvent

__all__ = ["Outbox", "OutboxConfig", "StoredEvent", "read_events"]

_TABLES = """
create table if not exists events (
    id integer primary key autoincrement, event_id text not null, kind text not null, camera_id text not null,
    payload text not null, stored_at real not null);
create table if not exists open_events (event_id text primary key, payload text not null);
create table if not exists sequences (camera_id text primary key, last integer not null);
"""
_ADD = "insert into events (event_id, kind, camera_id, payload, stored_at) values (?, ?, ?, ?, ?)"


class OutboxConfig(StrictModel):
    """Where events wait."""

    path: Path = Field(Path("outbox.db"), description="database file; its folder must exist or be creatable")
    max_events: int = Field(1_000_000, ge=10, description="most events kept")
    when_full: Literal["drop_oldest"] = Field(
        "drop_oldest", description="what gives way when it is full: the oldest `updated`, and only without any, the oldest event"
    )


@dataclasses.dataclass(frozen=True)
class StoredEvent:
    """An event with its place in the outbox."""

    id: int
    event: ActionEvent


class Outbox:
    """The event store of one pipeline. Methods may be called from any thread.

    Raises:
        OutboxError: the database cannot be opened or written; the message names the file.
    """

    def __init__(self, config: OutboxConfig, on_dropped: Callable[[str], None] = lambda kind: None) -> None:
        self._config, self._on_dropped, self._lock = config, on_dropped, threading.Lock()
        self._changed = threading.Condition()
        with self._explained():
            config.path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(config.path, timeout=10, check_same_thread=False, isolation_level=None)
            self._database.execute("pragma journal_mode = wal")
            self._database.execute("pragma synchronous = full")
            self._database.executescript(_TABLES)

    def append(self, events: Sequence[ActionEvent]) -> None:
        """Store events, all or none, in order."""
        if not events:
            return
        with self._transaction() as database:
            for event in events:
                payload = event.to_json()
                database.execute(_ADD, (event.event_id, event.kind, event.camera_id, payload, time.time()))
                if event.kind == "ended":
                    database.execute("delete from open_events where event_id = ?", (event.event_id,))
                else:
                    database.execute("insert or replace into open_events values (?, ?)", (event.event_id, payload))
                database.execute("insert or replace into sequences values (?, ?)", (event.camera_id, event.sequence))
            dropped = self._make_room(database)
        for kind in dropped:
            self._on_dropped(kind)
        with self._changed:
            self._changed.notify_all()

    def close_open_events(self, ended_at: str) -> list[ActionEvent]:
        """End what a process that died left open, with reason `crash`; returns what was added."""
        with self._transaction() as database:
            payloads = [row[0] for row in database.execute("select payload from open_events")]
        ended = []
        for event in map(ActionEvent.from_json, payloads):
            sequence = self.next_sequence(event.camera_id)
            closing = dataclasses.replace(
                event, kind="ended", reason="crash", ended_at=ended_at, produced_at=ended_at, sequence=sequence,
                pts_end_seconds=event.pts_start_seconds,
            )  # fmt: skip
            self.append([closing])
            ended.append(closing)
        return ended

    def next_sequence(self, camera_id: str) -> int:
        """The number that the camera's next event gets."""
        with self._transaction() as database:
            row = database.execute("select last from sequences where camera_id = ?", (camera_id,)).fetchone()
        return int(row[0]) + 1 if row else 1

    def oldest(self, most: int, after_id: int = 0) -> list[StoredEvent]:
        """Up to `most` events after the one with this id, in order."""
        with self._transaction() as database:
            rows = database.execute("select id, payload from events where id > ? order by id limit ?", (after_id, most)).fetchall()
        return [StoredEvent(row[0], ActionEvent.from_json(row[1])) for row in rows]

    def remove(self, ids: Sequence[int]) -> None:
        """Forget events that the broker has acknowledged."""
        with self._transaction() as database:
            database.executemany("delete from events where id = ?", [(value,) for value in ids])

    def wait_for_change(self, timeout_seconds: float) -> None:
        """Return when events were added, or after the timeout."""
        with self._changed:
            self._changed.wait(timeout_seconds)

    def __len__(self) -> int:
        with self._transaction() as database:
            return int(database.execute("select count(*) from events").fetchone()[0])

    def oldest_age_seconds(self) -> float:
        """How long the oldest event has been waiting; 0 for an empty outbox."""
        with self._transaction() as database:
            stored_at = database.execute("select stored_at from events order by id limit 1").fetchone()
        return max(0.0, time.time() - stored_at[0]) if stored_at else 0.0

    def close(self) -> None:
        """Close the database; everything stored stays."""
        with self._lock, self._explained():
            self._database.close()

    def _make_room(self, database: sqlite3.Connection) -> list[str]:
        excess = database.execute("select count(*) from events").fetchone()[0] - self._config.max_events
        if excess <= 0:
            return []
        query = "select id, kind from events order by kind != 'updated', id limit ?"
        victims = database.execute(query, (excess,)).fetchall()
        database.executemany("delete from events where id = ?", [(row[0],) for row in victims])
        return [row[1] for row in victims]

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._explained():
            self._database.execute("begin immediate")
            try:
                yield self._database
            except BaseException:
                if self._database.in_transaction:  # a full disk ends it by itself
                    self._database.execute("rollback")
                raise
            self._database.execute("commit")

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise OutboxError(
                f"outbox {self._config.path}: {error}; check that the disk has room and nothing else holds the file"
            ) from error


def read_events(path: Path, *, after_id: int = 0) -> list[StoredEvent]:
    """Events of an outbox that another process may be writing; changes nothing.

    Raises:
        OutboxError: the file is missing or is not an outbox.
    """
    if not path.is_file():
        raise OutboxError(f"outbox not found: {path}")
    try:
        with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=10)) as database:
            rows = database.execute("select id, payload from events where id > ? order by id", (after_id,)).fetchall()
    except sqlite3.Error as error:
        raise OutboxError(f"{path} is not a readable outbox: {error}") from None
    return [StoredEvent(row[0], ActionEvent.from_json(row[1])) for row in rows]
