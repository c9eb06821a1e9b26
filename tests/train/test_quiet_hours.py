"""False alarms in recordings without actions, and their bound, against tables and sampling."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from tests import ROOT
from train.__main__ import main
from train.data.manifest import Manifest, ManifestEntry
from train.evaluation import quiet_hours
from train.evaluation.event_metrics import StartedEvent, only_actions
from train.evaluation.quiet_hours import measure_quiet_hours, upper_rate

ENTRIES = (
    ManifestEntry(Path("busy.mp4"), "fall", 3.0, 5.0),
    ManifestEntry(Path("busy.mp4"), "wave", 8.0, 9.0),
    ManifestEntry(Path("waves.mp4"), "wave", 2.0, 3.0),
    ManifestEntry(Path("still.mp4"), "background"),
    ManifestEntry(Path("empty.mp4"), "background"),
)
TRUTH = Manifest(Path("truth.csv"), ENTRIES)
EVENTS = (
    StartedEvent("busy", "fall", 7.0),
    StartedEvent("still", "fall", 1.0),
    StartedEvent("still", "wave", 4.0),
    StartedEvent("still", "fall", 9.0),
    StartedEvent("waves", "fall", 4.0),
)


@pytest.fixture(autouse=True)
def half_an_hour_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every recording lasts half an hour."""
    monkeypatch.setattr(
        quiet_hours,
        "recording_hours",
        lambda truth: 0.5 * len({entry.path for entry in truth.entries}),
    )


def test_only_recordings_without_actions_count() -> None:
    found = measure_quiet_hours(TRUTH, EVENTS)
    assert found is not None
    summary = found.summary()
    assert (summary["recordings"], summary["camera_hours"]) == (2, 1.0)
    assert summary["false_alarms"] == summary["false_alarms_per_camera_hour"] == 3
    assert summary["per_action"] == {"fall": 2, "wave": 1}
    assert measure_quiet_hours(Manifest(TRUTH.path, ENTRIES[:3]), EVENTS) is None


def test_without_the_other_actions_their_recordings_are_quiet() -> None:
    truth, events = only_actions(TRUTH, EVENTS, ["fall"])
    found = measure_quiet_hours(truth, events)
    assert found is not None
    assert (found.recordings, found.camera_hours, found.per_action) == (3, 1.5, {"fall": 3})


def test_the_bound_is_that_of_the_tables() -> None:
    # one-sided 95 % limits of a Poisson mean, as printed in tables of statistics
    for count, limit in ((0, 2.996), (1, 4.744), (2, 6.296), (5, 10.513), (10, 16.962)):
        assert upper_rate(count, 1.0) == pytest.approx(limit, abs=2e-3)
        assert upper_rate(count, 4.0) == pytest.approx(limit / 4, abs=1e-3)
    assert upper_rate(0, 1.0) == pytest.approx(-math.log(0.05))


def test_the_bound_holds_in_19_of_20_samples() -> None:
    counts = np.random.default_rng(0).poisson(7.0, size=4000)
    bounds = {count: upper_rate(int(count), 1.0) for count in set(counts.tolist())}
    holds = np.mean([bounds[count] >= 7.0 for count in counts.tolist()])
    assert 0.93 <= holds <= 0.99  # at least 0.95, but for chance; counts are whole numbers


def test_many_events_have_a_bound_too() -> None:
    assert upper_rate(900, 1.0) == pytest.approx(900 + 1.645 * 30, rel=0.005)


def test_the_command_says_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(quiet_hours, "recording_hours", lambda truth: 2.0)
    truth = tmp_path / "truth.csv"
    truth.write_text("busy.mp4,fall,3,5\nstill.mp4,background,,\n")
    events = [
        {
            "kind": "started",
            "camera_id": "still",
            "action": action,
            "pts_start_seconds": 1.0,
            "started_at": "2026-01-01T00:00:01.000Z",
            "produced_at": "2026-01-01T00:00:02.000Z",
        }
        for action in ("fall", "leave", "fall")
    ]
    (tmp_path / "events.jsonl").write_text("\n".join(map(json.dumps, events)))
    arguments = ["score", "--truth", str(truth), "--events", str(tmp_path / "events.jsonl")]
    assert main([*arguments, "--hours", "4", "--json", str(tmp_path / "score.json")]) == 0
    said = (
        "recordings without actions: 3 false alarms in 2.00 camera-hours, 1.5 per camera-hour,"
        " at most 3.88 with 95 % confidence (fall 2, leave 1)"
    )
    assert said in capsys.readouterr().out
    assert said in (ROOT / "docs/how-to/your-own-actions.md").read_text()
    facts = json.loads((tmp_path / "score.json").read_text())
    assert facts["quiet"]["false_alarms_per_camera_hour"] == 1.5
    assert facts["false_per_camera_hour"] == 0.75
