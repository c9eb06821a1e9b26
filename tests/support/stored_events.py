"""Events as they lie in an outbox."""

from __future__ import annotations

import itertools
import uuid

from stream.events.event import ActionEvent, StoredEvent


def stored_event(
    number: int, camera: str = "door", *, traceparent: str | None = None, action: str = "fall"
) -> StoredEvent:
    """The event with this number in the outbox and within its camera."""
    event = ActionEvent(
        event_id=str(uuid.uuid5(uuid.NAMESPACE_OID, f"{camera} {number}")),
        kind="started",
        camera_id=camera,
        action=action,
        confidence=0.9,
        started_at="2026-11-23T08:01:19.902Z",
        pts_start_seconds=1.0 * number,
        sequence=number,
        top_k=((action, 0.9),),
        model="m",
        produced_at="2026-11-23T08:01:21.835Z",
        traceparent=traceparent,
    )
    return StoredEvent(number, event)


def stored_events(count: int, camera: str = "door", first: int = 1) -> list[StoredEvent]:
    """Consecutive events of a camera."""
    return [
        stored_event(number, camera) for number in itertools.islice(itertools.count(first), count)
    ]
