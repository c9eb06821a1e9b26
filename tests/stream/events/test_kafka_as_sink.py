"""Kafka as one of several sinks: its filter, its order of acknowledgements, traces and problems."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from stream.events.config import KafkaConfig, OutboxConfig
from stream.events.event import ActionEvent
from stream.events.kafka import kafka
from stream.events.outbox import Outbox
from stream.events.producer_watch import PublisherTimings
from stream.events.publisher import Publisher
from stream.events.sink_registry import OutboxSink
from stream.sinks.config import EventFilter
from tests.support.factory import make_event
from tests.support.producers import calls
from tests.support.waiting import until

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Held:
    """A producer that acknowledges a record when the test says so."""

    def __init__(self) -> None:
        self.futures: dict[int, Any] = {}
        self.headers: dict[int, list[tuple[str, bytes]]] = {}

    def send(
        self, topic: str, value: bytes, key: bytes, headers: list[tuple[str, bytes]]
    ) -> kafka.future.Future:
        number = json.loads(value)["sequence"]
        self.futures[number] = kafka.future.Future()
        self.headers[number] = headers
        return self.futures[number]

    def close(self, timeout: float) -> None:
        """Nothing to do."""


def publisher_to(producer: Held, outbox: Outbox, **options: Any) -> Publisher:
    settings = KafkaConfig(bootstrap=("127.0.0.1:1",), drain_seconds=0)
    find_topic = options.pop("find_topic", lambda: True)
    return Publisher(
        settings, outbox.of("kafka"), calls=calls(lambda: producer, find_topic), **options
    )


def test_acknowledgements_in_any_order_take_nothing_from_other_sinks(tmp_path: Path) -> None:
    no_updates = OutboxSink("kafka", EventFilter(kinds=("started", "ended")))
    outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"), sinks=[no_updates, OutboxSink("hook")])
    kinds = ("started", "updated", "ended", "started", "ended")
    outbox.append([make_event(number, kind=kind) for number, kind in enumerate(kinds, 1)])
    told: list[int] = []

    def hook(sink: str, events: Sequence[ActionEvent]) -> None:
        assert sink == "kafka"
        told.extend(event.sequence for event in events)
        raise RuntimeError("the trace cannot be sent")

    producer = Held()
    publisher = publisher_to(producer, outbox, on_acknowledged=hook)
    publisher.start()
    assert until(lambda: sorted(producer.futures) == [1, 3, 4, 5])
    for number in (4, 1):
        producer.futures[number].success(None)
        assert until(lambda number=number: number in told)
    assert [item.event.sequence for item in outbox.oldest(9)] == [3, 5]
    assert [item.event.sequence for item in outbox.of("hook").oldest(9)] == [1, 2, 3, 4, 5]
    outbox.of("hook").remove([1, 3, 4, 5])
    assert len(outbox) == 3
    for number in (5, 3):
        producer.futures[number].success(None)
    assert until(lambda: outbox.waiting("kafka") == 0)
    assert [item.event.sequence for item in outbox.of("hook").oldest(9)] == [2]
    publisher.close()
    outbox.close()
    assert told[:2] == [4, 1]
    assert sorted(told) == [1, 3, 4, 5]


def test_a_record_has_the_trace_of_its_event(tmp_path: Path) -> None:
    outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"), sinks=[OutboxSink("kafka")])
    outbox.append([dataclasses.replace(make_event(1), traceparent=TRACE), make_event(2)])
    producer = Held()
    publisher = publisher_to(producer, outbox)
    publisher.start()
    assert until(lambda: len(producer.futures) == 2)
    assert dict(producer.headers[1])["traceparent"] == TRACE.encode()
    assert "traceparent" not in dict(producer.headers[2])
    publisher.close()
    outbox.close()


def test_a_broker_that_answers_again_is_no_problem_although_nothing_is_sent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    answers = threading.Event()
    outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"), sinks=[OutboxSink("kafka")])
    publisher = publisher_to(
        Held(),
        outbox,
        find_topic=answers.is_set,
        timings=PublisherTimings(retry_seconds=0.02),
    )
    publisher.start()
    assert until(lambda: publisher.problem == "no broker answers")
    answers.set()
    assert until(lambda: publisher.problem is None)
    assert "answers again" in caplog.text
    publisher.close()
    outbox.close()
