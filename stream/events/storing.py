"""Writes new events to an outbox: for which sinks they wait, and which actions are open."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from stream.events.event import ActionEvent, open_json
from stream.events.sink_registry import Route
from stream.events.sink_rows import Transaction

__all__ = ["store_events"]

_ADD_EVENT = (
    "insert into events (event_id, kind, camera_id, payload, stored_at, waiting, traceparent)"
    " values (?, ?, ?, ?, ?, ?, ?)"
)
_OPEN_EVENT = "insert or replace into open_events (event_id, payload, given) values (?, ?, ?)"
_END_EVENT = "delete from open_events where event_id = ?"
_GIVEN = "select given from open_events where event_id = ?"


def store_events(
    change: Transaction,
    events: Sequence[ActionEvent],
    routes: Sequence[Route],
    waiting: Mapping[int, int],
) -> tuple[int, list[tuple[Route, str]]]:
    """Write events in order; a sink for which too many wait loses its oldest.

    Args:
        change: the transaction that stores the events.
        routes: the sinks that get events.
        waiting: how many events wait for each sink before the transaction, by its bit.

    Returns:
        The highest id of a new event, 0 if no sink gets one; and each event that was lost, with
        the sink that lost it.
    """
    # Once a sink has an event of an action, its confidence does not matter any more.
    keeps_given = any(route.filter.min_confidence > 0 for route in routes)
    last_id = 0
    for event in events:
        row = change.connection.execute(_GIVEN, (event.event_id,)).fetchone() if keeps_given else ()
        given = row[0] if row else 0
        bits = _wanted_bits(routes, event, given)
        if bits:
            last_id = _add(change, event, bits)
        if event.kind == "ended":
            change.connection.execute(_END_EVENT, (event.event_id,))
        elif event.kind != "verified":  # the answer may come after the end
            values = (event.event_id, open_json(event), given | bits)
            change.connection.execute(_OPEN_EVENT, values)
    lost = []
    for route in routes:
        count = waiting[route.bit] + change.waiting[route.bit]
        kinds = change.drop_oldest(route.bit, count - route.max_events)
        lost += [(route, kind) for kind in kinds]
    return last_id, lost


def _wanted_bits(routes: Sequence[Route], event: ActionEvent, given: int) -> int:
    """Return the bits of the sinks that get an event.

    Args:
        given: the bits of those that have events of the same action.
    """
    wanted = 0
    for route in routes:
        if route.filter.takes(event, is_known=bool(given >> route.bit & 1)):
            wanted |= 1 << route.bit
    return wanted


def _add(change: Transaction, event: ActionEvent, bits: int) -> int:
    row = (
        event.event_id,
        event.kind,
        event.camera_id,
        event.to_json(),
        time.time(),
        bits,
        event.traceparent,
    )
    last_id = change.connection.execute(_ADD_EVENT, row).lastrowid or 0
    change.added += 1
    for bit in range(bits.bit_length()):
        change.waiting[bit] += bits >> bit & 1
    return last_id
