"""Events against the truth, by hand."""

import json
from pathlib import Path

import pytest

from configs import DataError
from train.data.manifest import Manifest, ManifestEntry
from train.evaluation.event_metrics import (
    StartedEvent,
    measure_events,
    only_actions,
    read_started_events,
)

TRUTH = Manifest(
    Path("truth.csv"),
    (
        ManifestEntry(Path("r/a.mp4"), "fall", 10.0, 11.0),
        ManifestEntry(Path("r/a.mp4"), "fall", 12.5, 13.0),
        ManifestEntry(Path("r/a.mp4"), "get_up", 20.0, 21.0),
        ManifestEntry(Path("r/b.mp4"), "fall", 10.0, 11.0),
    ),
)


def test_counts_by_hand() -> None:
    events = [
        StartedEvent("a", "fall", 10.9),
        StartedEvent("a", "fall", 10.1),  # a second one for the same interval is false
        StartedEvent("a", "fall", 14.0),  # too late
        StartedEvent("a", "get_up", 20.0),
        StartedEvent("b", "get_up", 10.0),  # another action
    ]
    metrics = measure_events(TRUTH, events, hours=0.5)
    assert (metrics.found, metrics.missed, metrics.false) == (2, 2, 3)
    assert metrics.per_action == {"fall": (1, 2, 2), "get_up": (1, 0, 1)}
    assert (metrics.precision, metrics.recall) == (0.4, 0.5)
    assert metrics.f1 == pytest.approx(2 * 0.4 * 0.5 / 0.9)
    assert metrics.summary()["false_per_camera_hour"] == 6.0
    assert sorted(metrics.start_errors_seconds) == pytest.approx([0.0, 0.1])


def test_time_to_detect_and_recordings_without_actions_by_hand() -> None:
    entries = (*TRUTH.entries, ManifestEntry(Path("r/quiet.mp4"), "background"))
    events = [
        StartedEvent("a", "fall", 10.5, 11.5),
        StartedEvent("a", "get_up", 20.5, 23.0),
        StartedEvent("quiet", "fall", 3.0, 4.0),
    ]
    metrics = measure_events(Manifest(Path("truth.csv"), entries), events, hours=1.0)
    assert (metrics.found, metrics.missed, metrics.false) == (2, 2, 1)
    assert metrics.detection_seconds == pytest.approx((1.5, 3.0))
    assert metrics.summary()["time_to_detect_p90_seconds"] == 3.0
    assert measure_events(TRUTH, events, hours=1.0, tolerance_seconds=0.4).found == 0


def test_other_actions_can_be_left_out_and_their_recordings_stay() -> None:
    events = [
        StartedEvent("a", "fall", 10.0),
        StartedEvent("a", "get_up", 20.0),
        StartedEvent("b", "wave", 10.0),
    ]
    truth, kept = only_actions(TRUTH, events, ["get_up"])
    metrics = measure_events(truth, kept, hours=1.0)
    assert metrics.per_action == {"get_up": (1, 0, 0)}
    assert {entry.path for entry in truth.entries} == {entry.path for entry in TRUTH.entries}
    with pytest.raises(DataError, match="has no falls; its actions are fall, get_up"):
        only_actions(TRUTH, events, ["falls"])


def test_the_announcement_is_read_from_the_event(tmp_path: Path) -> None:
    event = {
        "kind": "started",
        "camera_id": "a",
        "action": "fall",
        "pts_start_seconds": 7.0,
        "started_at": "2026-01-02T03:04:05.000Z",
        "produced_at": "2026-01-02T03:04:06.500Z",
    }
    (tmp_path / "e.jsonl").write_text(json.dumps(event) + "\n")
    assert read_started_events(tmp_path / "e.jsonl") == [StartedEvent("a", "fall", 7.0, 8.5)]


def test_nothing_found_and_nothing_true() -> None:
    metrics = measure_events(TRUTH, [], hours=1.0)
    assert (metrics.found, metrics.missed, metrics.false, metrics.f1) == (0, 4, 0, 0.0)


def test_malformed_event_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    path.write_text(json.dumps({"kind": "ended"}) + "\n" + json.dumps({"kind": "started"}) + "\n")
    with pytest.raises(DataError, match="line 2"):
        read_started_events(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_started_events(tmp_path / "none.jsonl")


def test_truth_without_times_is_refused() -> None:
    with pytest.raises(DataError, match="has no start_seconds"):
        measure_events(Manifest(Path("t"), (ManifestEntry(Path("a.mp4"), "fall"),)), [], hours=1)
