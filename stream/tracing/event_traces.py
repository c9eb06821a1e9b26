"""Traces of events: started with the clip, ended by the acknowledgements of the sinks.

A clip without an event costs a few times that it carries anyway. An event that is not recorded
costs the hash that gives its ids.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from stream.batch_times import BatchTimes
from stream.events.event import ActionEvent
from stream.tracing.sinks import TracedSink
from stream.tracing.span import AttributeValue, Span
from stream.tracing.trace_context import (
    TraceContext,
    context_of,
    context_of_start,
    parse_traceparent,
)
from stream.types import ClipRef

__all__ = ["STAGES", "EventTraces"]

# The stages of a clip, in order: each ends where the next begins.
STAGES = ("decode", "buffer", "batch", "backlog", "network", "detect", "store")
# An event that no sink acknowledged for so long ends its trace without it.
_MAX_PENDING_SECONDS = 900.0


@dataclasses.dataclass
class _Trace:
    """A trace that waits for acknowledgements; `ends` are the ends of its first stages."""

    context: TraceContext
    event: ActionEvent
    started_monotonic: float
    stages: tuple[str, ...]
    ends: list[float]
    to_unix_seconds: float
    waits_for: set[str] | None = None  # None until the event is stored
    acknowledged: set[str] = dataclasses.field(default_factory=set)
    last_monotonic: float = 0.0


class EventTraces:
    """Makes the spans of events. Any thread may call the methods; none waits for a collector.

    Args:
        put: takes finished spans, and does not wait.
        sinks: which take the events; with none, a trace ends when its event is stored.
        sample_ratio: fraction of the actions that are recorded.
        max_pending: events whose acknowledgement is waited for; beyond it the oldest traces end.
        attributes: of the root of each trace.
    """

    def __init__(
        self,
        put: Callable[[Sequence[Span]], None],
        *,
        sinks: Sequence[TracedSink] = (),
        sample_ratio: float = 1.0,
        max_pending: int = 4096,
        attributes: Mapping[str, AttributeValue] | None = None,
    ) -> None:
        self._put = put
        self._sinks = {sink.name: sink for sink in sinks}
        self._ratio = sample_ratio
        self._max_pending = max_pending
        self._attributes = dict(attributes or {})
        self._lock = threading.Lock()
        self._pending: collections.OrderedDict[int, _Trace] = collections.OrderedDict()
        # The sinks that have got events of each action that goes on.
        self._actions: collections.OrderedDict[str, set[str]] = collections.OrderedDict()

    def begin(self, event: ActionEvent, ref: ClipRef | None, times: BatchTimes | None) -> str:
        """Begin the trace of an event; return its `traceparent`, also if it is not recorded.

        Args:
            ref: the clip that made the event; None if none did, as at the end of a stream.
            times: of the clip's batch.
        """
        context = context_of(event, self._ratio)
        if context.is_sampled:
            self._keep(_new_trace(context, event, ref, times))
        return context.traceparent

    def stored(self, events: Sequence[ActionEvent]) -> None:
        """Note that events are stored now."""
        now = time.monotonic()
        spans: list[Span] = []
        with self._lock:
            for event in events:
                trace = self._pending.get(_trace_id(event))
                if trace is not None:
                    spans += self._note_stored(trace, now)
                    spans += self._ended(trace)
        self._send(spans)

    def acknowledged(self, sink: str, events: Sequence[ActionEvent]) -> None:
        """Note that a sink has taken events.

        Events of an earlier run have their trace from the outbox; their span starts when they were
        made.
        """
        now = time.monotonic()
        spans: list[Span] = []
        with self._lock:
            for event in events:
                context = parse_traceparent(event.traceparent)
                if context is None or not context.is_sampled:
                    continue
                trace = self._pending.get(context.trace_id)
                if trace is None:
                    until = time.time()
                    made = datetime.datetime.fromisoformat(event.produced_at).timestamp()
                    spans.append(self._sent(sink, context, event, min(made, until), until))
                    continue
                # The sink may be faster than the thread that tells of the storing.
                spans += self._note_stored(trace, now)
                at = trace.to_unix_seconds
                spans.append(self._sent(sink, context, event, trace.ends[-1] + at, now + at))
                trace.acknowledged.add(sink)
                trace.last_monotonic = now
                spans += self._ended(trace)
        self._send(spans)

    def close(self) -> None:
        """End all traces; the next run sends the events that wait, as parts of them."""
        with self._lock:
            spans = [span for trace in self._pending.values() for span in self._given_up(trace)]
            self._pending.clear()
        self._send(spans)

    def _keep(self, trace: _Trace) -> None:
        spans: list[Span] = []
        with self._lock:
            self._pending[trace.context.trace_id] = trace
            while self._is_over(next(iter(self._pending.values()))):
                spans += self._given_up(self._pending.popitem(last=False)[1])
        self._send(spans)

    def _send(self, spans: Sequence[Span]) -> None:
        if spans:
            self._put(spans)

    # The methods below are called with the lock held.

    def _is_over(self, oldest: _Trace) -> bool:
        age = time.monotonic() - oldest.started_monotonic
        return len(self._pending) > self._max_pending or (
            len(self._pending) > 1 and age > _MAX_PENDING_SECONDS
        )

    def _note_stored(self, trace: _Trace, now: float) -> list[Span]:
        if trace.waits_for is not None:
            return []
        trace.ends.append(max(now, trace.ends[-1]))
        trace.last_monotonic = trace.ends[-1]
        trace.stages += ("store",)
        trace.waits_for = self._sinks_of(trace.event)
        return _stage_spans(trace)

    def _sinks_of(self, event: ActionEvent) -> set[str]:
        """Return the sinks that get an event: by their filters, as the outbox decides."""
        known = self._actions.pop(event.event_id, set())
        names = {name for name, sink in self._sinks.items() if sink.takes(event, name in known)}
        if event.kind != "ended":
            self._actions[event.event_id] = known | names
            if len(self._actions) > self._max_pending:
                self._actions.popitem(last=False)
        return names

    def _ended(self, trace: _Trace) -> list[Span]:
        if trace.waits_for is None or trace.waits_for - trace.acknowledged:
            return []
        self._pending.pop(trace.context.trace_id, None)
        return [self._root(trace)]

    def _given_up(self, trace: _Trace) -> list[Span]:
        stages = _stage_spans(trace) if trace.waits_for is None else []
        return [*stages, self._root(trace)]

    def _root(self, trace: _Trace) -> Span:
        event, at = trace.event, trace.to_unix_seconds
        attributes = self._attributes | _described(event)
        missing = sorted((trace.waits_for or set()) - trace.acknowledged)
        if trace.waits_for is None:
            attributes["cidc.stored"] = False
        if missing:
            attributes["cidc.unacknowledged"] = ",".join(missing)
        ended = max(trace.last_monotonic, trace.ends[-1])
        link = None if event.kind == "started" else context_of_start(event, self._ratio)
        return Span(
            f"event {event.kind}",
            trace.context,
            None,
            trace.started_monotonic + at,
            ended + at,
            attributes,
            link=link,
        )

    def _sent(
        self, name: str, root: TraceContext, event: ActionEvent, started: float, ended: float
    ) -> Span:
        sink = self._sinks.get(name)
        attributes: dict[str, AttributeValue] = {"cidc.sink": name}
        if sink is not None:
            attributes |= sink.attributes
        if sink is not None and sink.kind == "producer":
            attributes["messaging.message.id"] = event.event_id
        if "messaging.system" in attributes and attributes["messaging.system"] == "kafka":
            attributes["messaging.kafka.message.key"] = event.camera_id
        return Span(
            f"send {name}" if sink is None else sink.span_name,
            _child(root),
            root.span_id,
            started,
            ended,
            attributes,
            kind="producer" if sink is None else sink.kind,
        )


def _new_trace(
    context: TraceContext, event: ActionEvent, ref: ClipRef | None, times: BatchTimes | None
) -> _Trace:
    now = time.monotonic()
    to_unix_seconds = time.time() - now
    if ref is None:
        return _Trace(context, event, now, (), [now], to_unix_seconds)
    found: list[float | None] = [ref.sampled_monotonic, ref.due_monotonic]
    found += [None, None, None] if times is None else list(times)
    found.append(now)
    ends: list[float] = []
    names = []
    latest = ref.arrived_monotonic
    for name, end in zip(STAGES, found, strict=False):
        if end is not None:
            latest = max(latest, end)  # a recording's packets are dated when they were due
            ends.append(latest)
            names.append(name)
    return _Trace(context, event, ref.arrived_monotonic, tuple(names), ends, to_unix_seconds)


def _stage_spans(trace: _Trace) -> list[Span]:
    """Return the spans of the stages; without a clip, `ends` begins with the start of the first."""
    starts = [trace.started_monotonic, *trace.ends]
    ends = trace.ends[-len(trace.stages) :] if trace.stages else []
    starts = starts[len(starts) - 1 - len(ends) : -1]
    at = trace.to_unix_seconds
    return [
        Span(name, _child(trace.context), trace.context.span_id, start + at, end + at, {})
        for name, start, end in zip(trace.stages, starts, ends, strict=True)
    ]


def _described(event: ActionEvent) -> dict[str, AttributeValue]:
    fields: dict[str, AttributeValue | None] = {
        "cidc.camera": event.camera_id,
        "cidc.region": event.region,
        "cidc.action": event.action,
        "cidc.kind": event.kind,
        "cidc.event_id": event.event_id,
        "cidc.sequence": event.sequence,
        "cidc.confidence": event.confidence,
        "cidc.model": event.model,
        "cidc.epoch": event.epoch,
        "cidc.reason": event.reason,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _child(root: TraceContext) -> TraceContext:
    return root._replace(span_id=secrets.randbits(64) or 1)


def _trace_id(event: ActionEvent) -> int:
    context = parse_traceparent(event.traceparent)
    return 0 if context is None else context.trace_id
