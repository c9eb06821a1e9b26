"""Copy an outbox while a pipeline writes to it, and describe an outbox, without changing it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from configs import OutboxError, exists, replaced_file
from configs.private_files import PRIVATE_FILE
from stream.events.event import rfc3339
from stream.events.migrations import MIGRATIONS, check_version, has_sinks, open_for_reading
from stream.events.outbox_lock import is_used
from stream.events.outbox_reader import refuse_unreadable
from stream.events.sink_rows import FIRST_BIT, waits

__all__ = ["OutboxInfo", "back_up", "describe"]

_LOCK_SECONDS = 10.0  # maximum time to wait for another program's lock
_ALL_PAGES = -1  # in one step: a copy in parts starts again whenever the pipeline writes
_COUNTS = (
    "select (select count(*) from events), (select count(*) from open_events),"
    " (select count(*) from rejected), (select min(stored_at) from events)"
)


@dataclasses.dataclass(frozen=True)
class OutboxInfo:
    """What is in an outbox.

    Attributes:
        version: of its tables; `current_version` is the one that this release writes.
        waiting: number of all events: those that wait for a sink, and those that are kept.
        sinks: number of events that wait for each sink; an event may wait for several.
        kept: number of events that wait for no sink; a run with Kafka sends them.
        oldest_at: when the oldest of them was stored, RFC 3339 in UTC; None if there is none.
        oldest_seconds: how long ago that was.
        open_actions: number of actions that have started and not ended.
        dead_letters: number of events that were refused or cannot be read.
        cameras: number of cameras that have stored events here, at any time.
        size_bytes: of the file and of its write-ahead log.
        is_used: whether a running pipeline has locked it.
    """

    version: int
    current_version: int
    waiting: int
    sinks: dict[str, int]
    kept: int
    oldest_at: str | None
    oldest_seconds: float | None
    open_actions: int
    dead_letters: int
    cameras: int
    size_bytes: int
    is_used: bool


def back_up(path: Path, copy: Path) -> int:
    """Write a copy of an outbox: one file with everything that was stored when the copy began.

    A pipeline may write to the outbox meanwhile. The copy appears under its name when it is
    complete and was checked; only its owner may read it.

    Returns:
        The number of events in the copy.

    Raises:
        OutboxError: the outbox is missing, damaged, not an outbox or of a newer release, or
            something exists at the path of the copy.
        OSError: the copy cannot be written.
    """
    refuse_unreadable(path)
    _refuse_existing(copy)
    # Each copy has a partial file of its own: two at the same time do not mix.
    partial = replaced_file(
        copy,
        mode=PRIVATE_FILE,
        durable=True,
        overwrite=False,
        suffix=f".{secrets.token_hex(4)}.part",
    )
    try:
        with partial as file:
            return _copy(path, file)
    except FileExistsError:
        _refuse_existing(copy)
        raise


def describe(path: Path) -> OutboxInfo:
    """Describe an outbox, which a pipeline may be using.

    Raises:
        OutboxError: the file is missing, is not an outbox, or a newer release wrote it.
    """
    refuse_unreadable(path)
    with (
        _explained(f"{path} is not a readable outbox"),
        open_for_reading(path, _LOCK_SECONDS) as database,
    ):
        version = check_version(database, path)
        waiting, open_actions, dead_letters, oldest = database.execute(_COUNTS).fetchone()
        names = database.execute("select camera_id from sequences").fetchall()
        sinks, kept = _backlogs(database) if has_sinks(database) else ({}, waiting)
    log = path.with_name(path.name + "-wal")
    sizes = [file.stat().st_size for file in (path, log) if exists(file)]
    return OutboxInfo(
        version=version,
        current_version=len(MIGRATIONS),
        waiting=waiting,
        sinks=sinks,
        kept=kept,
        oldest_at=None if oldest is None else rfc3339(oldest),
        oldest_seconds=None if oldest is None else round(max(0.0, time.time() - oldest), 1),
        open_actions=open_actions,
        dead_letters=dead_letters,
        cameras=len({name.partition("@")[0] for (name,) in names}),
        size_bytes=sum(sizes),
        is_used=is_used(path),
    )


def _backlogs(database: sqlite3.Connection) -> tuple[dict[str, int], int]:
    """Return how many events wait for each sink, and how many are kept for none."""
    bits = dict(database.execute("select name, bit from sinks order by bit").fetchall())
    found = {}
    for bit in {FIRST_BIT, *bits.values()}:
        query = f"select count(*) from events where {waits(bit)}"
        found[bit] = int(database.execute(query).fetchone()[0])
    kept = 0 if FIRST_BIT in bits.values() else found[FIRST_BIT]
    return {name: found[bit] for name, bit in bits.items()}, kept


def _copy(path: Path, file: Path) -> int:
    """Copy an outbox into an empty file, and check the copy; return its number of events."""
    deadline = time.monotonic() + _LOCK_SECONDS

    def refuse_long_wait(_status: int, remaining: int, _total: int) -> None:
        """Called after the step, or between two tries if another program locks the outbox."""
        if remaining and time.monotonic() > deadline:
            raise OutboxError(f"outbox {path}: another program has locked it; try again later")

    with (
        _explained(f"outbox {path} cannot be copied; check it, and the room for the copy"),
        contextlib.closing(sqlite3.connect(file, isolation_level=None)) as target,
    ):
        with open_for_reading(path, _LOCK_SECONDS) as source:
            source.backup(target, pages=_ALL_PAGES, progress=refuse_long_wait)
        # Without its write-ahead log, the copy is one file. The next pipeline switches it on.
        target.execute("pragma journal_mode = delete")
        (verdict,) = target.execute("pragma integrity_check(1)").fetchone()
        if verdict != "ok":
            raise OutboxError(
                f"outbox {path} is damaged ({verdict}): no copy was written; a pipeline that uses"
                " the outbox moves it away and recovers its events"
            )
        return int(target.execute(_COUNTS).fetchone()[0])


def _refuse_existing(copy: Path) -> None:
    if os.path.lexists(copy):
        raise OutboxError(
            f"{copy} exists, and copies replace nothing: name another file, such as one with the"
            " date, or move it away"
        )


@contextlib.contextmanager
def _explained(problem: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise OutboxError(f"{problem}: {error}") from None
