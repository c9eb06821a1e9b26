"""Events as lines of text."""

from __future__ import annotations

from stream.events.event import ActionEvent

__all__ = ["event_line", "place"]


def place(event: ActionEvent) -> str:
    """The camera, and the region if it has any."""
    return f"{event.camera_id}/{event.region}" if event.region else event.camera_id


def event_line(event: ActionEvent) -> str:
    """One event in one line: when (UTC) it started or ended, where, what, when in the stream."""
    head = (
        f"{(event.ended_at or event.started_at)[11:19]}  {place(event):<12} {event.kind:<8}"
        f" {event.action:<12} "
    )
    if event.kind == "ended":
        return (
            head
            + f"{event.pts_start_seconds:.1f} to {event.pts_end_seconds:.1f} s ({event.reason})"
        )
    return head + f"from {event.pts_start_seconds:.1f} s, {event.confidence:.0%}"
