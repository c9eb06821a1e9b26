"""The metrics of sinks: what each has taken, lost and refused, and what waits for it."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge

__all__ = ["SinkCounts", "SinkMetrics"]

_KINDS = ("started", "updated", "ended", "verified")


class SinkMetrics:
    """Attributes are metrics, each with the label `sink`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.events = Counter(
            "cidc_sink_events", "Events that a sink has taken", ["sink"], registry=registry
        )
        self.failures = Counter(
            "cidc_sink_failures",
            "Failed attempts to deliver events to a sink, by reason",
            ["sink", "reason"],
            registry=registry,
        )
        self.waiting = Gauge(
            "cidc_sink_waiting_events", "Events that wait for a sink", ["sink"], registry=registry
        )
        self.oldest = Gauge(
            "cidc_sink_oldest_event_seconds",
            "Age of the oldest event that waits for a sink; 0: none waits",
            ["sink"],
            registry=registry,
        )
        self.lost = Counter(
            "cidc_sink_lost_events",
            "Events that a sink will not get, because too many waited for it or it ended, by kind",
            ["sink", "kind"],
            registry=registry,
        )
        self.dead_letters = Counter(
            "cidc_sink_dead_letters",
            "Events that a sink refused, kept as dead letters",
            ["sink"],
            registry=registry,
        )
        self.up = Gauge(
            "cidc_sink_up",
            "1 if a sink takes events, 0 if it does not",
            ["sink"],
            registry=registry,
        )

    def of(self, sink: str) -> SinkCounts:
        """Return the counters of a sink; they are in the exposition from now on."""
        return SinkCounts(self, sink)


class SinkCounts:
    """The counters of one sink."""

    def __init__(self, metrics: SinkMetrics, sink: str) -> None:
        self._metrics = metrics
        self._sink = sink
        # Prometheus does not see the first increase of a series that is not there before it.
        metrics.events.labels(sink)
        metrics.dead_letters.labels(sink)
        for kind in _KINDS:
            metrics.lost.labels(sink, kind)

    def note_taken(self, events: int) -> None:
        """Count events that the sink has taken."""
        self._metrics.events.labels(self._sink).inc(events)

    def note_failure(self, reason: str) -> None:
        """Count a failed attempt."""
        self._metrics.failures.labels(self._sink, reason).inc()

    def note_lost(self, kinds: Mapping[str, int]) -> None:
        """Count events that the sink will not get, by their kind."""
        for kind, count in kinds.items():
            self._metrics.lost.labels(self._sink, kind).inc(count)

    def note_dead_letter(self) -> None:
        """Count an event that the sink refused."""
        self._metrics.dead_letters.labels(self._sink).inc()
