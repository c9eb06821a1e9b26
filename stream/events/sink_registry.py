"""Which sinks get the events of an outbox, and what happens to the events of those taken away."""

from __future__ import annotations

import collections
import dataclasses
import logging
import time
from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from stream.events.outbox_database import OutboxDatabase
from stream.events.sink_rows import FIRST_BIT, create_indices, drop_indices
from stream.sinks.config import KAFKA, EventFilter

__all__ = ["OutboxSink", "Route", "free_events", "register", "routes_of"]

_log = logging.getLogger(__name__)
# Events that one transaction frees, and the pause in which other threads get the database.
_AT_ONCE = 2_000
_PAUSE_SECONDS = 0.002


@dataclasses.dataclass(frozen=True)
class OutboxSink:
    """A sink for which an outbox keeps events.

    Attributes:
        max_lag_events: maximum number of events that wait for it; None: `max_events` of the outbox.
    """

    name: str
    filter: EventFilter = dataclasses.field(default_factory=EventFilter)
    max_lag_events: int | None = None


@dataclasses.dataclass(frozen=True)
class Route:
    """Where new events go: to a sink, or nowhere but into the outbox if `name` is None."""

    name: str | None
    bit: int
    filter: EventFilter
    max_events: int


def register(
    database: OutboxDatabase, sinks: Sequence[OutboxSink], max_events: int
) -> tuple[Route, ...]:
    """Give each new sink a bit, and free the events of sinks that are no longer configured.

    A new sink gets events from now on. Kafka also takes over the events that were kept because
    there was no sink. If Kafka is taken away and no sink is left, its events are kept.

    Raises:
        OutboxError: the database cannot be written.
    """
    with database.patience():
        for name in sorted(database.bits.keys() - {sink.name for sink in sinks}):
            _take_away(database, name, keeps_events=name == KAFKA and not sinks)
        for sink in sinks:
            _add(database, sink)
    return _routes(database.bits, sinks, max_events)


def routes_of(
    bits: Mapping[str, int], filters: Mapping[str, str], max_events: int
) -> tuple[Route, ...]:
    """Return where events go, by the bits and filters that a database has of its sinks."""
    sinks = [OutboxSink(name, _read_filter(filters.get(name, ""))) for name in bits]
    return _routes(bits, sinks, max_events)


def free_events(database: OutboxDatabase, bit: int) -> collections.Counter[str]:
    """Take all events from the sink with this bit; return how many of each kind waited for it.

    Raises:
        OutboxError: the database cannot be written; the events that are left wait on.
    """
    freed: collections.Counter[str] = collections.Counter()
    while True:
        with database.transaction() as change:
            kinds = change.free(bit, _AT_ONCE)
        freed.update(kinds)
        if len(kinds) < _AT_ONCE:
            return freed
        time.sleep(_PAUSE_SECONDS)


def _routes(
    bits: Mapping[str, int], sinks: Sequence[OutboxSink], max_events: int
) -> tuple[Route, ...]:
    if not sinks:
        return (Route(None, FIRST_BIT, EventFilter(), max_events),)
    return tuple(
        Route(sink.name, bits[sink.name], sink.filter, sink.max_lag_events or max_events)
        for sink in sinks
    )


def _add(database: OutboxDatabase, sink: OutboxSink) -> None:
    text = sink.filter.model_dump_json()
    if database.filters.get(sink.name) == text:
        return
    bit = database.bits.get(sink.name)
    if bit is None:
        taken = {FIRST_BIT, *database.bits.values()}
        free = (number for number in range(len(taken) + 1) if number not in taken)
        bit = FIRST_BIT if sink.name == KAFKA else next(free)
    with database.transaction() as change:
        change.connection.execute(
            "insert or replace into sinks values (?, ?, ?)", (sink.name, bit, text)
        )
        if bit != FIRST_BIT:
            create_indices(change.connection, bit, sink.name)
    database.bits[sink.name], database.filters[sink.name] = bit, text
    database.waiting.setdefault(bit, 0)


def _take_away(database: OutboxDatabase, name: str, *, keeps_events: bool) -> None:
    bit = database.bits[name]
    # A process that is killed here starts again with the rest of the events.
    freed = 0 if keeps_events else free_events(database, bit).total()
    with database.transaction() as change:
        change.connection.execute("delete from sinks where name = ?", (name,))
        change.connection.execute(f"update open_events set given = given & ~{1 << bit}")
        if bit != FIRST_BIT:
            drop_indices(change.connection, bit, name)
    del database.bits[name]
    database.filters.pop(name, None)
    if keeps_events:
        _log.info("sink %s is no longer configured; the outbox keeps its events", name)
    else:
        _log.warning(
            "sink %s is no longer configured; %d events that waited for it were given up",
            name,
            freed,
        )


def _read_filter(text: str) -> EventFilter:
    try:
        return EventFilter.model_validate_json(text)
    except ValidationError:
        return EventFilter()
