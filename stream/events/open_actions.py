"""Which actions a killed process left open, and the events that end them."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Mapping

from configs import DataError
from stream.events.event import ActionEvent, ended_by_crash, latest_moment
from stream.events.sink_rows import FIRST_BIT, waits

__all__ = ["end_open_actions"]

_log = logging.getLogger(__name__)
_OPEN = "select event_id, cast(payload as blob), given from open_events order by rowid"
_STARTED = f"select event_id from events where kind = 'started' and {waits(FIRST_BIT)}"


def end_open_actions(
    connection: sqlite3.Connection, sequences: Mapping[str, int]
) -> tuple[list[ActionEvent], list[str]]:
    """Return the `ended` events of open actions, and the ids of those that are left alone.

    Left alone is what cannot be read, and what workers that share cameras end: an action with an
    epoch whose start Kafka has.

    Args:
        connection: to the outbox.
        sequences: last sequence number of each camera, or of each camera in an epoch.
    """
    stored = {event_id for (event_id,) in connection.execute(_STARTED)}
    closing, forgotten = [], []
    last = dict(sequences)
    for event_id, payload, given in connection.execute(_OPEN).fetchall():
        try:
            event = ActionEvent.from_json(payload)
        except DataError as error:
            forgotten.append(event_id)
            _log.error("open event %s cannot be read; it will not be ended: %s", event_id, error)
            continue
        has_reached_kafka = given >> FIRST_BIT & 1 and event_id not in stored
        if event.epoch is not None and has_reached_kafka:
            forgotten.append(event_id)
            continue
        last[event.numbering] = last.get(event.numbering, event.sequence) + 1
        until = latest_moment(payload)
        closing.append(ended_by_crash(event, last[event.numbering], until))
    return closing, forgotten
