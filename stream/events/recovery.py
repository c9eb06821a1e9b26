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
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from configs import DataError, replaced_file
from configs.private_files import PRIVATE_FILE, narrow
from stream.events.event import ActionEvent
from stream.events.migrations import has_sinks, migrate
from stream.events.sink_rows import FIRST_BIT, create_indices, names_of_indices

__all__ = ["finish_recovery", "recover"]

# Maximum time to wait for another program's lock on the damaged database.
_LOCK_SECONDS = 0.25
_MAX_DAMAGED = 5
_MAX_BITS = 63
_ADD_EVENT = "insert or ignore into events values (?, ?, ?, ?, ?, ?, ?, ?)"
_ADD_DEAD_LETTER = (
    "insert or ignore into rejected (id, payload, error, rejected_at, sink) values (?, ?, ?, ?, ?)"
)


def recover(
    damaged: Path,
    sequences: dict[str, int],
    last_id: int,
    sinks: Mapping[str, tuple[int, str]] | None = None,
) -> Path:
    """Replace a damaged database with a new one that contains its readable rows.

    Event ids and sequence numbers continue from the old ones. Otherwise a reader that remembers its
    last id would miss new events.

    Args:
        damaged: path of the damaged database.
        sequences: last known sequence number of each camera, or of each camera in an epoch.
        last_id: last known event id.
        sinks: bit and filter of each sink that is known; more are read from the file.

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
            _copy(damaged, partial, sequences, last_id, sinks or {})
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


def _copy(
    damaged: Path,
    recovered: Path,
    sequences: dict[str, int],
    last_id: int,
    sinks: Mapping[str, tuple[int, str]],
) -> None:
    """Copy all readable rows into a new database."""
    known = dict(sequences)
    is_new = _has_sinks(damaged)
    sinks = (_readable_sinks(damaged) | dict(sinks)) if is_new else {}
    all_bits = sum(1 << bit for bit in {FIRST_BIT, *(bit for bit, _ in sinks.values())})

    def note(numbering: str, sequence: int) -> None:
        known[numbering] = max(known.get(numbering, 0), sequence)

    with contextlib.closing(sqlite3.connect(recovered, isolation_level=None)) as database:
        migrate(database, recovered)
        database.execute("begin")
        for name, (bit, text) in sinks.items():
            database.execute("insert or ignore into sinks values (?, ?, ?)", (name, bit, text))
            if bit != FIRST_BIT:
                create_indices(database, bit, name)
        columns = "cast(payload as blob), id, event_id, kind, camera_id, stored_at"
        columns += ", coalesce(waiting, 0), coalesce(traceparent, '')" if is_new else ", 1, ''"
        for row, event in _events(damaged, "events", columns):
            values = (
                *row[1:5],
                bytes(row[0]).decode(),
                row[5],
                _sane_bits(row[6], all_bits),
                row[7] or None,
            )
            database.execute(_ADD_EVENT, values)
            note(event.numbering, event.sequence)
        columns = f"cast(payload as blob), event_id, {'coalesce(given, 0)' if is_new else '1'}"
        for row, event in _events(damaged, "open_events", columns):
            given = row[2] & all_bits if isinstance(row[2], int) else 0
            values = (row[1], bytes(row[0]).decode(), given)
            database.execute("insert or ignore into open_events values (?, ?, ?)", values)
            note(event.numbering, event.sequence)
        for numbering, last in _rows(damaged, "sequences", "camera_id, last"):
            if isinstance(numbering, str) and isinstance(last, int):
                note(numbering, last)
        columns = "id, cast(payload as text), error, rejected_at"
        columns += ", coalesce(sink, '')" if is_new else ", ''"
        for row in _rows(damaged, "rejected", columns):
            database.execute(_ADD_DEAD_LETTER, (*row[:4], row[4] or None))
        database.executemany("insert into sequences values (?, ?)", known.items())
        _continue_ids(database, last_id)
        database.execute("commit")


def _opened(damaged: Path) -> contextlib.closing[sqlite3.Connection]:
    return contextlib.closing(sqlite3.connect(damaged, timeout=_LOCK_SECONDS))


def _has_sinks(damaged: Path) -> bool:
    """Return whether the damaged database has the tables of this version; not if it is unsure."""
    with contextlib.suppress(sqlite3.Error), _opened(damaged) as database:
        return has_sinks(database)
    return False


def _readable_sinks(damaged: Path) -> dict[str, tuple[int, str]]:
    """Return bit and filter of each sink; the filter is empty if it cannot be read."""
    found = {}
    with contextlib.suppress(sqlite3.Error), _opened(damaged) as database:
        found = {name: (bit, "") for name, bit in names_of_indices(database).items()}
    for name, bit, text in _rows(damaged, "sinks", "name, bit, filter"):
        if isinstance(name, str) and isinstance(bit, int) and 0 <= bit < _MAX_BITS:
            found[name] = (bit, str(text))
    return found


def _sane_bits(waiting: object, all_bits: int) -> int:
    """Return for which sinks an event waits; for all if that cannot be read."""
    known = waiting & all_bits if isinstance(waiting, int) and waiting > 0 else 0
    return known or all_bits


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
            with _opened(path) as database:
                for row in database.execute(f"select {columns} from {table}{order}"):
                    if None not in row:
                        yield row
        except sqlite3.Error:
            continue
        return
