"""The outbox as those see it who send its events."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from stream.events.event import ActionEvent, StoredEvent

__all__ = ["EventStore", "OnAcknowledged", "SinkStore", "tell_acknowledged"]

_log = logging.getLogger(__name__)
# Called with the name of a sink and with events that it has taken, in the thread of the sink.
OnAcknowledged = Callable[[str, Sequence[ActionEvent]], None]


class EventStore(Protocol):
    """The methods of an outbox that a publisher uses."""

    def oldest(self, max_events: int, after_id: int = 0) -> list[StoredEvent]:
        """Return up to `max_events` events with an id above `after_id`, in order."""

    def remove(self, ids: Sequence[int]) -> None:
        """Remove the events with these ids."""

    def move_to_dead_letters(self, event_id: int, error: str) -> None:
        """Move an event that the broker refuses to the dead letters."""

    def wait_for_change(self, timeout_seconds: float) -> None:
        """Wait until events are added, at most until the timeout."""

    def __len__(self) -> int: ...


class SinkStore(EventStore, Protocol):
    """What waits for one sink; the methods that the thread of the sink uses."""

    def end(self) -> Mapping[str, int]:
        """Store no more events for the sink; return how many of each kind were given up."""


def tell_acknowledged(hook: OnAcknowledged | None, sink: str, taken: Sequence[StoredEvent]) -> None:
    """Call the hook, if there is one; an error in it is logged and delays no event."""
    if hook is None:
        return
    try:
        hook(sink, [stored.event for stored in taken])
    except Exception:
        _log.exception("what follows events that sink %s has taken failed", sink)
