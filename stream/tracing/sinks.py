"""The sinks of events as traces see them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from stream.events.event import ActionEvent
from stream.tracing.span import AttributeValue, SpanKind

__all__ = ["TracedSink"]


@dataclasses.dataclass(frozen=True)
class TracedSink:
    """A sink whose acknowledgements end the traces of the events that it takes.

    Args:
        name: of the sink.
        takes: whether the sink gets an event; told whether it has got an earlier one of the action.
        span_name: such as `send action-events`.
        attributes: of its spans, by OpenTelemetry's semantic conventions.
    """

    name: str
    takes: Callable[[ActionEvent, bool], bool]
    span_name: str
    attributes: Mapping[str, AttributeValue]
    kind: SpanKind = "producer"
