"""Events on disk before they go anywhere: a SQLite database in write-ahead mode.

Without a broker the outbox is where events end; with one, a publisher drains it. Which events are
open is kept in the same transaction, so a process that died is tidied up after at the next start. A
damaged database is moved aside, and what can still be read of it goes on in a new one.
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
from typing import IO, Any

from configs import DataError, OutboxError, is_file
from stream.events.config import OutboxConfig
from stream.events.event import ActionEvent, StoredEvent
from stream.events.migrations import migrate, open_for_reading
from stream.events.recovery import BUSY_SECONDS, finish_rescue, rescue

__all__ = ["Outbox", "read_events", "read_rejected"]

_log = logging.getLogger(__name__)
# What SQLite says of a file whose pages or header make no sense.
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_MOST_REJECTED = 10_000
# A start waits for as long as this for another program's lock, and a scrape for ours.
_START_SECONDS = 10.0
_GLANCE_SECONDS = 0.2
_ADD = "insert into events (event_id, kind, camera_id, payload, stored_at) values (?, ?, ?, ?, ?)"


class Outbox:
    """The event store of one pipeline. Methods may be called from any thread.

    Raises:
        OutboxError: the database cannot be opened or written, or a newer release wrote it; the
            message names the file.
    """

    def __init__(
        self,
        config: OutboxConfig,
        on_dropped: Callable[[str], None] = lambda kind: None,
        on_damaged: Callable[[], None] = lambda: None,
    ) -> None:
        self._config = config
        self._on_dropped = on_dropped
        self._on_damaged = on_damaged
        self._lock = threading.Lock()
        self._changed = threading.Condition()
        self._is_damaged = False
        self._last_id = 0
        self.is_rescuing = False
        self._sequences: dict[str, int] = {}
        self._oldest_at: float | None = None
        with contextlib.ExitStack() as opened:
            with self._explained():
                config.path.parent.mkdir(parents=True, exist_ok=True)
                # else the path may name somebody's file, which is not moved away
                was_ours = _lock_path(config.path).exists()
                opened.enter_context(_claim(config.path))
            try:
                with self._explained():
                    self._open()
            except OutboxError as error:
                if not was_ours:
                    # or the next start would take the file for ours
                    _lock_path(config.path).unlink()
                if self._is_damaged and not was_ours:
                    raise OutboxError(
                        f"outbox.path: {config.path} exists and is not a readable outbox; name"
                        " another file, or move it away"
                    ) from error
                if not self._is_damaged:
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
                self._last_id = (
                    database.execute(
                        _ADD, (event.event_id, event.kind, event.camera_id, payload, time.time())
                    ).lastrowid
                    or 0
                )
                if event.kind == "ended":
                    database.execute(
                        "delete from open_events where event_id = ?", (event.event_id,)
                    )
                else:
                    database.execute(
                        "insert or replace into open_events values (?, ?)",
                        (event.event_id, payload),
                    )
            last = {event.camera_id: event.sequence for event in events}
            database.executemany("insert or replace into sequences values (?, ?)", last.items())
            dropped = self._make_room(database, self._count + len(events) - self._config.max_events)
        self._count += len(events) - len(dropped)
        self._sequences |= last
        for kind in dropped:
            self._on_dropped(kind)
        with self._changed:
            self._changed.notify_all()

    def close_open_events(self) -> list[ActionEvent]:
        """End what a process that died left open, at its last sign of life, with reason `crash`;
        returns what was added.
        """
        with self._patience():
            return self._close_open_events()

    def _close_open_events(self) -> list[ActionEvent]:
        with self._reading() as database:
            rows = database.execute(
                "select event_id, cast(payload as blob) from open_events order by rowid"
            ).fetchall()
        closing = []
        unreadable = []
        last = dict(self._sequences)
        for event_id, payload in rows:
            try:
                event = ActionEvent.from_json(payload)
            except DataError as error:
                unreadable.append((event_id,))
                _log.error(
                    "the open event %s cannot be read and is left without an end: %s",
                    event_id,
                    error,
                )
                continue
            last[event.camera_id] = last.get(event.camera_id, event.sequence) + 1
            closing.append(_crashed(event, last[event.camera_id]))
        if unreadable:
            with self._transaction() as database:
                database.executemany("delete from open_events where event_id = ?", unreadable)
        self.append(closing)
        return closing

    def next_sequence(self, camera_id: str) -> int:
        """The number that the camera's next event gets."""
        return self._sequences.get(camera_id, 0) + 1

    def oldest(self, most: int, after_id: int = 0) -> list[StoredEvent]:
        """Up to `most` events after the one with this id, in order. What cannot be read is set
        aside.
        """
        with self._reading() as database:
            query = "select id, cast(payload as blob) from events where id > ? order by id limit ?"
            rows = database.execute(query, (after_id, most)).fetchall()
        stored = []
        for row_id, payload in rows:
            try:
                stored.append(StoredEvent(row_id, ActionEvent.from_json(payload)))
            except DataError as error:
                _log.error("event number %d cannot be read and was set aside: %s", row_id, error)
                self.set_aside(row_id, str(error))
        return stored

    def remove(self, ids: Sequence[int]) -> None:
        """Forget events that the broker has acknowledged."""
        with self._transaction() as database:
            removed = database.executemany(
                "delete from events where id = ?", [(value,) for value in ids]
            ).rowcount
        self._count -= removed

    def set_aside(self, event_id: int, error: str) -> None:
        """Put an event that the broker will never take where it stops no other, with what was
        said of it; the latest are kept.
        """
        with self._transaction() as database:
            insert = (
                "insert or replace into rejected select id, payload, ?, ? from events where id = ?"
            )
            database.execute(insert, (error, time.time(), event_id))
            removed = database.execute("delete from events where id = ?", (event_id,)).rowcount
            newest = "select id from rejected order by id desc limit ?"
            database.execute(f"delete from rejected where id not in ({newest})", (_MOST_REJECTED,))
        self._count -= removed

    def wait_for_change(self, timeout_seconds: float) -> None:
        """Return when events were added, or after the timeout."""
        with self._changed:
            self._changed.wait(timeout_seconds)

    def __len__(self) -> int:
        return self._count

    def oldest_age_seconds(self) -> float:
        """How long the oldest event has been waiting; 0 for an empty outbox. While the disk
        stands still, by what was last known.
        """
        if self._lock.acquire(timeout=_GLANCE_SECONDS):
            try:
                with self._explained():
                    row = self._database.execute(
                        "select stored_at from events order by id limit 1"
                    ).fetchone()
                self._oldest_at = row[0] if row else None
            finally:
                self._lock.release()
        return 0.0 if self._oldest_at is None else max(0.0, time.time() - self._oldest_at)

    def close(self) -> None:
        """Close the database; everything stored stays."""
        with self._lock, self._explained(), self._claimed:
            self._database.close()

    def _open(self) -> None:
        path = self._config.path
        self._refuse_newer(path)
        finish_rescue(path)  # a process may have died in the middle of one
        self._database = sqlite3.connect(
            path, timeout=_START_SECONDS, check_same_thread=False, isolation_level=None
        )
        try:
            mode = self._database.execute("pragma journal_mode = wal").fetchone()[0]
            if mode != "wal":
                _log.warning(
                    "outbox %s: this file system has no write-ahead log (%s); readers and writers"
                    " will wait for each other",
                    path,
                    mode,
                )
            self._database.execute("pragma synchronous = full")
            migrate(self._database, path)
            self._count = int(self._database.execute("select count(*) from events").fetchone()[0])
            last = self._database.execute(
                "select seq from sqlite_sequence where name = 'events'"
            ).fetchone()
            self._last_id = max(self._last_id, int(last[0]) if last else 0)
            for camera_id, sequence in self._database.execute(
                "select camera_id, last from sequences"
            ):
                self._sequences[camera_id] = max(self._sequences.get(camera_id, 0), sequence)
            self._wait_for_locks(BUSY_SECONDS)
        except BaseException:
            self._database.close()
            raise

    def _refuse_newer(self, path: Path) -> None:
        """Refuse a file that a newer release wrote, before anything is changed or moved."""
        if is_file(path):
            with contextlib.suppress(sqlite3.Error), open_for_reading(path, _START_SECONDS):
                pass  # a file that cannot be read is dealt with when it is opened

    def _wait_for_locks(self, seconds: float) -> None:
        self._database.execute(f"pragma busy_timeout = {round(seconds * 1000)}")

    @contextlib.contextmanager
    def _patience(self) -> Iterator[None]:
        """Wait longer for other programs' locks than while cameras run."""
        self._wait_for_locks(_START_SECONDS)
        try:
            yield
        finally:
            self._wait_for_locks(BUSY_SECONDS)

    def _begin_anew(self) -> None:
        """Put what can be read of a damaged database into a new one, and that in its place; the
        damaged one is moved aside.
        """
        path = self._config.path
        self.is_rescuing = True
        try:
            aside = rescue(path, self._sequences, self._last_id)
        finally:
            self.is_rescuing = False
        self._open()
        self._is_damaged = False
        _log.error(
            "the outbox %s was damaged and moved to %s; %d events that could be read of it go on in"
            " a new one",
            path,
            aside,
            self._count,
        )
        self._on_damaged()

    def _make_room(self, database: sqlite3.Connection, excess: int) -> list[str]:
        if excess <= 0:
            return []
        victims = database.execute(
            "select id, kind from events where kind = 'updated' order by id limit ?", (excess,)
        ).fetchall()
        if len(victims) < excess:
            others = "select id, kind from events where kind != 'updated' order by id limit ?"
            victims += database.execute(others, (excess - len(victims),)).fetchall()
        database.executemany("delete from events where id = ?", [(row[0],) for row in victims])
        return [row[1] for row in victims]

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._reading() as database:
            database.execute("begin immediate")
            try:
                yield database
                database.execute("commit")
            except BaseException:
                if database.in_transaction:  # a full disk ends it by itself
                    database.execute("rollback")
                raise

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._explained():
            if self._is_damaged:
                self._database.close()
                self._begin_anew()
            yield self._database

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE:
                self._is_damaged = True
            raise OutboxError(
                f"outbox {self._config.path}: {error}; check that the disk has room and nothing"
                " else holds the file"
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
        raise OutboxError(
            f"outbox {path}: another process is using it; give each pipeline its own outbox.path"
        ) from None
    return lock


def _crashed(event: ActionEvent, sequence: int) -> ActionEvent:
    """The end of an event whose process died: as long as it was last known to last."""
    lasted = datetime.datetime.fromisoformat(event.produced_at) - datetime.datetime.fromisoformat(
        event.started_at
    )
    # the camera's clock may be ahead of ours
    ended_at = max(event.produced_at, event.started_at, key=datetime.datetime.fromisoformat)
    return dataclasses.replace(
        event,
        kind="ended",
        reason="crash",
        sequence=sequence,
        ended_at=ended_at,
        pts_end_seconds=round(event.pts_start_seconds + max(0.0, lasted.total_seconds()), 3),
    )


def read_events(path: Path, *, after_id: int = 0, most: int = -1) -> list[StoredEvent]:
    """Events of an outbox that another process may be writing, all or the first `most`; changes
    nothing.

    Raises:
        OutboxError: the file is missing, is not an outbox, or a newer release wrote it.
    """
    stored = []
    for row_id, payload in _read(
        path,
        "select id, cast(payload as blob) from events where id > ? order by id limit ?",
        after_id,
        most,
    ):
        try:
            stored.append(StoredEvent(row_id, ActionEvent.from_json(payload)))
        except DataError as error:
            _log.warning("event number %d of %s is left out: %s", row_id, path, error)
    return stored


def read_rejected(path: Path) -> list[tuple[str, str]]:
    """JSON of the events that were set aside because no broker takes them, oldest first, each with
    its error.

    Raises:
        OutboxError: the file is missing, is not an outbox, or a newer release wrote it.
    """
    rows = _read(path, "select cast(payload as blob), error from rejected order by id")
    return [(bytes(payload).decode(errors="replace"), error) for payload, error in rows]


def _read(path: Path, query: str, *values: int) -> list[tuple[Any, ...]]:
    if not is_file(path):
        raise OutboxError(f"outbox not found: {path}")
    try:
        with open_for_reading(path, _START_SECONDS) as database:
            return database.execute(query, values).fetchall()
    except sqlite3.Error as error:
        raise OutboxError(f"{path} is not a readable outbox: {error}") from None
