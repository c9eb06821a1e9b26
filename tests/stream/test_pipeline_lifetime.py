"""How pipelines stop and start again, and cameras come and go meanwhile."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from stream.events.config import EventConfig, OutboxConfig
from stream.events.outbox import read_events
from stream.pipeline import Pipeline
from tests.support.pipelines import config_for, run_pipeline
from tests.support.waiting import until


def test_stopping_drains_and_ends_open_events(
    scenes: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    urls = {"a": next((scenes / "recordings").glob("*.mp4"))}
    sections = {
        "cameras": [{"id": "a", "url": str(urls["a"]), "loop": True}],
        "events": EventConfig(smoothing=1, default={"enter": 0.05, "exit": 0.0}),  # type: ignore[arg-type]
    }
    stop = threading.Event()
    with Pipeline(config_for(tiny_weights, tmp_path, urls, **sections)) as pipeline:
        threading.Thread(
            target=lambda: until(lambda: bool(pipeline.active("a")), 30) and stop.set(),
            daemon=True,
        ).start()
        summary = pipeline.run(stop)
    assert summary["cameras"]["a"]["windows"] > 0
    events = [stored.event for stored in read_events(tmp_path / "outbox.db")]
    started, ended = (
        [event.event_id for event in events if event.kind == kind] for kind in ("started", "ended")
    )
    assert started
    assert sorted(started) == sorted(ended)
    assert "shutdown" in {event.reason for event in events}


def test_events_of_a_crashed_run_are_ended_and_the_sequence_continues(
    scenes: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    from stream.events.outbox import Outbox
    from tests.support.factory import make_event

    outbox = Outbox(OutboxConfig(path=tmp_path / "outbox.db"))
    outbox.append([make_event(1, camera="a")])
    outbox.close()
    sections = {"events": EventConfig(smoothing=1, default={"enter": 0.3, "exit": 0.2})}  # type: ignore[arg-type]
    urls = {"a": next((scenes / "recordings").glob("*.mp4"))}
    run_pipeline(config_for(tiny_weights, tmp_path, urls, **sections))
    events = [stored.event for stored in read_events(tmp_path / "outbox.db")]
    assert (events[1].reason, events[1].event_id) == ("crash", events[0].event_id)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))


@pytest.mark.slow
def test_cameras_come_and_go_while_the_others_are_analysed(
    scenes: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    path = next((scenes / "recordings").glob("*.mp4"))
    cameras = [{"id": "stays", "url": str(path), "loop": True}]
    sections = {
        "cameras": cameras,
        "events": EventConfig(smoothing=1, default={"enter": 0.05, "exit": 0.0}),
        "http": {"port": 0, "changes": tmp_path / "changes.json", "files": [path.parent]},
    }
    stop = threading.Event()
    summaries: list[dict[str, object]] = []
    with Pipeline(config_for(tiny_weights, tmp_path, {}, **sections)) as pipeline:
        runner = threading.Thread(target=lambda: summaries.append(pipeline.run(stop)))
        runner.start()
        manager = pipeline.manager
        assert until(pipeline.health.started.is_set)
        for reason, end in (("removed", manager.remove), ("paused", manager.pause)):
            manager.add({"id": "guest", "url": str(path), "loop": True})
            assert until(lambda: bool(pipeline.active("guest")))
            free = pipeline.ring.free
            end("guest")
            assert until(lambda before=free: pipeline.ring.free == before + 1)  # type: ignore[misc]
            assert until(
                lambda why=reason: any(
                    s.event.reason == why for s in read_events(tmp_path / "outbox.db")
                )
            )
        manager.remove("guest")
        stop.set()
        runner.join(30)
        assert 'camera="guest"' not in pipeline.metrics.exposition().decode()
    events = [
        stored.event
        for stored in read_events(tmp_path / "outbox.db")
        if stored.event.camera_id == "guest"
    ]
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    started, ended = (
        sorted(event.event_id for event in events if event.kind == kind)
        for kind in ("started", "ended")
    )
    assert started == ended
    assert summaries[0]["cameras"]["stays"]["windows"] > 0  # type: ignore[index]


def test_an_unusable_camera_added_over_http_does_not_prevent_a_start(
    scenes: Path, tiny_weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from stream.cameras.config import CameraConfig
    from stream.cameras.overrides import CameraOverrides

    good = next((scenes / "recordings").glob("*.mp4"))
    gone = tmp_path / "gone.mp4"
    gone.touch()
    changes = CameraOverrides(tmp_path / "changes.json")
    changes.apply([])
    changes.note("late", CameraConfig(id="late", url=str(gone)))
    gone.unlink()
    stop = threading.Event()
    http = {"port": 0, "changes": tmp_path / "changes.json", "files": [tmp_path]}
    with Pipeline(config_for(tiny_weights, tmp_path, {"a": good}, http=http)) as pipeline:
        metrics = pipeline.metrics
        threading.Thread(
            target=lambda: (until(lambda: metrics.total(metrics.clips) > 0, 30), stop.set()),
            daemon=True,
        ).start()
        summary = pipeline.run(stop)
    assert summary["cameras"]["a"]["windows"] > 0
    assert "file not found" in summary["cameras"]["late"]["detail"]
