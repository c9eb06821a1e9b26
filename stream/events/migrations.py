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

__all__ = ["MIGRATIONS", "check_version", "migrate", "open_for_reading"]

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


# The step at index n migrates from version n to version n + 1.
MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (_to_version_1,)


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
