"""The database of an outbox: opens it, waits for locks, and replaces it if it is damaged."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from configs import OutboxError, is_file
from configs.file_lock import FileLock
from configs.private_files import create_private, make_private_folder
from stream.events.migrations import migrate, open_for_reading
from stream.events.outbox_lock import lock_outbox
from stream.events.recovery import finish_recovery, recover
from stream.events.sink_rows import FIRST_BIT, Transaction, names_of_indices, waits

__all__ = ["BUSY_SECONDS", "START_SECONDS", "OutboxDatabase"]

_log = logging.getLogger(__name__)
# SQLite's error codes for a file with a damaged page or header.
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
# Maximum time to wait for another program's lock: while cameras run, and at the start.
BUSY_SECONDS = 0.25
START_SECONDS = 10.0
# The write-ahead log is cut to this size once its content is in the database.
_MAX_LOG_BYTES = 16_777_216


class OutboxDatabase:
    """The open database of one pipeline's outbox. Any thread may call its methods.

    Damage is detected when the database is used. That call fails; the next call replaces the
    database with a new one that contains all readable events. `count` is the number of events,
    `waiting` the number of those that wait for a sink, by its bit; `bits` and `filters` are the bit
    of each known sink and the JSON of its filter. `last_id` is the highest event id, and
    `sequences` the last sequence number of each camera, or of each camera in an epoch
    (`camera@epoch`). `last_id` and `sequences` never decrease, even after a damaged database is
    replaced.

    Args:
        path: the database file.
        on_damaged: called when a damaged database has been replaced.
        busy_seconds: maximum time to wait for another program's lock while cameras run.

    Raises:
        OutboxError: the database cannot be opened or written, a newer release wrote it, or it is
            not an outbox; the message names the file.
    """

    def __init__(
        self,
        path: Path,
        *,
        on_damaged: Callable[[], None] = lambda: None,
        busy_seconds: float = BUSY_SECONDS,
    ) -> None:
        self.count = 0
        self.waiting: dict[int, int] = {FIRST_BIT: 0}
        self.bits: dict[str, int] = {}
        self.filters: dict[str, str] = {}
        self.last_id = 0
        self.sequences: dict[str, int] = {}
        self.is_recovering = False
        self._path = path
        self._on_damaged = on_damaged
        self._busy_seconds = busy_seconds
        self._lock = threading.Lock()
        self._is_damaged = False
        with contextlib.ExitStack() as opened:
            with self._explained():
                make_private_folder(path.parent)
                file_lock = lock_outbox(path)
            opened.callback(file_lock.release)
            self._open_or_recover(file_lock)
            self._warn_of_readers()
            self._opened = opened.pop_all()

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection for exclusive use; replace a damaged database first.

        Raises:
            OutboxError: the database cannot be read.
        """
        with self._lock, self._explained():
            if self._is_damaged:
                self._connection.close()
                self._recover()
            yield self._connection

    @contextlib.contextmanager
    def try_reading(self, timeout_seconds: float) -> Iterator[sqlite3.Connection | None]:
        """Yield the connection, or None if another thread still uses it after the timeout.

        Raises:
            OutboxError: the database cannot be read.
        """
        if not self._lock.acquire(timeout=timeout_seconds):
            yield None
            return
        try:
            with self._explained():
                yield self._connection
        finally:
            self._lock.release()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Run a transaction and update `count` and `waiting`; on any error, roll back.

        Raises:
            OutboxError: the database cannot be written.
        """
        with self.reading() as connection:
            change = Transaction(connection)
            connection.execute("begin immediate")
            try:
                yield change
                connection.execute("commit")
            except BaseException:
                if connection.in_transaction:  # SQLite rolls back by itself if the disk is full
                    connection.execute("rollback")
                raise
            self.count += change.added
            for bit, number in change.waiting.items():
                self.waiting[bit] = self.waiting.get(bit, 0) + number

    @contextlib.contextmanager
    def patience(self) -> Iterator[None]:
        """Inside the block, wait up to `START_SECONDS` for other programs' locks."""
        self._wait_for_locks(START_SECONDS)
        try:
            yield
        finally:
            self._wait_for_locks(self._busy_seconds)

    def close(self) -> None:
        """Close the database; stored events are kept."""
        with self._lock, self._explained(), self._opened:
            self._connection.close()

    def _open_or_recover(self, file_lock: FileLock) -> None:
        try:
            with self._explained():
                self._open()
        except OutboxError as error:
            if file_lock.is_new:
                file_lock.remove()
            if not self._is_damaged:
                raise
            if file_lock.is_new:
                raise OutboxError(
                    f"outbox.path: {self._path} exists and is not a readable outbox; name another"
                    " file, or move it away"
                ) from error
            with self._explained():
                self._recover()

    def _open(self) -> None:
        self._refuse_newer()
        finish_recovery(self._path)  # a process may have been killed during a recovery
        create_private(self._path.resolve())  # SQLite gives its log the same permissions
        self._connection = sqlite3.connect(
            self._path, timeout=START_SECONDS, check_same_thread=False, isolation_level=None
        )
        try:
            self._set_up()
            self._load_numbers()
            self._wait_for_locks(self._busy_seconds)
        except BaseException:
            self._connection.close()
            raise

    def _refuse_newer(self) -> None:
        """Refuse a file that a newer release wrote, before anything is changed or moved."""
        if is_file(self._path):
            with contextlib.suppress(sqlite3.Error), open_for_reading(self._path, START_SECONDS):
                pass  # `_open` handles a file that cannot be read

    def _warn_of_readers(self) -> None:
        """Warn of an outbox that every user may read, as version 0.1.0 created it."""
        with self._explained():
            mode = self._path.stat().st_mode
        if mode & 0o007:
            _log.warning(
                "outbox %s: every user of this machine may read the events; chmod 600 %s, or 640"
                " if its group reads them",
                self._path,
                self._path,
            )

    def _set_up(self) -> None:
        mode = self._connection.execute("pragma journal_mode = wal").fetchone()[0]
        if mode != "wal":
            _log.warning(
                "outbox %s: no write-ahead log on this file system (mode %s); readers and writers"
                " wait for each other",
                self._path,
                mode,
            )
        self._connection.execute("pragma synchronous = full")
        self._connection.execute(f"pragma journal_size_limit = {_MAX_LOG_BYTES}")
        migrate(self._connection, self._path)

    def _load_numbers(self) -> None:
        execute = self._connection.execute
        self.count = int(execute("select count(*) from events").fetchone()[0])
        self.bits |= names_of_indices(self._connection)  # the table may have been damaged
        for name, bit, text in execute("select name, bit, filter from sinks").fetchall():
            self.bits[name], self.filters[name] = bit, text
        self.waiting = {
            bit: int(execute(f"select count(*) from events where {waits(bit)}").fetchone()[0])
            for bit in {FIRST_BIT, *self.bits.values()}
        }
        last = execute("select seq from sqlite_sequence where name = 'events'").fetchone()
        self.last_id = max(self.last_id, int(last[0]) if last else 0)
        for camera_id, sequence in execute("select camera_id, last from sequences"):
            self.sequences[camera_id] = max(self.sequences.get(camera_id, 0), sequence)

    def _wait_for_locks(self, seconds: float) -> None:
        self._connection.execute(f"pragma busy_timeout = {round(seconds * 1000)}")

    def _recover(self) -> None:
        """Move the damaged database away and open a new one that contains its readable events."""
        self.is_recovering = True
        try:
            known = {name: (bit, self.filters.get(name, "")) for name, bit in self.bits.items()}
            moved_to = recover(self._path, self.sequences, self.last_id, known)
        finally:
            self.is_recovering = False
        self._open()
        self._is_damaged = False
        _log.error(
            "Outbox %s was corrupt; moved it to %s and recovered %d events",
            self._path,
            moved_to,
            self.count,
        )
        self._on_damaged()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE:
                self._is_damaged = True
            raise OutboxError(
                f"outbox {self._path}: {error}; check that the disk has room and nothing else holds"
                " the file"
            ) from error
