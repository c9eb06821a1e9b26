"""The outbox as those see it who send its events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from stream.events.event import StoredEvent

__all__ = ["EventStore", "SinkStore"]


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
