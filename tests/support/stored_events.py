"""Events as they lie in an outbox."""

from __future__ import annotations

import dataclasses

from stream.events.event import StoredEvent
from tests.support.factory import make_event


def stored_event(
    number: int, camera: str = "door", *, traceparent: str | None = None, action: str = "fall"
) -> StoredEvent:
    """The event with this number in the outbox and within its camera."""
    event = make_event(number, camera=camera, action=action)
    return StoredEvent(number, dataclasses.replace(event, traceparent=traceparent))


def stored_events(count: int, camera: str = "door", first: int = 1) -> list[StoredEvent]:
    """Consecutive events of a camera."""
    return [stored_event(number, camera) for number in range(first, first + count)]
