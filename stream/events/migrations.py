"""The versions of the outbox's tables, and the steps from each version to the next.

Each file stores its version in SQLite's `user_version`; files from before versions were introduced
have version 0. To change the tables, add a step at the end of `MIGRATIONS`; never change a released
step.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from configs import OutboxError
from stream.events.sink_rows import FIRST_BIT, create_indices

__all__ = ["MIGRATIONS", "check_version", "has_sinks", "migrate", "open_for_reading"]

_FIRST_TABLES = (
    """create table if not exists events (
        id integer primary key autoincrement, event_id text not null, kind text not null,
        camera_id text not null, payload text not null, stored_at real not null)""",
    "create table if not exists open_events (event_id text primary key, payload text not null)",
    "create table if not exists sequences (camera_id text primary key, last integer not null)",
    """create table if not exists rejected (
        id integer primary key,
        payload text not null,
        error text not null,
        rejected_at real not null)""",
    "create index if not exists updated on events (id) where kind = 'updated'",
)


def _to_version_1(database: sqlite3.Connection) -> None:
    """Create the missing tables: new files have none, files of version 0 already have them."""
    for statement in _FIRST_TABLES:
        database.execute(statement)


_SINKS = """create table if not exists sinks (
    name text primary key, bit integer not null unique, filter text not null)"""
_REJECTED = """create table rejected (
    number integer primary key,
    id integer not null,
    payload text not null,
    error text not null,
    rejected_at real not null,
    sink text)"""


def _to_version_2(database: sqlite3.Connection) -> None:
    """Note for each event which sinks have still to take it, and for each dead letter its sink.

    Stored events keep the bit that Kafka has, and that events have which are kept for it. So do
    actions that are open: `given` has the bits of the sinks that have been given events of them.
    """
    if not _has_column(database, "events", "waiting"):
        database.execute("alter table events add column waiting integer not null default 1")
        database.execute("alter table events add column traceparent text")
    if not _has_column(database, "open_events", "given"):
        database.execute("alter table open_events add column given integer not null default 1")
    database.execute(_SINKS)
    database.execute("drop index if exists updated")
    create_indices(database, FIRST_BIT)
    if not _has_column(database, "rejected", "sink"):
        database.execute("alter table rejected rename to rejected_1")
        database.execute(_REJECTED)
        database.execute(
            "insert into rejected (id, payload, error, rejected_at)"
            " select id, payload, error, rejected_at from rejected_1 order by id"
        )
        database.execute("drop table rejected_1")
    # One event may be refused by several sinks.
    database.execute(
        "create unique index if not exists refused on rejected (id, coalesce(sink, ''))"
    )


def _has_column(database: sqlite3.Connection, table: str, column: str) -> bool:
    rows = database.execute("select name from pragma_table_info(?)", (table,))
    return (column,) in rows.fetchall()


def has_sinks(database: sqlite3.Connection) -> bool:
    """Return whether an outbox has the tables of version 2, with the sinks of each event."""
    return _has_column(database, "events", "waiting")


# The step at index n migrates from version n to version n + 1.
MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (_to_version_1, _to_version_2)


def migrate(database: sqlite3.Connection, path: Path) -> None:
    """Migrate an open database to the current version, in one transaction: all steps or none.

    Args:
        database: connection without implicit transactions (`isolation_level=None`).
        path: name of the file, for messages.

    Raises:
        OutboxError: a newer release wrote the file.
        sqlite3.Error: a step failed; the file is unchanged.
    """
    if check_version(database, path) == len(MIGRATIONS):
        return
    database.execute("begin immediate")
    try:
        for step in MIGRATIONS[check_version(database, path) :]:
            step(database)
        database.execute(f"pragma user_version = {len(MIGRATIONS)}")
        database.execute("commit")
    except BaseException:
        if database.in_transaction:  # SQLite rolls back by itself if the disk is full
            database.execute("rollback")
        raise


def check_version(database: sqlite3.Connection, path: Path) -> int:
    """Return the version of an open database.

    Raises:
        OutboxError: this release does not know the version.
    """
    version = int(database.execute("pragma user_version").fetchone()[0])
    refuse_unknown(version, path)
    return version


def refuse_unknown(version: int, path: Path) -> None:
    """Refuse the version of an outbox that this release does not know.

    Raises:
        OutboxError: it is such a version; the message names the file and the remedy.
    """
    current = len(MIGRATIONS)
    if not 0 <= version <= current:
        raise OutboxError(
            f"outbox {path}: the file has version {version}, this release reads versions 0 to"
            f" {current}; use the newer release that wrote it, or name another file in outbox.path"
        )


@contextlib.contextmanager
def open_for_reading(path: Path, timeout_seconds: float) -> Iterator[sqlite3.Connection]:
    """Open an existing outbox read-only, and close it when the block ends.

    Raises:
        OutboxError: this release does not know the file's version.
        sqlite3.Error: the file cannot be read.
    """
    address = f"{path.resolve().as_uri()}?mode=ro"
    with contextlib.closing(
        sqlite3.connect(address, uri=True, timeout=timeout_seconds)
    ) as database:
        check_version(database, path)
        yield database
