"""A stub OTLP/HTTP collector: it keeps the spans that it gets, or misbehaves as it is told."""

from __future__ import annotations

import contextlib
import http.server
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


class SeenSpan(NamedTuple):
    """A span as the collector read it from protobuf; ids in hex, times in nanoseconds."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    started: int
    ended: int
    kind: int
    attributes: dict[str, Any]
    links: tuple[tuple[str, str], ...]
    resource: dict[str, Any]


class Collector:
    """What came; `answer` may be replaced by what misbehaves.

    Attributes:
        requests: number of requests that were read.
        headers: those of the latest request.
    """

    def __init__(self) -> None:
        self.spans: list[SeenSpan] = []
        self.requests = 0
        self.headers: dict[str, str] = {}
        self.answer: Callable[[http.server.BaseHTTPRequestHandler], None] = accept
        self.endpoint = ""

    def roots(self) -> list[SeenSpan]:
        """The spans without a parent."""
        return [span for span in self.spans if not span.parent_id]

    def children(self, root: SeenSpan) -> dict[str, SeenSpan]:
        """The spans below a root, by name; each name occurs once."""
        found = [span for span in self.spans if span.parent_id == root.span_id]
        assert all(span.trace_id == root.trace_id for span in found)
        by_name = {span.name: span for span in found}
        assert len(by_name) == len(found)
        return by_name


def accept(handler: http.server.BaseHTTPRequestHandler) -> None:
    """Answer as a collector that took everything."""
    reply(200, ExportTraceServiceResponse().SerializeToString())(handler)


def reply(
    status: int, body: bytes = b"", **headers: str
) -> Callable[[http.server.BaseHTTPRequestHandler], None]:
    """Return an answer with a status, a body and headers, whose `_` become `-`."""

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def hang(seconds: float) -> Callable[[http.server.BaseHTTPRequestHandler], None]:
    """Return an answer that does not come for a while."""

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        time.sleep(seconds)
        accept(handler)

    return answer


def endless(handler: http.server.BaseHTTPRequestHandler) -> None:
    """Answer with more than any collector would say."""
    handler.send_response(200)
    handler.end_headers()
    with contextlib.suppress(OSError):
        for _ in range(10_000):
            handler.wfile.write(b"x" * 10_000)


@contextlib.contextmanager
def running_collector() -> Iterator[Collector]:
    """Run a collector on a free port of this machine."""
    collector = Collector()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.requests += 1
            collector.headers = dict(self.headers.items())
            if collector.answer is accept:
                assert self.headers["Content-Type"] == "application/x-protobuf"
                collector.spans += _read(body)
            with contextlib.suppress(OSError):
                collector.answer(self)

        def log_message(self, *arguments: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    collector.endpoint = f"http://127.0.0.1:{server.server_port}/v1/traces"
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _read(body: bytes) -> list[SeenSpan]:
    return [
        SeenSpan(
            span.name,
            span.trace_id.hex(),
            span.span_id.hex(),
            span.parent_span_id.hex(),
            span.start_time_unix_nano,
            span.end_time_unix_nano,
            span.kind,
            _attributes(span.attributes),
            tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
            _attributes(of_resource.resource.attributes),
        )
        for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for of_scope in of_resource.scope_spans
        for span in of_scope.spans
    ]


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
