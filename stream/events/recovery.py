"""Recovery replaces a damaged outbox with a new one that contains everything still readable.

The process may be killed at any moment without losing recovered events. The new database is
completely written under its own name before the damaged one is moved. If the process is killed
after that, the next start finishes the replacement.

Files beside `outbox.db`: `outbox.db.rescued` is a complete new database that has not yet replaced
the damaged one; `outbox.db.damaged-...` is a damaged database that was moved away. Version 0.1.0
also wrote an incomplete `outbox.db.rescuing`; a leftover one is deleted.
"""

from __future__ import annotations

import contextlib
import glob
import sqlite3
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from configs import DataError, replaced_file
from configs.private_files import PRIVATE_FILE, narrow
from stream.events.event import ActionEvent
from stream.events.migrations import migrate

__all__ = ["finish_recovery", "recover"]

# Maximum time to wait for another program's lock on the damaged database.
_LOCK_SECONDS = 0.25
_MAX_DAMAGED = 5


def recover(damaged: Path, sequences: dict[str, int], last_id: int) -> Path:
    """Replace a damaged database with a new one that contains its readable rows.

    Event ids and sequence numbers continue from the old ones. Otherwise a reader that remembers its
    last id would miss new events.

    Args:
        damaged: path of the damaged database.
        sequences: last known sequence number of each camera, or of each camera in an epoch.
        last_id: last known event id.

    Returns:
        The new path of the damaged database.

    Raises:
        OSError, sqlite3.Error: the new database cannot be written; the damaged one was not moved.
    """
    damaged.with_name(damaged.name + ".rescuing").unlink(missing_ok=True)
    recovered = _recovered_path(damaged)
    if not recovered.exists():
        mode = stat.S_IMODE(damaged.stat().st_mode) if damaged.exists() else PRIVATE_FILE
        # When this block ends, the new database is complete and the damaged one may be moved.
        with replaced_file(recovered, mode=mode, durable=True) as partial:
            _copy(damaged, partial, sequences, last_id)
    moved_to = finish_recovery(damaged)
    assert moved_to is not None
    return moved_to


def finish_recovery(path: Path) -> Path | None:
    """If a recovered database exists, move the damaged one away and put the recovered one there.

    Returns:
        The new path of the damaged database; None if there was no recovered database.
    """
    recovered = _recovered_path(path)
    if not recovered.exists():
        return None
    moment = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    moved_to = path.with_name(f"{path.name}.damaged-{moment}-{time.monotonic_ns() % 1000:03d}")
    for ending in ("-wal", "-shm", ""):
        file = path.with_name(path.name + ending)
        narrow(file)  # nobody else needs the damaged one
        with contextlib.suppress(FileNotFoundError):
            file.rename(moved_to.with_name(moved_to.name + ending))
    recovered.rename(path)
    _delete_old_damaged(path)
    return moved_to


def _delete_old_damaged(path: Path) -> None:
    """Keep the latest damaged databases only: a bad disk must not fill up with them."""
    names = {
        file.name.removesuffix("-wal").removesuffix("-shm")
        for file in path.parent.glob(f"{glob.escape(path.name)}.damaged-*")
    }
    for name in sorted(names)[:-_MAX_DAMAGED]:
        for ending in ("-wal", "-shm", ""):
            with contextlib.suppress(OSError):
                path.with_name(name + ending).unlink()


def _recovered_path(path: Path) -> Path:
    return path.with_name(path.name + ".rescued")


def _copy(damaged: Path, recovered: Path, sequences: dict[str, int], last_id: int) -> None:
    """Copy all readable rows into a new database."""
    known = dict(sequences)

    def note(numbering: str, sequence: int) -> None:
        known[numbering] = max(known.get(numbering, 0), sequence)

    with contextlib.closing(sqlite3.connect(recovered, isolation_level=None)) as database:
        migrate(database, recovered)
        database.execute("begin")
        columns = "cast(payload as blob), id, event_id, kind, camera_id, stored_at"
        for row, event in _events(damaged, "events", columns):
            values = (*row[1:5], bytes(row[0]).decode(), row[5])
            database.execute("insert or ignore into events values (?, ?, ?, ?, ?, ?)", values)
            note(event.numbering, event.sequence)
        for row, event in _events(damaged, "open_events", "cast(payload as blob), event_id"):
            values = (row[1], bytes(row[0]).decode())
            database.execute("insert or ignore into open_events values (?, ?)", values)
            note(event.numbering, event.sequence)
        for numbering, last in _rows(damaged, "sequences", "camera_id, last"):
            if isinstance(numbering, str) and isinstance(last, int):
                note(numbering, last)
        for row in _rows(damaged, "rejected", "id, cast(payload as text), error, rejected_at"):
            database.execute("insert or ignore into rejected values (?, ?, ?, ?)", row)
        database.executemany("insert into sequences values (?, ?)", known.items())
        _continue_ids(database, last_id)
        database.execute("commit")


def _continue_ids(database: sqlite3.Connection, last_id: int) -> None:
    """Make the ids of new events continue after the highest id used so far."""
    (highest,) = database.execute("select coalesce(max(id), 0) from events").fetchone()
    following = max(last_id, highest)
    database.execute("delete from sqlite_sequence where name = 'events'")
    database.execute("insert into sqlite_sequence values ('events', ?)", (following,))


def _events(path: Path, table: str, columns: str) -> Iterator[tuple[tuple[Any, ...], ActionEvent]]:
    """Yield each row whose first column is a valid event, with that event."""
    for row in _rows(path, table, columns):
        with contextlib.suppress(DataError):
            yield row, ActionEvent.from_json(row[0])


def _rows(path: Path, table: str, columns: str) -> Iterator[tuple[Any, ...]]:
    """Yield rows from the first to the first unreadable one, then backwards from the last row.

    Rows with a missing value are left out; a row may be yielded twice.
    """
    for order in ("", " order by rowid desc"):
        try:
            with contextlib.closing(sqlite3.connect(path, timeout=_LOCK_SECONDS)) as database:
                for row in database.execute(f"select {columns} from {table}{order}"):
                    if None not in row:
                        yield row
        except sqlite3.Error:
            continue
        return
