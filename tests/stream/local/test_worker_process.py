"""Real workers: two pipelines in processes of their own, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stream.events.outbox import read_events
from stream.local.dealing import owner_of
from tests.support.command_line import stream, write_config


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_workers_analyse_their_cameras_to_the_end(
    scenes: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    path = sorted((scenes / "recordings").glob("*.mp4"))[0]
    names = ("a", "b", "c", "front-door")
    config = write_config(tmp_path, tiny_weights, dict.fromkeys(names, path))
    assert sorted(owner_of(name, 2) for name in names) == [0, 0, 1, 1]
    done = stream(
        *("run", "--config", config, "--devices", "cpu,cpu"),
        *("--summary", tmp_path / "s.json"),
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "Fatal" not in done.stderr
    summary = json.loads((tmp_path / "s.json").read_text())
    assert (summary["failed"], summary["restarts"]) == ([], {"0": 0, "1": 0})
    events = {}
    for index in range(2):
        cameras = summary["workers"][str(index)]["cameras"]
        assert set(cameras) == {name for name in names if owner_of(name, 2) == index}
        assert all(camera["clips"] > 0 for camera in cameras.values())
        for stored in read_events(tmp_path / f"outbox-{index}.db"):
            event = stored.event
            assert (event.worker, event.epoch) == (str(index), None)
            told = (event.kind, event.action, event.sequence, event.pts_start_seconds)
            events.setdefault(event.camera_id, []).append(told)
    assert len(events) == len(names)
    assert all(each == events["a"] for each in events.values())  # it is the same video
    assert f"worker {owner_of('a', 2)}: " in done.stdout
    assert "worker 1: " in done.stderr
