"""Events on disk before they go anywhere: a SQLite database in write-ahead mode.

Without a broker the outbox is where events end; with one, a publisher drains it. Which events are open is kept in the
same transaction, so a process that died is tidied up after at the next start. A damaged database is moved aside, and what
can still be read of it goes on in a new one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import fcntl
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Literal

from pydantic import Field

from configs import DataError, OutboxError, StrictModel, is_file
from stream.events import ActionEvent, StoredEvent

__all__ = ["Outbox", "OutboxConfig", "read_events", "read_rejected"]

_TABLES = """
create table if not exists events (
    id integer primary key autoincrement, event_id text not null, kind text not null, camera_id text not null,
    payload text not null, stored_at real not null);
create table if not exists open_events (event_id text primary key, payload text not null);
create table if not exists sequences (camera_id text primary key, last integer not null);
create table if not exists rejected (
    id integer primary key, payload text not null, error text not null, rejected_at real not null);
"""
_COLUMNS = {
    "events": "id, event_id, kind, camera_id, payload, stored_at", "open_events": "event_id, payload",
    "sequences": "camera_id, last", "rejected": "id, payload, error, rejected_at",
}  # fmt: skip
# What SQLite says of a file whose pages or header make no sense.
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

_log = logging.getLogger(__name__)
_ADD = "insert into events (event_id, kind, camera_id, payload, stored_at) values (?, ?, ?, ?, ?)"


class OutboxConfig(StrictModel):
    """Where events wait."""

    path: Path = Field(Path("outbox.db"), description="database file; its folder must exist or be creatable")
    max_events: int = Field(1_000_000, ge=10, description="most events kept")
    when_full: Literal["drop_oldest"] = Field(
        "drop_oldest", description="what gives way when it is full: the oldest `updated`, and only without any, the oldest event"
    )


class Outbox:
    """The event store of one pipeline. Methods may be called from any thread.

    Raises:
        OutboxError: the database cannot be opened or written; the message names the file.
    """

    def __init__(
        self, config: OutboxConfig, on_dropped: Callable[[str], None] = lambda kind: None, on_damaged: Callable[[], None] = lambda: None
    ) -> None:
        self._config, self._on_dropped, self._on_damaged, self._lock = config, on_dropped, on_damaged, threading.Lock()
        self._changed = threading.Condition()
        self._is_damaged, self._last_id = False, 0
        with contextlib.ExitStack() as opened:
            with self._explained():
                config.path.parent.mkdir(parents=True, exist_ok=True)
                was_ours = _lock_path(config.path).exists()  # else the path may name somebody's file, which is not moved away
                opened.enter_context(_claim(config.path))
            try:
                with self._explained():
                    self._open()
            except OutboxError:
                if not (self._is_damaged and was_ours):
                    raise
                with self._explained():
                    self._begin_anew()
            self._claimed = opened.pop_all()

    def append(self, events: Sequence[ActionEvent]) -> None:
        """Store events, all or none, in order."""
        if not events:
            return
        with self._transaction() as database:
            for event in events:
                payload = event.to_json()
                self._last_id = database.execute(_ADD, (event.event_id, event.kind, event.camera_id, payload, time.time())).lastrowid or 0
                if event.kind == "ended":
                    database.execute("delete from open_events where event_id = ?", (event.event_id,))
                else:
                    database.execute("insert or replace into open_events values (?, ?)", (event.event_id, payload))
                database.execute("insert or replace into sequences values (?, ?)", (event.camera_id, event.sequence))
            dropped = self._make_room(database, self._count + len(events) - self._config.max_events)
        self._count += len(events) - len(dropped)
        for kind in dropped:
            self._on_dropped(kind)
        with self._changed:
            self._changed.notify_all()

    def close_open_events(self) -> list[ActionEvent]:
        """End what a process that died left open, at its last sign of life, with reason `crash`; returns what was added."""
        with self._transaction() as database:
            payloads = [row[0] for row in database.execute("select payload from open_events order by rowid")]
            last = dict(database.execute("select camera_id, last from sequences"))
        closing = []
        for event in map(ActionEvent.from_json, payloads):
            last[event.camera_id] += 1
            closing.append(_crashed(event, last[event.camera_id]))
        self.append(closing)
        return closing

    def next_sequence(self, camera_id: str) -> int:
        """The number that the camera's next event gets."""
        with self._transaction() as database:
            row = database.execute("select last from sequences where camera_id = ?", (camera_id,)).fetchone()
        return int(row[0]) + 1 if row else 1

    def oldest(self, most: int, after_id: int = 0) -> list[StoredEvent]:
        """Up to `most` events after the one with this id, in order."""
        with self._transaction() as database:
            rows = database.execute("select id, payload from events where id > ? order by id limit ?", (after_id, most)).fetchall()
        stored = []
        for row_id, payload in rows:
            try:
                stored.append(StoredEvent(row_id, ActionEvent.from_json(payload)))
            except DataError as error:
                self.set_aside(row_id, str(error))
        return stored

    def remove(self, ids: Sequence[int]) -> None:
        """Forget events that the broker has acknowledged."""
        with self._transaction() as database:
            removed = database.executemany("delete from events where id = ?", [(value,) for value in ids]).rowcount
        self._count -= removed

    def set_aside(self, event_id: int, error: str) -> None:
        """Put an event that the broker will never take where it stops no other, with what was said of it."""
        with self._transaction() as database:
            insert = "insert or replace into rejected select id, payload, ?, ? from events where id = ?"
            database.execute(insert, (error, time.time(), event_id))
            removed = database.execute("delete from events where id = ?", (event_id,)).rowcount
        self._count -= removed

    def wait_for_change(self, timeout_seconds: float) -> None:
        """Return when events were added, or after the timeout."""
        with self._changed:
            self._changed.wait(timeout_seconds)

    def __len__(self) -> int:
        return self._count

    def oldest_age_seconds(self) -> float:
        """How long the oldest event has been waiting; 0 for an empty outbox."""
        with self._transaction() as database:
            stored_at = database.execute("select stored_at from events order by id limit 1").fetchone()
        return max(0.0, time.time() - stored_at[0]) if stored_at else 0.0

    def close(self) -> None:
        """Close the database; everything stored stays."""
        with self._lock, self._explained(), self._claimed:
            self._database.close()

    def _open(self) -> None:
        self._database = sqlite3.connect(self._config.path, timeout=2, check_same_thread=False, isolation_level=None)
        try:
            self._database.execute("pragma journal_mode = wal")
            self._database.execute("pragma synchronous = full")
            self._database.executescript(_TABLES)
            self._count = int(self._database.execute("select count(*) from events").fetchone()[0])
            last = self._database.execute("select seq from sqlite_sequence where name = 'events'").fetchone()
            self._last_id = max(self._last_id, int(last[0]) if last else 0)
        except BaseException:
            self._database.close()
            raise

    def _begin_anew(self) -> None:
        """Move a damaged database aside and take over what can be read of it."""
        path = self._config.path
        aside = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{time.monotonic_ns() % 1000:03d}")
        for ending in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                path.with_name(path.name + ending).rename(aside.with_name(aside.name + ending))
        rescued = _rescue(aside)
        self._open()
        with contextlib.closing(self._database.cursor()) as cursor:
            cursor.execute("begin immediate")
            for table, rows in rescued.items():
                places = ", ".join("?" * len(_COLUMNS[table].split(", ")))
                cursor.executemany(f"insert or ignore into {table} ({_COLUMNS[table]}) values ({places})", rows)
            # Whoever reads on from a number must not miss what comes: numbers never begin again.
            cursor.execute("delete from sqlite_sequence where name = 'events'")
            cursor.execute(
                "insert into sqlite_sequence values ('events', ?)", (max([self._last_id, *(int(str(r[0])) for r in rescued["events"])]),)
            )
            cursor.execute("commit")
        self._count = len(rescued["events"])
        self._is_damaged = False
        _log.error(
            "the outbox %s was damaged; it was moved to %s, and %d events that could be read of it were taken over",
            path, aside, len(rescued["events"]),
        )  # fmt: skip
        self._on_damaged()

    def _make_room(self, database: sqlite3.Connection, excess: int) -> list[str]:
        if excess <= 0:
            return []
        victims = database.execute("select id, kind from events where kind = 'updated' order by id limit ?", (excess,)).fetchall()
        if len(victims) < excess:
            others = "select id, kind from events where kind != 'updated' order by id limit ?"
            victims += database.execute(others, (excess - len(victims),)).fetchall()
        database.executemany("delete from events where id = ?", [(row[0],) for row in victims])
        return [row[1] for row in victims]

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._explained():
            if self._is_damaged:
                self._database.close()
                self._begin_anew()
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
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE:
                self._is_damaged = True
            raise OutboxError(
                f"outbox {self._config.path}: {error}; check that the disk has room and nothing else holds the file"
            ) from error


