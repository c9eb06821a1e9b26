"""The wired pipeline when a disk is full, a network fails, a camera is broken."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from stream.console.summary import summary_lines
from stream.events.config import EventConfig
from stream.events.outbox import read_events
from stream.pipeline import Pipeline
from tests.support.databases import fill_disk, free_disk, watched_connections
from tests.support.pipelines import config_for, recogniser_that, run_pipeline
from tests.support.waiting import until


@pytest.mark.slow
def test_a_full_disk_stops_no_camera_and_loses_no_event(
    scenes: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = {path.stem: path for path in sorted((scenes / "recordings").glob("*.mp4"))}
    sections = {
        "events": EventConfig(smoothing=1, default={"enter": 0.3, "exit": 0.2}, update_seconds=0.2)
    }
    whole = run_pipeline(config_for(tiny_weights, tmp_path / "whole", urls, **sections))
    waited = threading.Event()
    opened = watched_connections(monkeypatch)
    with Pipeline(config_for(tiny_weights, tmp_path / "full", urls, **sections)) as pipeline:
        database = opened[-1]
        fill_disk(database)

        def make_room() -> None:
            if until(lambda: pipeline.writer.problem is not None, 60):
                waited.set()
            free_disk(database)

        threading.Thread(target=make_room, daemon=True).start()
        summary = pipeline.run(threading.Event())
    assert waited.is_set(), "the disk was never full, so this test has shown nothing"
    assert summary["events"] == whole["events"]
    events = read_events(tmp_path / "full/outbox.db")
    assert len(events) == sum(sum(kinds.values()) for kinds in summary["events"].values())


def test_a_hanging_network_does_not_prevent_the_end_of_a_run(
    scenes: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    hanging = threading.Event()
    release = threading.Event()
    path = next((scenes / "recordings").glob("*.mp4"))
    stop = threading.Event()

    def hang(clips: Tensor, real: Callable[[Tensor], Tensor]) -> Tensor:
        hanging.set()
        release.wait(60)
        raise RuntimeError("the device is gone")

    threading.Thread(target=lambda: (hanging.wait(30), stop.set()), daemon=True).start()
    config = config_for(tiny_weights, tmp_path, {"a": path})
    opened = Pipeline(config, open_recogniser=recogniser_that(hang), max_silence_seconds=1.0)
    with opened as pipeline:
        pipeline.run(stop)
    assert hanging.is_set()
    assert pipeline.failed
    release.set()


def test_non_finite_results_lose_only_their_own_clip(
    scenes: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    path = next((scenes / "recordings").glob("*.mp4"))
    calls = []

    def sometimes(clips: Tensor, real: Callable[[Tensor], Tensor]) -> Tensor:
        calls.append(len(clips))
        return real(clips) if len(calls) > 2 else torch.full((len(clips), 13), float("nan"))

    config = config_for(tiny_weights, tmp_path, {"a": path})
    with Pipeline(config, open_recogniser=recogniser_that(sometimes)) as pipeline:
        summary = pipeline.run(threading.Event())
    assert summary["cameras"]["a"]["drops"] == {"not_finite": sum(calls[:2])}
    assert summary["cameras"]["a"]["windows"] == sum(calls[2:]) > 0


def test_lost_events_are_counted_and_reported(
    scenes: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = {path.stem: path for path in sorted((scenes / "recordings").glob("*.mp4"))}
    events = EventConfig(smoothing=1, default={"enter": 0.3, "exit": 0.2}, update_seconds=0.2)  # type: ignore[arg-type]
    opened = watched_connections(monkeypatch)
    with Pipeline(config_for(tiny_weights, tmp_path, urls, events=events)) as pipeline:
        fill_disk(opened[-1])
        summary = pipeline.run(threading.Event())
    assert summary["events_lost"] > 0
    assert summary["outbox_left"] == len(read_events(tmp_path / "outbox.db"))
    assert f"lost {summary['events_lost']}" in summary_lines(summary)[-1]
    assert pipeline.failed


@pytest.mark.slow
def test_one_bad_camera_does_not_affect_the_others(
    scenes: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    good = next((scenes / "recordings").glob("*.mp4"))
    alone = run_pipeline(config_for(tiny_weights, tmp_path / "alone", {"good": good}))
    noise = tmp_path / "noise.mp4"
    noise.write_bytes(np.random.default_rng(0).bytes(200_000))
    both = {"noise": noise, "good": good}
    beside = run_pipeline(config_for(tiny_weights, tmp_path / "beside", both))
    assert beside["cameras"]["noise"]["detail"].startswith("cannot open")
    same = [
        {key: value for key, value in run["cameras"]["good"].items() if key != "blocked_seconds"}
        for run in (alone, beside)
    ]
    assert same[0] == same[1]
    spans = [
        [
            (s.event.action, s.event.kind, s.event.pts_start_seconds)
            for s in read_events(tmp_path / name / "outbox.db")
        ]
        for name in ("alone", "beside")
    ]
    assert spans[0] == spans[1]


def test_a_stage_that_fails_ends_the_run_instead_of_hanging(
    scenes: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    urls = {path.stem: path for path in sorted((scenes / "recordings").glob("*.mp4"))}
    batch = {"ready_batches": 1, "max_batch": 1, "camera_queue": 2}

    def broken(clips: Tensor, real: Callable[[Tensor], Tensor]) -> Tensor:
        raise RuntimeError("out of memory")

    config = config_for(tiny_weights, tmp_path, urls, batch=batch)
    with Pipeline(config, open_recogniser=recogniser_that(broken)) as pipeline:
        finished = threading.Event()
        thread = threading.Thread(
            target=lambda: (pipeline.run(threading.Event()), finished.set()), daemon=True
        )
        thread.start()
        assert finished.wait(30)
        assert pipeline.failed


@pytest.mark.slow
def test_clips_dropped_under_overload_are_counted_and_spread_evenly(
    scenes: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    path = next((scenes / "recordings").glob("*.mp4"))
    cameras = [{"id": f"c{n}", "url": str(path)} for n in range(3)]
    sections = {
        "cameras": cameras,
        "clip": {"hop": 1},
        "batch": {"ready_batches": 1, "max_batch": 1},
    }

    def slow(clips: Tensor, real: Callable[[Tensor], Tensor]) -> Tensor:
        time.sleep(0.3)
        return real(clips)

    config = config_for(tiny_weights, tmp_path, {}, **sections)
    with Pipeline(config, open_recogniser=recogniser_that(slow)) as pipeline:
        summary = pipeline.run(threading.Event(), duration_seconds=8.0)
    assert sum(camera["drops"].get("overload", 0) for camera in summary["cameras"].values()) > 20
    windows = [camera["windows"] for camera in summary["cameras"].values()]
    assert min(windows) >= max(windows) - 2 > 0
    assert summary["latency_seconds"]["p99"] < 4.0
