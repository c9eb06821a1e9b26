"""The rows of an outbox by sink: which events wait for one, and what is taken away or lost.

The column `events.waiting` has a bit for each sink that has still to take the event; an event
without a bit is deleted. Each bit has two partial indices of its own, so a sink that is far behind
does not slow down the queries of another.
"""

from __future__ import annotations

import collections
import dataclasses
import sqlite3
import time
from collections.abc import Sequence

__all__ = [
    "FIRST_BIT",
    "Transaction",
    "create_indices",
    "drop_indices",
    "names_of_indices",
    "waits",
]

# The bit of Kafka. Without any sink, events have it too: they are kept, and Kafka takes them over.
FIRST_BIT = 0
_MAX_DEAD_LETTERS = 10_000  # of each sink
_ADD_DEAD_LETTER = (
    "insert or replace into rejected (id, payload, error, rejected_at, sink)"
    " select id, payload, ?, ?, ? from events where id = ?"
)
_REMOVE_OLD_DEAD_LETTERS = (
    "delete from rejected where sink = ?1 and number not in"
    " (select number from rejected where sink = ?1 order by number desc limit ?2)"
)


def waits(bit: int) -> str:
    """Return the condition that an event waits for the sink with this bit.

    A query uses the indices of the bit only if it contains this text.
    """
    return f"waiting & {1 << bit}"


def create_indices(connection: sqlite3.Connection, bit: int, name: str = "") -> None:
    """Create the indices of the events that wait for a sink.

    Their names have the name of the sink, so it can be read even if the table of sinks is damaged.
    """
    for prefix, condition in (("waiting", ""), ("updated", "kind = 'updated' and ")):
        connection.execute(
            f'create index if not exists "{_index_name(prefix, bit, name)}" on events (id)'
            f" where {condition}{waits(bit)}"
        )


def drop_indices(connection: sqlite3.Connection, bit: int, name: str) -> None:
    """Drop the indices of a bit that no event has any more."""
    for prefix in ("waiting", "updated"):
        connection.execute(f'drop index if exists "{_index_name(prefix, bit, name)}"')


def names_of_indices(connection: sqlite3.Connection) -> dict[str, int]:
    """Return the bit of each sink, as the names of the indices tell it."""
    found = {}
    rows = connection.execute("select name from sqlite_master where type = 'index'").fetchall()
    for (index,) in rows:
        prefix, _, rest = str(index).partition("_")
        bit, _, name = rest.partition("_")
        if prefix == "waiting" and name and bit.isdecimal():
            found[name] = int(bit)
    return found


def _index_name(prefix: str, bit: int, name: str) -> str:
    return f"{prefix}_{bit}_{name}" if name else f"{prefix}_{bit}"


@dataclasses.dataclass
class Transaction:
    """An open transaction, with the changes of the numbers of events (negative if it removes).

    Attributes:
        added: change of the number of all events.
        waiting: change of the number of events that wait, by the bit of the sink.
    """

    connection: sqlite3.Connection
    added: int = 0
    waiting: collections.Counter[int] = dataclasses.field(default_factory=collections.Counter)

    def take(self, bit: int, ids: Sequence[int]) -> int:
        """Note that the sink with this bit waits for these events no longer.

        Events for which no sink waits are deleted. Returns how many events waited for the sink.
        """
        if not ids:
            return 0
        rows = [(event_id,) for event_id in ids]
        only = f"delete from events where id = ? and waiting = {1 << bit}"
        deleted = taken = self.connection.executemany(only, rows).rowcount
        if deleted < len(rows):  # other sinks wait for the rest
            clear = f"update events set waiting = waiting & ~{1 << bit} where id = ? and"
            taken += self.connection.executemany(f"{clear} {waits(bit)}", rows).rowcount
        self.added -= deleted
        self.waiting[bit] -= taken
        return taken

    def drop_oldest(self, bit: int, excess: int) -> list[str]:
        """Take `excess` events from a sink, the oldest `updated` first; return their kinds."""
        if excess <= 0:
            return []
        select = f"select id, kind from events where {waits(bit)} and kind"
        query = f"{select} = 'updated' order by id limit ?"
        rows = self.connection.execute(query, (excess,)).fetchall()
        if len(rows) < excess:
            query = f"{select} != 'updated' order by id limit ?"
            rows += self.connection.execute(query, (excess - len(rows),)).fetchall()
        self.take(bit, [event_id for event_id, _ in rows])
        return [kind for _, kind in rows]

    def bury(self, event_id: int, error: str, sink: str) -> None:
        """Copy an event that a sink refuses to the dead letters; keep the sink's latest 10000."""
        values = (error, time.time(), sink, event_id)
        self.connection.execute(_ADD_DEAD_LETTER, values)
        self.connection.execute(_REMOVE_OLD_DEAD_LETTERS, (sink, _MAX_DEAD_LETTERS))

    def free(self, bit: int, max_events: int) -> list[str]:
        """Take up to `max_events` of the oldest events from a sink; return their kinds."""
        query = f"select id, kind from events where {waits(bit)} order by id limit ?"
        rows = self.connection.execute(query, (max_events,)).fetchall()
        self.take(bit, [event_id for event_id, _ in rows])
        return [kind for _, kind in rows]
