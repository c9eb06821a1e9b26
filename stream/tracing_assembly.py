"""Makes the traces of events from the configuration; without `tracing.endpoint` there are none."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import urllib.parse
from collections.abc import Callable, Sequence

from stream.config import StreamConfig
from stream.events.announcer import BeginTrace
from stream.events.event import ActionEvent
from stream.events.event_store import OnAcknowledged
from stream.metrics import Metrics
from stream.sinks.config import KAFKA, EventFilter
from stream.tracing.event_traces import EventTraces
from stream.tracing.exporter import SpanExporter
from stream.tracing.sinks import TracedSink
from stream.tracing.span import AttributeValue

__all__ = ["Tracing", "open_tracing", "traced_sinks"]

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Tracing:
    """What the pipeline tells the traces of; without tracing, nobody.

    Attributes:
        begin: called for each event that is announced; None without tracing.
        stored: called with events that were stored.
        acknowledged: called with the name of a sink and with events that it has taken; None
            without tracing.
    """

    begin: BeginTrace | None = None
    stored: Callable[[Sequence[ActionEvent]], None] = lambda events: None
    acknowledged: OnAcknowledged | None = None


def open_tracing(
    config: StreamConfig,
    metrics: Metrics,
    stack: contextlib.ExitStack,
    worker: str | None,
    device: str,
) -> Tracing:
    """Start the export of traces, which the stack ends.

    Args:
        worker: name of this worker; None if it is the only one.
        device: on which the network runs.

    Raises:
        ConfigError: the extra is not installed, or a file of the settings cannot be used.
    """
    settings = config.tracing
    if settings.endpoint is None:
        return Tracing()
    settings.check()
    from stream.tracing.otlp import OtlpSender  # imports OpenTelemetry

    exporter = SpanExporter(
        OtlpSender(settings, worker=worker),
        address=settings.address,
        max_spans=settings.max_queue_spans,
        on_dropped=lambda spans, reason: metrics.trace_spans_dropped.labels(reason).inc(spans),
    )
    attributes: dict[str, AttributeValue] = {"cidc.device": device}
    if worker is not None:
        attributes["cidc.worker"] = worker
    traces = EventTraces(
        exporter.put,
        sinks=traced_sinks(config),
        sample_ratio=settings.sample_ratio,
        max_pending=settings.max_queue_spans,
        attributes=attributes,
    )
    exporter.start()
    stack.callback(exporter.close, settings.timeout_seconds)
    stack.callback(traces.close)  # before the exporter
    _log.info("traces of events go to %s", settings.address)
    return Tracing(traces.begin, traces.stored, traces.acknowledged)


def traced_sinks(config: StreamConfig) -> list[TracedSink]:
    """Describe the sinks whose acknowledgements a trace waits for."""
    sinks = []
    if config.kafka.bootstrap:
        messaging = _messaging("kafka", config.kafka.topic, ",".join(config.kafka.bootstrap))
        takes = _takes(config.kafka.filter)
        sinks.append(TracedSink(KAFKA, takes, f"send {config.kafka.topic}", messaging))
    for server in config.mqtt:
        # The name of a span must not have many values: the topic is the template.
        messaging = _messaging("mqtt", server.topic, server.host)
        takes = _takes(server.filter)
        sinks.append(TracedSink(server.name, takes, f"send {server.topic}", messaging))
    for webhook in config.webhooks:
        request: dict[str, AttributeValue] = {
            "http.request.method": "POST",
            "server.address": urllib.parse.urlsplit(webhook.url).hostname or "",
        }
        takes = _takes(webhook.filter)
        sinks.append(TracedSink(webhook.name, takes, "POST", request, "client"))
    return sinks


def _messaging(system: str, topic: str, server: str) -> dict[str, AttributeValue]:
    return {
        "messaging.system": system,
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": topic,
        "server.address": server,
    }


def _takes(chosen: EventFilter) -> Callable[[ActionEvent, bool], bool]:
    return lambda event, is_known: chosen.takes(event, is_known=is_known)
