"""Traces of whole pipelines, from a file's packets to the store."""

from __future__ import annotations

import contextlib
import http.client
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.parse
from pathlib import Path
from typing import Any

import prometheus_client.openmetrics.parser as openmetrics
import pytest

from configs import ConfigError
from stream.config import StreamConfig
from stream.pipeline import Pipeline
from stream.tracing import config as tracing_config
from stream.tracing.event_traces import STAGES
from stream.tracing_assembly import traced_sinks
from tests import ROOT
from tests.support.broker import free_port, running_broker
from tests.support.coded_video import write_video
from tests.support.collector import Collector, SeenSpan, running_collector
from tests.support.factory import make_event
from tests.support.pipelines import config_for
from tests.support.topics import all_records

EVENTS = {"smoothing": 1, "default": {"enter": 0.05, "exit": 0.0}}


def traced(
    weights: Path,
    folder: Path,
    endpoint: str | None,
    kafka: dict[str, Any] | None = None,
    **settings: Any,
) -> StreamConfig:
    video = write_video(folder / "a.mp4", "libx264", range(48))
    sections = {"events": EVENTS, "tracing": {"endpoint": endpoint} | settings}
    if kafka is not None:
        sections["kafka"] = kafka
    return config_for(weights, folder, {"a": video}, **sections)


def stored(folder: Path) -> list[tuple[str, str, str | None]]:
    """The `event_id`, kind and `traceparent` of each event of the outbox."""
    with contextlib.closing(sqlite3.connect(folder / "outbox.db")) as database:
        query = "select event_id, kind, traceparent from events order by id"
        return database.execute(query).fetchall()


def check_stages(collector: Collector, root: SeenSpan, names: tuple[str, ...]) -> None:
    """Check that the spans below a root follow each other, from its start to its end."""
    children = collector.children(root)
    assert set(children) == set(names)
    at = root.started
    for name in names:
        span = children[name]
        assert abs(span.started - at) <= 1_000  # a microsecond: they are written as floats
        assert span.started <= span.ended
        at = span.ended
    assert abs(at - root.ended) <= 1_000


def ask(address: str, accept: str) -> tuple[str, str]:
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(address).netloc, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", "/metrics", headers={"Accept": accept})
        answer = connection.getresponse()
        assert answer.status == 200
        return answer.headers["Content-Type"], answer.read().decode()


