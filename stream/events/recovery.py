"""What can be read of a damaged outbox, put into a new one that takes its place.

Killed at any moment, nothing that was rescued is lost: the new database is whole on disk, under its
own name, before the damaged one is moved, and from then on every start finishes what was begun.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from configs import DataError
from stream.events.event import ActionEvent
from stream.events.migrations import migrate

__all__ = ["BUSY_SECONDS", "finish_rescue", "rescue"]

# Foreign readers hold the database for milliseconds; whoever holds it for longer must not hold
# others up.
BUSY_SECONDS = 0.25


def rescue(damaged: Path, sequences: dict[str, int], last_id: int) -> Path:
    """Put a new database with what can be read in the place of a damaged one.

    Numbers go on where they were: whoever reads on from a number must not miss what comes.

    Args:
        sequences: the last number of each camera, as far as it is known.
        last_id: the last number of an event, as far as it is known.

    Returns:
        Where the damaged database is now.

    Raises:
        OSError, sqlite3.Error: the new database cannot be written; then the damaged one is where it
            was.
    """
    if not _rescued_path(damaged).exists():
        partial = damaged.with_name(damaged.name + ".rescuing")
        partial.unlink(missing_ok=True)
        _copy(damaged, partial, sequences, last_id)
        partial.rename(_rescued_path(damaged))  # from here on the damaged one is given up
    aside = finish_rescue(damaged)
    assert aside is not None
    return aside


def finish_rescue(path: Path) -> Path | None:
    """Move a damaged database aside and the rescued one, if there is one, into its place;
    returns where the damaged one is.
    """
    if not _rescued_path(path).exists():
        return None
    moment = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    aside = path.with_name(f"{path.name}.damaged-{moment}-{time.monotonic_ns() % 1000:03d}")
    for ending in ("-wal", "-shm", ""):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + ending).rename(aside.with_name(aside.name + ending))
    _rescued_path(path).rename(path)
    return aside


def _rescued_path(path: Path) -> Path:
    return path.with_name(path.name + ".rescued")


def _copy(damaged: Path, rescued: Path, sequences: dict[str, int], last_id: int) -> None:
    """Copy what can be read into a new database."""
    known = dict(sequences)

    def note(event: ActionEvent) -> None:
        known[event.camera_id] = max(known.get(event.camera_id, 0), event.sequence)

    with contextlib.closing(sqlite3.connect(rescued, isolation_level=None)) as database:
        migrate(database, rescued)
        database.execute("begin")
        for row, event in _events(
            damaged, "events", "cast(payload as blob), id, event_id, kind, camera_id, stored_at"
        ):
            values = (*row[1:5], bytes(row[0]).decode(), row[5])
            database.execute("insert or ignore into events values (?, ?, ?, ?, ?, ?)", values)
            note(event)
        for row, event in _events(damaged, "open_events", "cast(payload as blob), event_id"):
            database.execute(
                "insert or ignore into open_events values (?, ?)", (row[1], bytes(row[0]).decode())
            )
            note(event)
        for camera_id, last in _rows(damaged, "sequences", "camera_id, last"):
            if isinstance(camera_id, str) and isinstance(last, int):
                known[camera_id] = max(known.get(camera_id, 0), last)
        for row in _rows(damaged, "rejected", "id, cast(payload as text), error, rejected_at"):
            database.execute("insert or ignore into rejected values (?, ?, ?, ?)", row)
        database.executemany("insert into sequences values (?, ?)", known.items())
        (highest,) = database.execute("select coalesce(max(id), 0) from events").fetchone()
        database.execute("delete from sqlite_sequence where name = 'events'")
        database.execute(
            "insert into sqlite_sequence values ('events', ?)", (max(last_id, highest),)
        )
        database.execute("commit")


def _events(path: Path, table: str, columns: str) -> Iterator[tuple[tuple[Any, ...], ActionEvent]]:
    """Rows whose first column is an event, with it; others are left out."""
    for row in _rows(path, table, columns):
        with contextlib.suppress(DataError):
            yield row, ActionEvent.from_json(row[0])


def _rows(path: Path, table: str, columns: str) -> Iterator[tuple[Any, ...]]:
    """Rows of a table from the first on as far as they can be read, then from the last back;
    those with a hole are left out.
    """
    for order in ("", " order by rowid desc"):
        try:
            with contextlib.closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as database:
                for row in database.execute(f"select {columns} from {table}{order}"):
                    if None not in row:
                        yield row
        except sqlite3.Error:
            continue
        return
