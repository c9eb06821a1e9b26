"""Format events as lines of text."""

from __future__ import annotations

from configs import readable
from stream.events.event import ActionEvent

__all__ = ["event_line", "place", "second_look"]

_MAX_REASON = 80  # characters of the reason of a second look


def place(event: ActionEvent) -> str:
    """Return the camera id, followed by the region if the event has one."""
    return f"{event.camera_id}/{event.region}" if event.region else event.camera_id


def event_line(event: ActionEvent) -> str:
    """Return one line with time of day (UTC), camera, kind, action and seconds in the stream.

    Control characters in the event's texts are escaped: another program may have written it.
    """
    time_of_day = (event.ended_at or event.started_at)[11:19]
    where, action = readable(place(event)), readable(event.action)
    head = f"{readable(time_of_day)}  {where:<12} {event.kind:<8} {action:<12} "
    if event.kind == "ended":
        span = f"{event.pts_start_seconds:.1f} to {event.pts_end_seconds:.1f} s"
        return f"{head}{span} ({readable(event.reason)})"
    if (answer := second_look(event)) is not None:
        return f"{head}{readable(answer)}"
    return f"{head}from {event.pts_start_seconds:.1f} s, {event.confidence:.0%}"


def second_look(event: ActionEvent) -> str | None:
    """Return the answer of a second look with the beginning of its reason; None for other kinds."""
    if event.verification is None:
        return None
    found = event.verification
    reason = found.reason
    if len(reason) > _MAX_REASON:
        reason = f"{reason[:_MAX_REASON].rstrip()}..."
    return f"{found.answer}: {reason}" if reason else found.answer