def test_every_event_has_its_trace_and_the_metrics_name_one(
    tiny_weights: Path, tmp_path: Path
) -> None:
    before = time.time_ns()
    with running_collector() as collector:
        config = traced(tiny_weights, tmp_path, collector.endpoint)
        with Pipeline(config, worker="w7") as pipeline:
            pipeline.run(threading.Event())
            assert pipeline.http is not None
            address = pipeline.http.address
            kind, text = ask(address, "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
            classic_kind, classic = ask(address, "text/plain;version=0.0.4")
        after = time.time_ns()
    events = stored(tmp_path)
    assert {kind for _, kind, _ in events} == {"started", "ended"}
    roots = {root.attributes["cidc.sequence"]: root for root in collector.roots()}
    assert len(roots) == len(events)
    starts = {}
    for number, (event_id, kind_of_event, traceparent) in enumerate(events, 1):
        root = roots[number]
        assert traceparent == f"00-{root.trace_id}-{root.span_id}-01"
        assert root.name == f"event {kind_of_event}"
        assert root.attributes["cidc.event_id"] == event_id
        assert root.attributes["cidc.camera"] == "a"
        assert root.attributes["cidc.device"] == "cpu"
        assert root.attributes["cidc.worker"] == root.resource["service.instance.id"] == "w7"
        assert before <= root.started <= root.ended <= after
        has_clip = kind_of_event == "started"
        check_stages(collector, root, STAGES if has_clip else ("store",))
        if kind_of_event == "started":
            starts[event_id] = root
            assert root.links == ()
        else:
            assert root.links == ((starts[event_id].trace_id, starts[event_id].span_id),)
    # Exemplars, in the one format that has them.
    assert kind.startswith("application/openmetrics-text; version=1.0.0")
    [latency] = [
        family
        for family in openmetrics.text_string_to_metric_families(text)
        if family.name == "cidc_camera_to_event_seconds"
    ]
    found = [sample.exemplar for sample in latency.samples if sample.exemplar is not None]
    assert found
    for exemplar in found:
        assert exemplar.labels["trace_id"] in {root.trace_id for root in starts.values()}
    assert classic_kind.startswith("text/plain")
    assert "trace_id" not in classic
    assert "cidc_camera_to_event_seconds_bucket" in classic


@pytest.mark.broker
@pytest.mark.slow
def test_a_trace_ends_at_the_broker_also_after_a_restart(
    tiny_weights: Path, tmp_path: Path
) -> None:
    with running_collector() as collector, running_broker() as bootstrap:
        nobody = {"bootstrap": [f"127.0.0.1:{free_port()}"], "drain_seconds": 0}
        with Pipeline(traced(tiny_weights, tmp_path, collector.endpoint, nobody)) as pipeline:
            pipeline.run(threading.Event())
        waiting = [traceparent for _, _, traceparent in stored(tmp_path)]
        assert waiting
        roots = {f"00-{root.trace_id}-{root.span_id}-01": root for root in collector.roots()}
        assert set(roots) == set(waiting)
        assert {root.attributes["cidc.unacknowledged"] for root in roots.values()} == {"kafka"}
        kafka = {"bootstrap": [bootstrap], "topic": "traced", "drain_seconds": 20}
        with Pipeline(traced(tiny_weights, tmp_path, collector.endpoint, kafka)) as pipeline:
            pipeline.run(threading.Event())
        records = all_records(bootstrap, "traced")
    assert stored(tmp_path) == []
    headers = [dict(record.headers)["traceparent"].decode() for record in records]
    assert headers[: len(waiting)] == waiting
    assert len(headers) > len(waiting)
    roots = {f"00-{root.trace_id}-{root.span_id}-01": root for root in collector.roots()}
    assert set(roots) == set(headers)
    for record, header in zip(records, headers, strict=True):
        root = roots[header]
        sent = collector.children(root)["send traced"]
        assert sent.kind == 4  # producer
        assert sent.attributes == {
            "cidc.sink": "kafka",
            "messaging.system": "kafka",
            "messaging.operation.name": "send",
            "messaging.operation.type": "send",
            "messaging.destination.name": "traced",
            "messaging.message.id": dict(record.headers)["event_id"].decode(),
            "messaging.kafka.message.key": "a",
            "server.address": bootstrap,
        }
        assert sent.started < sent.ended
        if header in waiting:
            assert root.ended < sent.ended
            continue
        assert "cidc.unacknowledged" not in root.attributes
        has_clip = root.attributes["cidc.kind"] == "started"
        check_stages(collector, root, (*(STAGES if has_clip else ("store",)), "send traced"))


def test_a_fraction_of_the_actions_is_traced_and_the_others_say_so(
    tiny_weights: Path, tmp_path: Path
) -> None:
    with running_collector() as collector:
        config = traced(tiny_weights, tmp_path, collector.endpoint, sample_ratio=0.0)
        with Pipeline(config) as pipeline:
            pipeline.run(threading.Event())
            text = pipeline.metrics.openmetrics().decode()
    assert collector.requests == 0
    assert "trace_id" not in text
    events = stored(tmp_path)
    assert events
    assert all(str(traceparent).endswith("-00") for _, _, traceparent in events)


def test_a_collector_that_is_away_costs_a_count(tiny_weights: Path, tmp_path: Path) -> None:
    config = traced(tiny_weights, tmp_path, "http://127.0.0.1:9/v1/traces", timeout_seconds=0.2)
    with Pipeline(config) as pipeline:
        summary = pipeline.run(threading.Event())
        metrics = pipeline.metrics
    assert summary["events_lost"] == 0
    assert stored(tmp_path)
    dropped = metrics.by_label(metrics.trace_spans_dropped, "reason")
    roots = len(stored(tmp_path))
    assert sum(dropped.values()) >= roots * 2
    assert set(dropped) <= {"failed", "shutdown"}


def test_a_trace_waits_for_each_sink_that_gets_the_event(
    tiny_weights: Path, tmp_path: Path
) -> None:
    config = config_for(
        tiny_weights,
        tmp_path,
        {"a": tmp_path / "a.mp4"},
        kafka={"bootstrap": ["k:9092", "l:9092"], "filter": {"kinds": ["started"]}},
        mqtt=[{"name": "house", "url": "mqtts://mqtt.example:8883", "topic": "t/{camera}"}],
        webhooks=[
            {
                "name": "door",
                "url": "https://hooks.example/path?key=k3y",
                "secret": "whsec_" + "A" * 44,
                "filter": {"min_confidence": 0.9},
            }
        ],
    )
    kafka, mqtt, webhook = traced_sinks(config)
    assert [sink.name for sink in (kafka, mqtt, webhook)] == ["kafka", "house", "door"]
    started, ended = make_event(1), make_event(2, kind="ended", event=1)
    assert (kafka.takes(started, False), kafka.takes(ended, True)) == (True, False)
    assert (webhook.takes(started, False), webhook.takes(ended, True)) == (False, True)
    assert mqtt.takes(ended, False)
    assert [sink.span_name for sink in (kafka, mqtt, webhook)] == [
        "send action-events",
        "send t/{camera}",
        "POST",
    ]
    assert mqtt.attributes["messaging.system"] == "mqtt"
    assert mqtt.attributes["messaging.destination.name"] == "t/{camera}"
    assert kafka.attributes["server.address"] == "k:9092,l:9092"
    assert webhook.kind == "client"
    assert webhook.attributes == {
        "http.request.method": "POST",
        "server.address": "hooks.example",
    }


# FastAPI imports the interface of OpenTelemetry, which does nothing by itself.
NEEDS_EXTRA = ("opentelemetry.sdk", "opentelemetry.exporter", "opentelemetry.proto")


@pytest.mark.slow
def test_without_an_endpoint_nothing_of_opentelemetry_is_imported(
    tiny_weights: Path, tmp_path: Path
) -> None:
    write_video(tmp_path / "a.mp4", "libx264", range(40))
    program = f"""
import sys, threading
from stream.config import StreamConfig
from stream.pipeline import Pipeline
config = StreamConfig.model_validate({{
    "cameras": [{{"id": "a", "url": {str(tmp_path / "a.mp4")!r}, "pace": "fast"}}],
    "infer": {{"weights": {str(tiny_weights)!r}, "device": "cpu", "precision": "float32"}},
    "events": {EVENTS!r}, "outbox": {{"path": {str(tmp_path / "outbox.db")!r}}},
    "http": {{"port": 0, "changes": {str(tmp_path / "changes.json")!r}}},
}})
with Pipeline(config) as pipeline:
    print("clips:", pipeline.run(threading.Event())["cameras"]["a"]["clips"])
names = {(*NEEDS_EXTRA, "stream.tracing.otlp")!r}
print([name for name in sys.modules if name.startswith(names)])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    clips, modules = done.stdout.splitlines()[-2:]
    assert int(clips.removeprefix("clips: ")) > 0
    assert modules == "[]"
    assert all(traceparent is None for _, _, traceparent in stored(tmp_path))


def test_a_missing_extra_is_one_error_that_names_it(
    tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = traced(tiny_weights, tmp_path, "http://127.0.0.1:4318/v1/traces")
    monkeypatch.setattr(tracing_config, "_PACKAGES", ("no_such_package.sdk",))
    with pytest.raises(ConfigError, match=r"pip install 'cidc-stream\[otel\]'"):
        Pipeline(config)
    assert not (tmp_path / "outbox.db").exists()
