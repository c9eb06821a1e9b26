"""The ids of traces, and which of them are recorded.

The ids are computed from the event, as 64-bit halves of a hash. The lower half of a trace id comes
from the `event_id` alone, and samplers look at this half only. So all events of an action are
recorded, or none, without any memory of it, across restarts and workers; and the events that follow
can name the trace of `started`.
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

from stream.events.event import ActionEvent

__all__ = ["TraceContext", "context_of", "context_of_start", "parse_traceparent"]

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_SAMPLED = 0x01


class TraceContext(NamedTuple):
    """The place of a span in a trace, as W3C Trace Context describes it."""

    trace_id: int
    span_id: int
    is_sampled: bool

    @property
    def traceparent(self) -> str:
        """The value of the header `traceparent`."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{int(self.is_sampled):02x}"


def context_of(event: ActionEvent, ratio: float) -> TraceContext:
    """Return the root of an event's trace.

    Args:
        ratio: fraction of the actions that are recorded. The decision is that of OpenTelemetry's
            sampler `TraceIdRatioBased`.
    """
    if event.kind == "started":
        return _context(event.event_id, "started", ratio)
    return _context(event.event_id, f"{event.kind}/{event.epoch}/{event.sequence}", ratio)


def context_of_start(event: ActionEvent, ratio: float) -> TraceContext:
    """Return the root of the trace of the event that started the same action."""
    return _context(event.event_id, "started", ratio)


def parse_traceparent(text: str | None) -> TraceContext | None:
    """Read a `traceparent` that this program wrote; None for anything else."""
    match = _TRACEPARENT.fullmatch(text or "")
    if match is None:
        return None
    trace_id, span_id, flags = (int(part, 16) for part in match.groups())
    if not trace_id or not span_id:
        return None
    return TraceContext(trace_id, span_id, bool(flags & _SAMPLED))


def _context(event_id: str, name: str, ratio: float) -> TraceContext:
    lower = _hash(event_id)
    upper, span_id = _hash(f"trace/{event_id}/{name}"), _hash(f"span/{event_id}/{name}")
    is_sampled = lower < round(ratio * 2**64)
    return TraceContext(upper << 64 | lower, span_id, is_sampled)


def _hash(text: str) -> int:
    # Ids that are zero are invalid.
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) or 1