def _lock_path(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def _claim(path: Path) -> IO[bytes]:
    """Hold the outbox for this process: two writers would close each other's events.

    Raises:
        OutboxError: another process holds it.
    """
    lock = _lock_path(path).open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise OutboxError(f"outbox {path}: another process is using it; give each pipeline its own outbox.path") from None
    return lock


def _rescue(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Rows of a damaged database, as many as can be read from either end of each table."""
    rescued: dict[str, list[tuple[object, ...]]] = {table: [] for table in _COLUMNS}
    for table, columns in _COLUMNS.items():
        found: dict[tuple[object, ...], None] = {}
        for order in ("", " order by rowid desc"):
            with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path, timeout=2)) as database:
                for row in database.execute(f"select {columns} from {table}{order}"):
                    found[row] = None
        rescued[table] = sorted(filter(_is_whole, found), key=lambda row: str(row[0]).zfill(20))
    return rescued


def _is_whole(row: tuple[object, ...]) -> bool:
    """Whether a rescued row's event, if it holds one, can be read."""
    payloads = [value for value in row if isinstance(value, str) and value.startswith("{")]
    try:
        return all(ActionEvent.from_json(payload) for payload in payloads) and None not in row
    except DataError:
        return False


def _crashed(event: ActionEvent, sequence: int) -> ActionEvent:
    """The end of an event whose process died: as long as it was last known to last."""
    lasted = datetime.datetime.fromisoformat(event.produced_at) - datetime.datetime.fromisoformat(event.started_at)
    return dataclasses.replace(
        event, kind="ended", reason="crash", sequence=sequence, ended_at=event.produced_at,
        pts_end_seconds=round(event.pts_start_seconds + max(0.0, lasted.total_seconds()), 3),
    )  # fmt: skip


def read_events(path: Path, *, after_id: int = 0, most: int = -1) -> list[StoredEvent]:
    """Events of an outbox that another process may be writing, all or the first `most`; changes nothing.

    Raises:
        OutboxError: the file is missing or is not an outbox.
    """
    rows = _read(path, "select id, payload from events where id > ? order by id limit ?", after_id, most)
    return [StoredEvent(row[0], ActionEvent.from_json(row[1])) for row in rows]


def read_rejected(path: Path) -> list[tuple[str, str]]:
    """JSON of the events that were set aside because no broker takes them, oldest first, each with its error.

    Raises:
        OutboxError: the file is missing or is not an outbox.
    """
    return [(row[0], row[1]) for row in _read(path, "select payload, error from rejected order by id")]


def _read(path: Path, query: str, *values: int) -> list[tuple[Any, ...]]:
    if not is_file(path):
        raise OutboxError(f"outbox not found: {path}")
    try:
        with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=10)) as database:
            return database.execute(query, values).fetchall()
    except sqlite3.Error as error:
        raise OutboxError(f"{path} is not a readable outbox: {error}") from None
