"""A span, as it waits for the collector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from stream.tracing.trace_context import TraceContext

__all__ = ["AttributeValue", "Span", "SpanKind"]

AttributeValue = str | int | float | bool
SpanKind = Literal["internal", "producer", "client"]


class Span(NamedTuple):
    """One span; times in seconds since 1970. `parent_id` is None for the root of a trace.

    `link` is the root of another trace that this one belongs to.
    """

    name: str
    context: TraceContext
    parent_id: int | None
    started_at: float
    ended_at: float
    attributes: Mapping[str, AttributeValue]
    kind: SpanKind = "internal"
    link: TraceContext | None = None
