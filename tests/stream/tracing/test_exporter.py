"""Spans on their way to a collector that is there, away, slow, or answers nonsense."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import importlib.metadata
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from configs import ConfigError
from stream.tracing.config import TracingConfig
from stream.tracing.exporter import SpanExporter
from stream.tracing.otlp import OtlpSender
from stream.tracing.span import Span
from stream.tracing.trace_context import TraceContext
from tests.support.broker import free_port
from tests.support.collector import (
    Collector,
    accept,
    endless,
    hang,
    reply,
    running_collector,
)
from tests.support.waiting import until

ROOT = TraceContext(0xABC << 64 | 7, 5, True)
SPANS = [
    Span(
        "event ended", ROOT, None, 100.0, 101.5, {"cidc.camera": "a"}, link=TraceContext(9, 8, True)
    ),
    Span("store", ROOT._replace(span_id=6), 5, 100.25, 101.0, {}),
    Span(
        "send t", ROOT._replace(span_id=7), 5, 101.0, 101.5, {"n": 3, "ok": True}, kind="producer"
    ),
]


@dataclasses.dataclass
class Rig:
    """An exporter that runs; `dropped` counts spans by reason."""

    exporter: SpanExporter
    dropped: collections.Counter[str]


@contextlib.contextmanager
def exporting(endpoint: str, *, close_seconds: float = 2.0, **settings: object) -> Iterator[Rig]:
    """Run an exporter to an endpoint, with short pauses."""
    config = TracingConfig.model_validate(
        {"endpoint": endpoint, "timeout_seconds": 0.5, "max_queue_spans": 64} | settings
    )
    dropped: collections.Counter[str] = collections.Counter()
    exporter = SpanExporter(
        OtlpSender(config, worker="w1"),
        address=config.address,
        max_spans=config.max_queue_spans,
        on_dropped=lambda spans, reason: dropped.update({reason: spans}),
        pause_seconds=0.02,
        gather_seconds=0.05,
    )
    exporter.start()
    try:
        yield Rig(exporter, dropped)
    finally:
        exporter.close(close_seconds)


@pytest.fixture(scope="module")
def server() -> Iterator[Collector]:
    with running_collector() as collector:
        yield collector


@pytest.fixture
def collector(server: Collector) -> Collector:
    server.spans.clear()
    server.requests = 0
    server.answer = accept
    return server


def test_a_collector_reads_what_was_sent(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test,service.name=other")
    # These do not count: the settings say all of it.
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-other=1")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with exporting(collector.endpoint) as rig:
        rig.exporter.put(SPANS)
    assert not rig.dropped
    assert "x-other" not in {name.lower() for name in collector.headers}
    by_name = {span.name: span for span in collector.spans}
    root, store, sent = by_name["event ended"], by_name["store"], by_name["send t"]
    assert root.trace_id == f"{ROOT.trace_id:032x}"
    assert (root.span_id, root.parent_id) == ("0000000000000005", "")
    assert {store.parent_id, sent.parent_id} == {root.span_id}
    assert {store.trace_id, sent.trace_id} == {root.trace_id}
    assert (root.started, root.ended) == (100_000_000_000, 101_500_000_000)
    assert store.started == 100_250_000_000
    assert (root.kind, sent.kind) == (1, 4)  # internal, producer
    assert root.attributes == {"cidc.camera": "a"}
    assert sent.attributes == {"n": 3, "ok": True}
    assert root.links == ((f"{9:032x}", f"{8:016x}"),)
    assert root.resource == {
        "deployment.environment": "test",
        "service.name": "cidc-stream",
        "service.version": importlib.metadata.version("cidc-stream"),
        "service.instance.id": "w1",
        "cidc.worker": "w1",
        "host.name": socket.gethostname(),
    }


def test_headers_of_the_file_are_sent_and_never_shown(
    collector: Collector, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "headers"
    file.write_text("# of the collector\nAuthorization: Bearer s3cret\n\nX-Scope: a: b\n")
    collector.answer = reply(401)
    endpoint = f"{collector.endpoint}?key=k3y"
    with exporting(endpoint, headers_file=file) as rig:
        rig.exporter.put(SPANS)
        assert until(lambda: rig.dropped["refused"] == 3)
    headers = {name.lower(): value for name, value in collector.headers.items()}
    assert headers["authorization"] == "Bearer s3cret"
    assert headers["x-scope"] == "a: b"
    assert "it answers 401" in caplog.text
    assert "s3cret" not in caplog.text
    assert "k3y" not in caplog.text


@pytest.mark.parametrize("status", [302, 400, 413, 500])
def test_an_answer_that_repeats_itself_drops_the_spans_at_once(
    collector: Collector, status: int
) -> None:
    collector.answer = reply(status, Location=f"{collector.endpoint}/other")
    with exporting(collector.endpoint) as rig:
        rig.exporter.put(SPANS)
        assert until(lambda: rig.dropped["refused"] == 3)
        collector.answer = accept
        rig.exporter.put(SPANS)
    assert collector.requests == 2
    assert len(collector.spans) == 3
    assert rig.dropped == {"refused": 3}


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_collector_that_is_busy_gets_the_spans_again(collector: Collector, status: int) -> None:
    collector.answer = reply(status, Retry_After="0")
    with exporting(collector.endpoint) as rig:
        rig.exporter.put(SPANS)
        assert until(lambda: collector.requests >= 2)
        collector.answer = accept
        assert until(lambda: bool(collector.spans))
    assert [span.name for span in collector.spans] == [span.name for span in SPANS]
    assert not rig.dropped


def test_spans_that_the_collector_refuses_are_counted(collector: Collector) -> None:
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = 2
    collector.answer = reply(200, answer.SerializeToString())
    with exporting(collector.endpoint) as rig:
        rig.exporter.put(SPANS)
    assert rig.dropped == {"refused": 2}


@pytest.mark.parametrize("answer", [reply(200, b"\xff\xff garbage"), endless])
def test_an_answer_that_is_not_otlp_costs_the_spans_and_nothing_else(
    collector: Collector, answer: object
) -> None:
    collector.answer = answer  # type: ignore[assignment]
    with exporting(collector.endpoint) as rig:
        rig.exporter.put(SPANS)
        assert until(lambda: rig.dropped["refused"] == 3)
        collector.answer = accept
        rig.exporter.put(SPANS)
    assert len(collector.spans) == 3


def test_without_a_collector_the_queue_is_bounded_and_putting_is_fast() -> None:
    started = time.monotonic()
    with exporting(f"http://127.0.0.1:{free_port()}/v1/traces", close_seconds=0.3) as rig:
        for _ in range(1000):
            rig.exporter.put(SPANS)
        assert time.monotonic() - started < 0.5
    assert time.monotonic() - started < 2.0
    assert rig.dropped["queue_full"] >= 3000 - 64
    assert sum(rig.dropped.values()) == 3000


def test_a_collector_that_does_not_answer_delays_the_end_by_its_timeout_only(
    collector: Collector,
) -> None:
    collector.answer = hang(3.0)
    with exporting(collector.endpoint, close_seconds=0.3, timeout_seconds=30.0) as rig:
        rig.exporter.put(SPANS)
        assert until(lambda: bool(collector.requests))
        rig.exporter.put(SPANS[:2])
        started = time.monotonic()
    assert time.monotonic() - started < 1.0
    assert rig.dropped == {"shutdown": 5}


def test_the_thread_survives_what_nobody_expected() -> None:
    class Broken:
        def __init__(self) -> None:
            self.sent: list[int] = []

        def send(self, spans: Sequence[Span]) -> int:
            self.sent.append(len(spans))
            if len(self.sent) == 1:
                raise ZeroDivisionError
            return 0

        def close(self) -> None:
            pass

    dropped: collections.Counter[str] = collections.Counter()
    broken = Broken()
    exporter = SpanExporter(
        broken, address="x", max_spans=600, on_dropped=lambda n, why: dropped.update({why: n})
    )
    exporter.start()
    exporter.put(SPANS * 171)  # more than a batch: sent at once
    assert until(lambda: bool(dropped))
    exporter.put(SPANS)
    exporter.close(2.0)
    assert dropped == {"failed": 512}
    assert sum(broken.sent) == 516


@pytest.mark.parametrize(
    "endpoint",
    ["ftp://a/v1/traces", "127.0.0.1:4318", "http://", "http://a:99999/", "http://a/#x"],
)
def test_an_endpoint_is_the_address_of_a_collector(endpoint: str) -> None:
    with pytest.raises(ValueError, match="OTLP/HTTP address of a collector"):
        TracingConfig(endpoint=endpoint)


def test_an_endpoint_with_a_password_is_refused_without_showing_it() -> None:
    with pytest.raises(ValueError, match="no user name and no password") as refused:
        TracingConfig(endpoint="http://me:s3cret@127.0.0.1:4318/v1/traces")
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("text", ["no header s3cret", "A b: c", "X: s3cret\x01", "X: s3crét"])
def test_a_file_of_headers_that_cannot_be_used_is_refused_without_showing_it(
    text: str, tmp_path: Path
) -> None:
    file = tmp_path / "headers"
    file.write_text(f"Good: s3cret\n{text}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="line 2") as refused:
        TracingConfig(endpoint="http://a/", headers_file=file).check()
    assert "s3cret" not in str(refused.value)


def test_a_missing_file_is_named() -> None:
    for name in ("headers_file", "tls_ca_file"):
        with pytest.raises(ValueError, match=f"{name} not found: /nowhere"):
            TracingConfig.model_validate({"endpoint": "http://a/", name: "/nowhere"})


def test_authorities_that_are_none_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("nothing")
    config = TracingConfig(endpoint="https://a/", tls_ca_file=file)
    with pytest.raises(ConfigError, match=r"tracing\.tls_ca_file .* cannot be used"):
        OtlpSender(config, worker=None)
