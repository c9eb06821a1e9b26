"""Makes the traces of events from the configuration; without `tracing.endpoint` there are none."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Sequence

from stream.config import StreamConfig
from stream.events.announcer import BeginTrace
from stream.events.event import ActionEvent
from stream.events.event_store import OnAcknowledged
from stream.metrics import Metrics
from stream.sinks.config import EventFilter
from stream.tracing.event_traces import EventTraces
from stream.tracing.exporter import SpanExporter
from stream.tracing.sinks import TracedSink
from stream.tracing.span import AttributeValue

__all__ = ["Tracing", "open_tracing"]

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
        sinks=_traced_sinks(config),
        sample_ratio=settings.sample_ratio,
        max_pending=settings.max_queue_spans,
        attributes=attributes,
    )
    exporter.start()
    stack.callback(exporter.close, settings.timeout_seconds)
    stack.callback(traces.close)  # before the exporter
    _log.info("traces of events go to %s", settings.address)
    return Tracing(traces.begin, traces.stored, traces.acknowledged)


def _traced_sinks(config: StreamConfig) -> list[TracedSink]:
    """Describe the sinks whose acknowledgements a trace waits for."""
    sinks = []
    if config.kafka.bootstrap:
        sinks.append(
            TracedSink(
                "kafka",
                _takes(config.kafka.filter),
                f"send {config.kafka.topic}",
                {
                    "messaging.system": "kafka",
                    "messaging.operation.name": "send",
                    "messaging.operation.type": "send",
                    "messaging.destination.name": config.kafka.topic,
                    "server.address": ",".join(config.kafka.bootstrap),
                },
            )
        )
    return sinks


def _takes(chosen: EventFilter) -> Callable[[ActionEvent, bool], bool]:
    return lambda event, is_known: chosen.takes(event, is_known=is_known)
