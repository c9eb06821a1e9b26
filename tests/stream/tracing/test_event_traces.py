"""The spans of an event: their parents and times, whatever the order in which threads tell."""

from __future__ import annotations

import dataclasses
import itertools
import time

import pytest

from stream.batch_times import BatchTimes
from stream.events.event import ActionEvent
from stream.tracing import event_traces
from stream.tracing.event_traces import STAGES, EventTraces
from stream.tracing.sinks import TracedSink
from stream.tracing.span import Span
from stream.tracing.trace_context import context_of, parse_traceparent
from stream.types import ClipRef, View
from tests.support.factory import make_event

KAFKA = TracedSink(
    "kafka", lambda event, is_known: True, "send events", {"messaging.system": "kafka"}
)
STARTS = TracedSink(
    "door", lambda event, is_known: event.kind == "started", "send door", {}, kind="client"
)


class Rig:
    """Traces whose spans are kept, and a clip that was read 0.6 s ago."""

    def __init__(self, *sinks: TracedSink, ratio: float = 1.0, max_pending: int = 100) -> None:
        self.spans: list[Span] = []
        self.traces = EventTraces(
            self.spans.extend,
            sinks=sinks,
            sample_ratio=ratio,
            max_pending=max_pending,
            attributes={"cidc.device": "cpu"},
        )

    def begin(self, event: ActionEvent) -> ActionEvent:
        now = time.monotonic()
        ref = ClipRef(View("cam"), 2.0, now - 0.6, 100.0, None, now - 0.5, now - 0.4)
        times = BatchTimes(now - 0.3, now - 0.2, now - 0.1)
        return dataclasses.replace(event, traceparent=self.traces.begin(event, ref, times))

    def root(self) -> Span:
        [root] = [span for span in self.spans if span.parent_id is None]
        return root


def check_tree(spans: list[Span], names: list[str]) -> Span:
    """Check parents, order and times; return the root."""
    [root] = [span for span in spans if span.parent_id is None]
    children = sorted(
        (span for span in spans if span.parent_id is not None), key=lambda span: span.started_at
    )
    assert [span.name for span in children] == names
    assert {span.parent_id for span in children} == {root.context.span_id}
    assert {span.context.trace_id for span in spans} == {root.context.trace_id}
    assert len({span.context.span_id for span in spans}) == len(spans)
    for span in children:
        assert root.started_at <= span.started_at <= span.ended_at <= root.ended_at
    for one, following in itertools.pairwise(children):
        assert one.ended_at == pytest.approx(following.started_at, abs=1e-6)
    assert children[0].started_at == root.started_at
    assert children[-1].ended_at == root.ended_at
    return root


def test_the_spans_of_an_event_reach_from_the_packet_to_the_acknowledgement() -> None:
    rig = Rig(KAFKA)
    before = time.time()
    event = rig.begin(make_event(1))
    rig.traces.stored([event])
    assert [span.name for span in rig.spans] == list(STAGES)
    time.sleep(0.01)
    rig.traces.acknowledged("kafka", [event])
    root = check_tree(rig.spans, [*STAGES, "send events"])
    assert root.started_at == pytest.approx(before - 0.6, abs=0.05)
    by_name = {span.name: span for span in rig.spans}
    for name in ("decode", "buffer", "batch", "backlog", "network"):
        span = by_name[name]
        assert span.ended_at - span.started_at == pytest.approx(0.1, abs=1e-3)
    sent = by_name["send events"]
    assert sent.ended_at - sent.started_at >= 0.01
    assert sent.kind == "producer"
    assert sent.attributes == {
        "cidc.sink": "kafka",
        "messaging.system": "kafka",
        "messaging.message.id": event.event_id,
        "messaging.kafka.message.key": "cam",
    }
    assert root.context == parse_traceparent(event.traceparent)
    assert root.attributes["cidc.camera"] == "cam"
    assert root.attributes["cidc.action"] == "fall"
    assert root.attributes["cidc.kind"] == "started"
    assert root.attributes["cidc.event_id"] == event.event_id
    assert root.attributes["cidc.device"] == "cpu"
    assert not {"cidc.epoch", "cidc.unacknowledged", "cidc.stored"} & set(root.attributes)


