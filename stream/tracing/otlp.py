"""Spans as OTLP, over HTTP. No other file imports OpenTelemetry, and this one is imported late.

Of OpenTelemetry's environment variables only `OTEL_RESOURCE_ATTRIBUTES` counts. The connection does
not follow redirects, uses no proxy of the environment, and reads answers of limited size.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import socket
import ssl
import time
from collections.abc import Sequence
from typing import Any

import httpx
from google.protobuf.message import DecodeError
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags

from stream.http_client import retry_after_seconds, silence_http_client, trusting
from stream.tracing.config import TracingConfig
from stream.tracing.exporter import CollectorError
from stream.tracing.span import Span
from stream.tracing.trace_context import TraceContext

__all__ = ["OtlpSender"]

_MAX_ANSWER_BYTES = 65_536
_MAX_RETRY_AFTER_SECONDS = 60.0
# OTLP/HTTP, "Failures": only these are sent again.
_RETRYABLE = (429, 502, 503, 504)
_KINDS = {
    "internal": SpanKind.INTERNAL,
    "producer": SpanKind.PRODUCER,
    "client": SpanKind.CLIENT,
}


class OtlpSender:
    """Sends spans to the collector of the settings.

    Args:
        worker: name of this worker, for the resource; None if it is the only one.

    Raises:
        ConfigError: the headers or the authorities cannot be read.
    """

    def __init__(self, config: TracingConfig, *, worker: str | None) -> None:
        assert config.endpoint is not None, "tracing is on"
        self._endpoint = config.endpoint
        self._timeout_seconds = config.timeout_seconds
        self._resource = _resource(config.service_name, worker)
        self._scope = InstrumentationScope("cidc-stream", _version())
        silence_http_client()
        self._client = httpx.Client(
            headers=config.headers() | {"Content-Type": "application/x-protobuf"},
            timeout=config.timeout_seconds,
            verify=_tls(config),
            follow_redirects=False,
            trust_env=False,
        )

    def send(self, spans: Sequence[Span]) -> int:
        """Send spans; return how many of them the collector refused.

        Raises:
            CollectorError: it has taken none.
        """
        try:
            status, headers, answer = self._post(self.encoded(spans))
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise CollectorError(_reason(error), may_retry=True) from None
        if status != 200:
            raise CollectorError(
                f"it answers {status}",
                may_retry=status in _RETRYABLE,
                retry_after_seconds=retry_after_seconds(
                    headers.get("retry-after"), _MAX_RETRY_AFTER_SECONDS
                ),
            )
        try:
            answered = ExportTraceServiceResponse.FromString(answer)
        except DecodeError:
            raise CollectorError("its answer is not OTLP", may_retry=False) from None
        return min(max(0, int(answered.partial_success.rejected_spans)), len(spans))

    def encoded(self, spans: Sequence[Span]) -> bytes:
        """Return spans as the body of a request."""
        request = encode_spans([self._readable(span) for span in spans])
        return bytes(request.SerializeToString())

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(httpx.HTTPError, OSError, RuntimeError):
            self._client.close()

    def _post(self, body: bytes) -> tuple[int, httpx.Headers, bytes]:
        deadline = time.monotonic() + self._timeout_seconds
        with self._client.stream("POST", self._endpoint, content=body) as response:
            answer = b""
            for part in response.iter_raw():
                answer += part
                if len(answer) > _MAX_ANSWER_BYTES:
                    raise CollectorError("its answer is too long", may_retry=False)
                if time.monotonic() > deadline:
                    raise CollectorError("its answer takes too long", may_retry=True)
            return response.status_code, response.headers, answer

    def _readable(self, span: Span) -> ReadableSpan:
        parent = None
        if span.parent_id is not None:
            parent = _span_context(span.context._replace(span_id=span.parent_id))
        return ReadableSpan(
            span.name,
            context=_span_context(span.context),
            parent=parent,
            resource=self._resource,
            attributes=dict(span.attributes),
            links=[] if span.link is None else [Link(_span_context(span.link))],
            kind=_KINDS[span.kind],
            start_time=round(span.started_at * 1e9),
            end_time=round(span.ended_at * 1e9),
            instrumentation_scope=self._scope,
        )


def _span_context(context: TraceContext) -> SpanContext:
    flags = TraceFlags(TraceFlags.SAMPLED if context.is_sampled else TraceFlags.DEFAULT)
    return SpanContext(context.trace_id, context.span_id, is_remote=False, trace_flags=flags)


def _resource(service_name: str, worker: str | None) -> Resource:
    attributes = {
        "service.name": service_name,
        "service.version": _version(),
        "host.name": socket.gethostname(),
    }
    if worker is not None:
        attributes |= {"service.instance.id": worker, "cidc.worker": worker}
    return OTELResourceDetector().detect().merge(Resource(attributes))


def _version() -> str:
    try:
        return importlib.metadata.version("cidc-stream")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _tls(config: TracingConfig) -> ssl.SSLContext | bool:
    if config.tls_ca_file is None:
        return True
    return trusting("tracing.tls_ca_file", config.tls_ca_file)


def _reason(error: Any) -> str:
    """Describe an error of the connection; never the request, whose headers may be secret."""
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
