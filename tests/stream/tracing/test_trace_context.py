"""Ids of traces and the decision to record them, beside OpenTelemetry's own sampler and parser."""

from __future__ import annotations

import dataclasses

import pytest
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from stream.tracing.trace_context import context_of, context_of_start, parse_traceparent
from tests.support.factory import make_event

ACTION = [
    make_event(1, event=7),
    make_event(2, kind="updated", event=7),
    make_event(3, kind="updated", event=7),
    make_event(4, kind="ended", event=7),
]


def test_opentelemetry_reads_the_traceparent_that_is_written() -> None:
    for ratio in (0.0, 1.0):
        context = context_of(make_event(1), ratio)
        read = TraceContextTextMapPropagator().extract({"traceparent": context.traceparent})
        found = get_current_span(read).get_span_context()
        assert (found.trace_id, found.span_id) == (context.trace_id, context.span_id)
        assert found.is_valid
        assert found.trace_flags.sampled == context.is_sampled == (ratio == 1.0)
        assert parse_traceparent(context.traceparent) == context


@pytest.mark.parametrize("ratio", [0.0, 0.01, 0.3, 0.99, 1.0])
def test_the_decision_is_that_of_the_sampler_of_opentelemetry(ratio: float) -> None:
    sampler = TraceIdRatioBased(ratio)
    sampled = 0
    for number in range(2000):
        context = context_of(make_event(number + 1), ratio)
        expected = sampler.should_sample(None, context.trace_id, "event started").decision
        assert context.is_sampled == (expected is Decision.RECORD_AND_SAMPLE)
        sampled += context.is_sampled
    assert sampled == pytest.approx(2000 * ratio, abs=80)


@pytest.mark.parametrize("ratio", [0.2, 0.5, 0.8])
def test_all_events_of_an_action_are_recorded_or_none(ratio: float) -> None:
    decisions = set()
    for number in range(100):
        of_action = [dataclasses.replace(event, event_id=f"id-{number}") for event in ACTION]
        contexts = [context_of(event, ratio) for event in of_action]
        assert len({context.is_sampled for context in contexts}) == 1
        decisions.add(contexts[0].is_sampled)
    assert decisions == {True, False}


def test_every_event_has_a_trace_of_its_own_and_knows_that_of_the_start() -> None:
    contexts = [context_of(event, 1.0) for event in ACTION]
    assert len({context.trace_id for context in contexts}) == len(ACTION)
    assert len({context.span_id for context in contexts}) == len(ACTION)
    assert {context_of_start(event, 1.0) for event in ACTION} == {contexts[0]}
    again = dataclasses.replace(ACTION[3], epoch=2)
    assert context_of(again, 1.0).trace_id != contexts[3].trace_id


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "00-" + "0" * 32 + "-" + "1" * 16 + "-01",
        "00-" + "1" * 32 + "-" + "0" * 16 + "-01",
        "00-" + "A" * 32 + "-" + "1" * 16 + "-01",
        "ff-" + "1" * 32 + "-" + "1" * 16 + "-01",
        "00-" + "1" * 32 + "-" + "1" * 16 + "-01-more",
        "00-" + "1" * 32 + "-" + "1" * 16 + "-01\n",
    ],
)
def test_what_is_not_a_traceparent_of_this_program_is_none(text: str | None) -> None:
    assert parse_traceparent(text) is None