def test_the_root_ends_with_the_last_sink_that_gets_the_event() -> None:
    rig = Rig(KAFKA, STARTS)
    event = rig.begin(make_event(1))
    rig.traces.stored([event])
    rig.traces.acknowledged("door", [event])
    assert all(span.parent_id is not None for span in rig.spans)
    rig.traces.acknowledged("kafka", [event])
    sent = [span for span in rig.spans if span.name.startswith("send")]
    assert [(span.name, span.kind) for span in sent] == [
        ("send door", "client"),
        ("send events", "producer"),
    ]
    assert rig.root().ended_at == sent[1].ended_at
    updated = rig.begin(make_event(2, kind="updated", event=1))
    rig.spans.clear()
    rig.traces.stored([updated])
    rig.traces.acknowledged("kafka", [updated])
    assert "cidc.unacknowledged" not in rig.root().attributes


def test_a_trace_without_sinks_ends_when_the_event_is_stored() -> None:
    rig = Rig()
    rig.traces.stored([rig.begin(make_event(1))])
    check_tree(rig.spans, list(STAGES))


def test_a_sink_may_be_faster_than_the_thread_that_stores() -> None:
    rig = Rig(KAFKA)
    event = rig.begin(make_event(1))
    rig.traces.acknowledged("kafka", [event])
    rig.traces.stored([event])
    check_tree(rig.spans, [*STAGES, "send events"])


def test_an_event_that_no_clip_made_has_the_spans_that_it_can_have() -> None:
    rig = Rig(KAFKA)
    event = make_event(4, kind="ended", event=1)
    event = dataclasses.replace(event, traceparent=rig.traces.begin(event, None, None))
    rig.traces.stored([event])
    rig.traces.acknowledged("kafka", [event])
    root = check_tree(rig.spans, ["store", "send events"])
    assert root.link == context_of(make_event(1), 1.0)


def test_events_that_follow_link_to_the_trace_of_the_start() -> None:
    rig = Rig()
    rig.traces.stored([rig.begin(make_event(1))])
    start = rig.root()
    assert start.link is None
    rig.spans.clear()
    rig.traces.stored([rig.begin(make_event(2, kind="ended", event=1))])
    assert rig.root().link == start.context
    assert rig.root().context.trace_id != start.context.trace_id


def test_after_a_restart_the_span_of_a_sink_still_has_its_parent() -> None:
    first = Rig(KAFKA)
    event = first.begin(make_event(1))
    first.traces.stored([event])
    first.traces.close()
    root = first.root()
    assert root.attributes["cidc.unacknowledged"] == "kafka"
    assert root.ended_at == max(span.ended_at for span in first.spans)
    second = Rig(KAFKA)
    produced_at = "2026-01-02T03:04:08.000Z"
    second.traces.acknowledged("kafka", [dataclasses.replace(event, produced_at=produced_at)])
    [sent] = second.spans
    assert sent.parent_id == root.context.span_id
    assert sent.context.trace_id == root.context.trace_id
    assert sent.started_at == 1767323048.0
    assert sent.ended_at == pytest.approx(time.time(), abs=5)


def test_what_is_not_recorded_gives_no_spans_and_an_unsampled_traceparent() -> None:
    rig = Rig(KAFKA, ratio=0.0)
    event = rig.begin(make_event(1))
    assert event.traceparent is not None
    assert event.traceparent.endswith("-00")
    rig.traces.stored([event])
    rig.traces.acknowledged("kafka", [event, make_event(2)])
    rig.traces.close()
    assert rig.spans == []


def test_traces_that_wait_are_bounded_and_end_without_the_acknowledgement() -> None:
    rig = Rig(KAFKA, max_pending=3)
    events = [rig.begin(make_event(number)) for number in range(1, 6)]
    roots = [span for span in rig.spans if span.parent_id is None]
    assert [root.attributes["cidc.sequence"] for root in roots] == [1, 2]
    assert all(root.attributes["cidc.stored"] is False for root in roots)
    rig.spans.clear()
    rig.traces.stored(events)
    rig.traces.acknowledged("kafka", events)
    found = [span for span in rig.spans if span.parent_id is None]
    assert [root.attributes["cidc.sequence"] for root in found] == [3, 4, 5]
    assert sum(span.name == "send events" for span in rig.spans) == 5


def test_a_trace_that_waits_for_long_ends_too(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(KAFKA)
    rig.traces.stored([rig.begin(make_event(1))])
    monkeypatch.setattr(event_traces, "_MAX_PENDING_SECONDS", 0.7)
    rig.begin(make_event(2))
    assert all(span.parent_id is not None for span in rig.spans)
    time.sleep(0.15)
    rig.begin(make_event(3))
    roots = [span.attributes for span in rig.spans if span.parent_id is None]
    assert roots[0]["cidc.sequence"] == 1
    assert roots[0]["cidc.unacknowledged"] == "kafka"
    assert 3 not in [root["cidc.sequence"] for root in roots]
