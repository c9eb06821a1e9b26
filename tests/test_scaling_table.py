"""A fleet on paper: its inputs against the pages and the code, its sums against sums by hand."""

from __future__ import annotations

import collections
import dataclasses
import uuid
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from scripts.scaling_inputs import INPUTS, value
from scripts.scaling_sums import events_per_second, hours_until_full
from scripts.scaling_table import (
    _MAX_PARTITIONS,
    KINDS,
    _topic_gigabytes,
    largest_worker,
    main,
    partitions_for,
    plan,
)
from stream.events.config import OutboxConfig
from stream.events.event import ActionEvent
from stream.events.kafka import partition_of_key
from stream.events.outbox import Outbox
from stream.fleet.config import CamerasFrom
from stream.fleet.records import encode_camera
from stream.metrics import Metrics
from tests import ROOT

EVENT = ActionEvent(
    event_id="74b44a26-d11a-5fac-beef-1e4e530afbbb",
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
    worker="machine-01-1a2b3c4d",
    epoch=123_456,
)


@pytest.mark.parametrize("each", [each for each in INPUTS if each.quote], ids=lambda e: e.name)
def test_inputs_stand_on_the_pages_that_they_name(each: object) -> None:
    source, quote = each.source, each.quote  # type: ignore[attr-defined]
    assert quote in (ROOT / "docs" / source).read_text(encoding="utf-8")


def test_every_input_has_its_proof() -> None:
    for each in INPUTS:
        if each.kind in ("measured", "target"):
            assert each.quote, each.name
        elif each.kind == "assumed":
            assert each.source == "no page", each.name


def test_sizes_of_records_are_those_of_the_code() -> None:
    assert value("event_bytes") == len(EVENT.to_json())
    url = "rtsp://viewer:${secret:camera-00001-password}@10.0.0.5/main"
    key, record = encode_camera({"id": "camera-00001", "url": url, "hop": 8})
    assert value("camera_record_bytes") == len(key) + len(record)


def test_size_of_an_event_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    outbox = Outbox(OutboxConfig(path=path))
    for batch in range(20):
        outbox.append(
            [
                dataclasses.replace(
                    EVENT, event_id=str(uuid.UUID(int=batch * 100 + each)), sequence=each + 1
                )
                for each in range(100)
            ]
        )
    outbox.close()
    assert path.stat().st_size / 2000 == pytest.approx(value("outbox_bytes"), rel=0.15)


def test_series_of_a_camera_without_trouble() -> None:
    metrics = Metrics()
    metrics.set_camera_state("c", "running")
    names = "camera_fps last_frame last_frame_age paused decoded sampled repeated corrupt blocked"
    for name in [*names.split(), "reconnects", "clips"]:
        getattr(metrics, name).labels("c")
    for action in "12345":
        for kind in ("started", "ended"):
            metrics.events.labels("c", action, kind)
    lines = generate_latest(metrics.registry).decode().splitlines()
    assert sum('camera="c"' in line for line in lines) == value("series_per_camera")


def test_settings_are_those_of_the_code() -> None:
    settings = CamerasFrom()
    assert value("partitions_per_worker") == settings.min_partitions_per_worker
    CamerasFrom(partitions=_MAX_PARTITIONS)
    with pytest.raises(ValueError, match="partitions"):
        CamerasFrom(partitions=_MAX_PARTITIONS + 1)


def test_events_by_hand() -> None:
    # 704 actions an hour by 4 cameras are 46.9 in a minute; the demo saw 47
    assert value("busy_actions_per_hour") * 4 * 60.1 / 3600 == pytest.approx(47, abs=0.1)
    assert events_per_second(3600, "calm") == 120
    # 120 events a second for a week, three times
    assert _topic_gigabytes(3600, "calm") == pytest.approx(120 * 604_800 * 537 * 3 / 1e9)
    # a million events at 704 / 3600 * 2 * 120 = 46.9 a second
    assert hours_until_full(120) == pytest.approx(5.92, abs=0.01)


def test_capacities_by_hand() -> None:
    small, large, deep, gpu = (kind.capacity for kind in KINDS)
    assert (small, large) == (15, 120)
    # 0.611 s * 2 cores / 8 clips * 3.75 clips a second = 0.573 cores, and 0.088 for the rest
    assert deep == int(16 / (0.573 + 0.088))
    # the decoder: 3000 / 30; the network would carry 400, one process of Python 196
    assert gpu == 100


def test_partitions_are_a_power_of_two() -> None:
    assert [partitions_for(workers) for workers in (1, 8, 9, 100)] == [64, 64, 128, 1024]


def test_the_fullest_worker_is_counted_camera_by_camera() -> None:
    assert largest_worker(100, 64, 1) == 100
    of_partition = collections.Counter(
        partition_of_key(f"camera-{number:05}".encode(), 64) for number in range(1, 201)
    )
    assert largest_worker(200, 64, 64) == max(of_partition.values())
    # more workers than partitions change nothing
    assert largest_worker(200, 64, 1000) == max(of_partition.values())


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_no_worker_of_a_plan_has_too_many_cameras(kind: object) -> None:
    found = plan(500, kind)  # type: ignore[arg-type]
    assert found.cameras / found.workers <= 0.7 * found.kind.capacity
    assert found.cameras / found.workers <= found.largest <= found.kind.capacity
    assert found.partitions >= 8 * found.workers
    assert found.receives == found.largest * found.kind.megabits


def test_the_tables_in_the_docs_are_those_that_are_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([]) == 0
    page = (ROOT / "docs/scaling.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out in page, "run: python -m scripts.scaling_table"
