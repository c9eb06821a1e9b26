"""The outbox as one sink sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from stream.events.event import StoredEvent

__all__ = ["SinkView"]


class Store(Protocol):
    """The methods of an outbox that a view uses."""

    def oldest(self, max_events: int, after_id: int = 0, sink: str = ...) -> list[StoredEvent]:
        """Return the next events that wait for a sink."""

    def remove(self, ids: Sequence[int], sink: str = ...) -> None:
        """Note that a sink has taken events."""

    def move_to_dead_letters(self, event_id: int, error: str, sink: str = ...) -> None:
        """Move an event that a sink refuses to the dead letters."""

    def end_sink(self, sink: str) -> Mapping[str, int]:
        """Store no more events for a sink, and give up those that wait for it."""

    def wait_for_change(self, timeout_seconds: float) -> None:
        """Wait until events are added, at most until the timeout."""

    def waiting(self, sink: str) -> int:
        """Return how many events wait for a sink."""


class SinkView:
    """A `SinkStore`: what waits for one sink of an outbox."""

    def __init__(self, outbox: Store, sink: str) -> None:
        self._outbox = outbox
        self._sink = sink

    def oldest(self, max_events: int, after_id: int = 0) -> list[StoredEvent]:
        """Return up to `max_events` events with an id above `after_id`, in order."""
        return self._outbox.oldest(max_events, after_id, self._sink)

    def remove(self, ids: Sequence[int]) -> None:
        """Note that the sink has taken these events."""
        self._outbox.remove(ids, self._sink)

    def move_to_dead_letters(self, event_id: int, error: str) -> None:
        """Move an event that the sink refuses to the dead letters."""
        self._outbox.move_to_dead_letters(event_id, error, self._sink)

    def end(self) -> Mapping[str, int]:
        """Store no more events for the sink; return how many of each kind were given up."""
        return self._outbox.end_sink(self._sink)

    def wait_for_change(self, timeout_seconds: float) -> None:
        """Wait until events are added, at most until the timeout."""
        self._outbox.wait_for_change(timeout_seconds)

    def __len__(self) -> int:
        return self._outbox.waiting(self._sink)
