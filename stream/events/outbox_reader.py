"""Read an outbox without changing it, even while another process writes to it."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path
from typing import Any, NamedTuple

from configs import DataError, OutboxError, UnknownKindError, is_file
from stream.events.event import ActionEvent, StoredEvent
from stream.events.migrations import has_sinks, open_for_reading
from stream.events.skipped_kinds import SkippedKinds

__all__ = ["DeadLetter", "read_dead_letters", "read_events", "refuse_unreadable"]

_log = logging.getLogger(__name__)
_LOCK_SECONDS = 10.0  # maximum time to wait for another program's lock
_EVENTS = "select id, cast(payload as blob) from events where id > ? order by id limit ?"
_DEAD_LETTERS = "select cast(payload as blob), error, {sink} from rejected order by rowid"


class DeadLetter(NamedTuple):
    """An event that was refused, or that cannot be read.

    Attributes:
        payload: the JSON of the event.
        error: what made it a dead letter.
        sink: the sink that refused it; None if a release before 0.3.0 noted the event.
    """

    payload: str
    error: str
    sink: str | None


def read_events(
    path: Path,
    *,
    after_id: int = 0,
    max_events: int = -1,
    skipped: SkippedKinds | None = None,
) -> list[StoredEvent]:
    """Return the events with an id above `after_id`, in order; leave out unreadable ones.

    Args:
        max_events: maximum number of events; -1 for all.
        skipped: counts the events that are left out because their kind is not known.

    Raises:
        OutboxError: the file is missing, is not an outbox, or a newer release wrote it.
    """
    stored = []
    skipped = skipped or SkippedKinds()
    for row_id, payload in _read(path, _EVENTS, after_id, max_events):
        try:
            stored.append(StoredEvent(row_id, ActionEvent.from_json(payload)))
        except UnknownKindError as error:
            skipped.add(error.kind)
        except DataError as error:
            _log.warning("left out event number %d of outbox %s: %s", row_id, path, error)
    return stored


def read_dead_letters(path: Path) -> list[DeadLetter]:
    """Return the dead letters (events that were refused or unreadable), oldest first.

    Raises:
        OutboxError: the file is missing, is not an outbox, or a newer release wrote it.
    """
    rows = _read(path, _DEAD_LETTERS)
    return [
        DeadLetter(bytes(payload).decode(errors="replace"), error, sink)
        for payload, error, sink in rows
    ]


def _read(path: Path, query: str, *values: int) -> list[tuple[Any, ...]]:
    refuse_unreadable(path)
    try:
        with open_for_reading(path, _LOCK_SECONDS) as database:
            sink = "sink" if has_sinks(database) else "null"
            return database.execute(query.format(sink=sink), values).fetchall()
    except sqlite3.Error as error:
        raise OutboxError(f"{path} is not a readable outbox: {error}") from None


def refuse_unreadable(path: Path) -> None:
    """Refuse a file that is missing, or that belongs to another user.

    Raises:
        OutboxError: the file cannot be opened; the message says why.
    """
    try:
        with path.open("rb"):
            return
    except PermissionError:
        raise OutboxError(
            f"outbox {path}: permission denied; read it as the user of the pipeline, or let that"
            " user open the folder and the file to your group"
        ) from None
    except (OSError, ValueError) as error:
        if not is_file(path):
            raise OutboxError(f"outbox not found: {path}") from None
        raise OutboxError(f"outbox {path} cannot be read: {error}") from None
