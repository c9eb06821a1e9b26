"""Makes what sends the events of the outbox: to Kafka, and to each other sink."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from typing import Any

from configs import OutboxError
from stream.config import StreamConfig
from stream.draining import announce_draining, report_unsent
from stream.events.event_store import EventStore, OnAcknowledged
from stream.events.outbox import Outbox
from stream.events.publisher import Publisher
from stream.events.sink_registry import OutboxSink
from stream.metrics import Metrics
from stream.sinks.assembly import make_deliveries
from stream.sinks.config import KAFKA
from stream.sinks.worker import SinkWorker
from stream.stage import close_quietly

__all__ = ["Sinks"]

_log = logging.getLogger(__name__)


class Sinks:
    """The publisher to Kafka, if there is a broker, and a thread for each other sink.

    Raises:
        ConfigError: the settings of a sink cannot be used.
    """

    def __init__(self, config: StreamConfig, metrics: Metrics) -> None:
        self._config = config
        self._metrics = metrics
        self._deliveries = make_deliveries(config)
        self._workers: list[SinkWorker] = []
        self._publisher: Publisher | None = None
        self._outbox: Outbox | None = None

    @property
    def in_outbox(self) -> Sequence[OutboxSink]:
        """The sinks for which the outbox keeps events."""
        sinks = [
            OutboxSink(sink.name, sink.filter, sink.max_lag_events) for sink, _ in self._deliveries
        ]
        kafka = self._config.kafka
        if kafka.bootstrap:
            sinks.insert(0, OutboxSink(KAFKA, kafka.filter, kafka.max_lag_events))
        return sinks

    def start(
        self,
        outbox: Outbox,
        for_kafka: EventStore,
        stack: contextlib.ExitStack,
        on_acknowledged: OnAcknowledged | None = None,
    ) -> None:
        """Start the threads, which the stack closes.

        Args:
            for_kafka: the outbox as the publisher is to see it.
            on_acknowledged: called with the name of a sink and with events that it has taken, in
                the thread of the sink.

        Raises:
            BrokerError: the settings of the broker cannot be used.
        """
        self._outbox = outbox
        if self._config.kafka.bootstrap:
            self._start_publisher(for_kafka, stack, on_acknowledged)
        for sink, delivery in self._deliveries:
            worker = SinkWorker(
                sink,
                delivery,
                outbox.of(sink.name),
                self._metrics.sinks.of(sink.name),
                on_acknowledged=on_acknowledged,
            )
            self._workers.append(worker)
            worker.start()
            stack.callback(close_quietly, worker.close)
        # All drain at the same time: the last to be called back is the first to be called.
        stack.callback(self._begin_end)

    def close(self) -> None:
        """Close deliveries that were made and never started."""
        for _, delivery in self._deliveries[len(self._workers) :]:
            close_quietly(delivery.close)

    def refresh(self) -> None:
        """Bring the gauges up to date."""
        for sink, problem, _ in self._states():
            metrics = self._metrics.sinks
            metrics.up.labels(sink).set(problem is None)
            metrics.waiting.labels(sink).set(self._waiting(sink))
            metrics.oldest.labels(sink).set(self._oldest_seconds(sink))

    def report(self) -> list[dict[str, Any]]:
        """Describe each sink, for `/health`."""
        return [
            {
                "sink": sink,
                "address": address,
                "problem": problem,
                "waiting": self._waiting(sink),
            }
            for sink, problem, address in self._states()
        ]

    def summary(self) -> dict[str, dict[str, int]]:
        """Return what each sink has taken, lost and left, for the summary of the run."""
        metrics = self._metrics.sinks
        return {
            sink: {
                "events": self._metrics.total(metrics.events, sink=sink),
                "failures": self._metrics.total(metrics.failures, sink=sink),
                "dead_letters": self._metrics.total(metrics.dead_letters, sink=sink),
                "lost": self._metrics.total(metrics.lost, sink=sink),
                "waiting": self._waiting(sink),
            }
            for sink, _, _ in self._states()
        }

    def send_last_events(self) -> None:
        """Send what the outbox holds, within the time of each sink, and report what remains."""
        assert self._outbox is not None
        self._begin_end()
        if self._publisher is not None:
            announce_draining(self._outbox.waiting(KAFKA), self._config.kafka)
            close_quietly(self._publisher.close)
            left = self._outbox.waiting(KAFKA)
            report_unsent(left, self._config.outbox.path, self._config.kafka)
        for worker in self._workers:
            close_quietly(worker.close)
            if left := self._waiting(worker.config.name):
                _log.warning(
                    "%d events could not be delivered to sink %s at %s within %g s; they stay in"
                    " the outbox %s, and the next run with this outbox delivers them",
                    left,
                    worker.config.name,
                    worker.address,
                    worker.config.drain_seconds,
                    self._config.outbox.path,
                )

    def _start_publisher(
        self,
        store: EventStore,
        stack: contextlib.ExitStack,
        on_acknowledged: OnAcknowledged | None,
    ) -> None:
        metrics, counts = self._metrics, self._metrics.sinks.of(KAFKA)
        metrics.broker_configured.set(1)

        def note_published(events: int) -> None:
            metrics.published.inc(events)
            counts.note_taken(events)

        def note_failure(error: str) -> None:
            metrics.publish_failures.labels(error).inc()
            counts.note_failure(error)

        def note_dead_letter() -> None:
            metrics.outbox_rejected.inc()
            counts.note_dead_letter()

        self._publisher = Publisher(
            self._config.kafka,
            store,
            note_published,
            note_failure,
            note_dead_letter,
            on_acknowledged=on_acknowledged,
        )
        self._publisher.start()
        stack.callback(close_quietly, self._publisher.close)

    def _begin_end(self) -> None:
        for worker in self._workers:
            worker.begin_end()

    def _states(self) -> list[tuple[str, str | None, str]]:
        """Return name, problem and address of each sink."""
        states = []
        if self._publisher is not None:
            address = ", ".join(self._config.kafka.bootstrap)
            states.append((KAFKA, self._publisher.problem, address))
        return states + [
            (worker.config.name, worker.problem, worker.address) for worker in self._workers
        ]

    def _waiting(self, sink: str) -> int:
        return 0 if self._outbox is None else self._outbox.waiting(sink)

    def _oldest_seconds(self, sink: str) -> float:
        if self._outbox is None:
            return 0.0
        try:
            return self._outbox.oldest_age_seconds(sink)
        except OutboxError:
            return float("nan")
