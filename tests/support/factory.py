"""Valid events for tests."""

from __future__ import annotations

import uuid

from stream import ActionEvent
from stream.events.verification import Verification


def make_event(
    number: int,
    *,
    camera: str = "cam",
    kind: str = "started",
    action: str = "fall",
    event: int | None = None,
) -> ActionEvent:
    """Make a valid event; `event` numbers the action it belongs to (by default `number`)."""
    ended = kind == "ended"
    verification = Verification(
        answer="no", reason="nobody is lying down", model="vlm", latency_seconds=1.25
    )
    return ActionEvent(
        event_id=str(
            uuid.uuid5(uuid.NAMESPACE_OID, f"{camera}-{number if event is None else event}")
        ),
        kind=kind,  # type: ignore[arg-type]
        camera_id=camera,
        action=action,
        confidence=0.75,
        started_at="2026-01-02T03:04:05.000Z",
        ended_at="2026-01-02T03:04:07.000Z" if ended else None,
        pts_start_seconds=5.0,
        pts_end_seconds=7.0 if ended else None,
        sequence=number,
        top_k=(("fall", 0.75), ("background", 0.25)),
        model="m",
        produced_at="2026-01-02T03:04:08.000Z",
        reason="over" if ended else None,
        verification=verification if kind == "verified" else None,
    )
