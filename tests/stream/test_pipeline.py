"""The wired pipeline on real files, against the same clips cut and recognised one by one without
it.
"""

import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import stream.events.writer
import stream.pipeline
from configs import KernelError
from model import load_model
from model.checkpoints.weights import ModelSpec
from model.media.preprocess import Preprocessor, normalise_clips
from model.media.video import sampled_frames
from stream.analysis.config import InferConfig
from stream.analysis.recogniser import Recogniser
from stream.config import StreamConfig
from stream.console.summary import summary_lines
from stream.events.config import EventConfig, OutboxConfig
from stream.events.detector import EventDetector
from stream.events.outbox import read_events
from stream.pipeline import Pipeline
from stream.types import View
from tests.support.schema import check_event
from tests.support.waiting import until


def config_for(
    weights: Path, tmp_path: Path, urls: dict[str, Path], **sections: object
) -> StreamConfig:
    fields: dict[str, object] = {
        "cameras": [{"id": name, "url": str(path), "pace": "fast"} for name, path in urls.items()],
        "infer": {"weights": str(weights), "precision": "float32", "device": "cpu"},
        "outbox": {"path": tmp_path / "outbox.db"},
        "http": {"port": 0, "changes": tmp_path / "changes.json"},
    }
    return StreamConfig.model_validate(fields | sections)


def one_by_one(
    path: Path, weights: Path, hop: int, short_side: int | None = 96
) -> list[list[float]]:
    """Probabilities of every due clip of a file: train's decoder, one graph call, one network
    call per clip.
    """
    network = load_model(weights)
    assert isinstance(network.spec, ModelSpec)
    frames = np.stack(sampled_frames(path, 15.0, short_side=short_side))
    pictures = torch.cat(
        [
            Preprocessor(network.spec.preprocess, max_batch=1)([frame[None]])[0].clone()
            for frame in frames
        ]
    )
    with torch.no_grad():
        ends = list(range(32, len(frames) + 1, hop))
        if ends[-1] != len(frames):
            ends.append(len(frames))  # the last frames of a file get a clip of their own
        return [
            torch.softmax(
                network(normalise_clips(pictures[end - 32 : end][None], network.spec.preprocess)),
                dim=1,
            )[0].tolist()
            for end in ends
        ]


def test_every_clip_gets_the_result_it_gets_alone(
    scenes: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    urls = {path.stem: path for path in sorted((scenes / "recordings").glob("*.mp4"))} | {
        "clip": scenes / "clips/fall/0000.mp4"
    }
    pipeline = Pipeline(config_for(tiny_weights, tmp_path, urls, clip={"hop": 5}))
    seen: dict[str, list[list[float]]] = {name: [] for name in urls}
    new_detector = pipeline.recognition._new_detector

    def watched(view: View) -> EventDetector:
        detector = new_detector(view)
        push = detector.push
        detector.push = lambda p, **times: (seen[view.camera_id].append(list(p)), push(p, **times))[
            1
        ]  # type: ignore[method-assign]
        return detector

    pipeline.recognition._new_detector = watched  # type: ignore[method-assign]
    summary = pipeline.run(threading.Event())
    for name, path in urls.items():
        expected = one_by_one(path, tiny_weights, 5)
        assert summary["cameras"][name]["windows"] == len(expected)
        np.testing.assert_allclose(seen[name], expected, atol=1e-4)
        assert summary["cameras"][name]["state"] == "ended"
        assert summary["cameras"][name]["drops"] == {}


def test_events_are_stored_valid_and_complete(
    scenes: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    urls = {path.stem: path for path in sorted((scenes / "recordings").glob("*.mp4"))}
    sections = {
        "events": EventConfig(smoothing=1, default={"enter": 0.3, "exit": 0.2}, update_seconds=0.5)
    }  # type: ignore[arg-type]
    summary = Pipeline(config_for(tiny_weights, tmp_path, urls, **sections)).run(threading.Event())
    events = [stored.event for stored in read_events(tmp_path / "outbox.db")]
    assert summary["outbox_left"] == len(events)
    assert sum(sum(kinds.values()) for kinds in summary["events"].values()) == len(events)
    assert any(event.kind == "started" for event in events)
    for event in events:
        check_event(event.to_json())
    for camera in urls:
        mine = [event for event in events if event.camera_id == camera]
        assert [event.sequence for event in mine] == list(range(1, len(mine) + 1))
        started, ended = (
            [event.event_id for event in mine if event.kind == kind]
            for kind in ("started", "ended")
        )
        assert sorted(started) == sorted(ended)
    again = Pipeline(
        config_for(
            tiny_weights, tmp_path, {next(iter(urls)): next(iter(urls.values()))}, **sections
        )
    )
    again.run(threading.Event())
    mine = [
        stored.event.sequence
        for stored in read_events(tmp_path / "outbox.db")
        if stored.event.camera_id == next(iter(urls))
    ]
    assert mine == list(range(1, len(mine) + 1))


def test_stopping_drains_and_ends_open_events(
    scenes: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    urls = {"a": next((scenes / "recordings").glob("*.mp4"))}
    sections = {
        "cameras": [{"id": "a", "url": str(urls["a"]), "loop": True}],
        "events": EventConfig(smoothing=1, default={"enter": 0.05, "exit": 0.0}),  # type: ignore[arg-type]
    }
    pipeline = Pipeline(config_for(tiny_weights, tmp_path, urls, **sections))
    stop = threading.Event()
    threading.Thread(
        target=lambda: until(lambda: bool(pipeline.recognition.active("a")), 30) and stop.set(),
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


def test_a_full_disk_stops_nothing_and_loses_nothing(
    scenes: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    urls = {path.stem: path for path in sorted((scenes / "recordings").glob("*.mp4"))}
    sections = {
        "events": EventConfig(smoothing=1, default={"enter": 0.3, "exit": 0.2}, update_seconds=0.2)
    }  # type: ignore[arg-type]
    whole = Pipeline(config_for(tiny_weights, tmp_path / "whole", urls, **sections)).run(
        threading.Event()
    )
    pipeline = Pipeline(config_for(tiny_weights, tmp_path / "full", urls, **sections))
    database = pipeline._outbox._database
    pages = database.execute("pragma page_count").fetchone()[0]
    database.execute(f"pragma max_page_count = {pages}")
    waited = threading.Event()

    def make_room() -> None:
        while pipeline.writer.problem is None:
            time.sleep(0.01)
        waited.set()
        database.execute("pragma max_page_count = 1000000")

    threading.Thread(target=make_room, daemon=True).start()
    summary = pipeline.run(threading.Event())
    assert waited.is_set(), "the disk was never full, so this test has shown nothing"
    assert summary["events"] == whole["events"]
    events = read_events(tmp_path / "full/outbox.db")
    assert len(events) == sum(sum(kinds.values()) for kinds in summary["events"].values())


def test_health_tells_what_stands_still_and_what_a_restart_would_mend(
    scenes: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    pipeline = Pipeline(
        config_for(tiny_weights, tmp_path, {"a": next((scenes / "recordings").glob("*.mp4"))})
    )

    def health() -> tuple[bool, ...]:
        return tuple(
            check() is None
            for check in (pipeline._not_started, pipeline._not_ready, pipeline._not_alive)
        )

    def stand_still(stage: object, seconds: float) -> None:
        stage.beat_monotonic = time.monotonic() - seconds  # type: ignore[attr-defined]

    with pipeline._opened:
        assert health() == (False, False, True)
        pipeline._workers = [threading.current_thread()] * 3
        pipeline._started.set()
        for stage, outcome in (
            (pipeline._analysis, (True, False, False)),
            (pipeline.recognition, (True, False, False)),
            (pipeline.writer, (True, False, True)),  # to be killed would lose what it holds
        ):
            stand_still(stage, 0.0)
            assert health() == (True, True, True)
            stand_still(stage, 61.0)
            assert health() == outcome
            stand_still(stage, 0.0)
        stand_still(pipeline.writer, 61.0)
        pipeline._outbox.is_rescuing = True
        assert health() == (True, True, True)
        pipeline._workers = [threading.Thread(name="writer")] * 3
        assert pipeline._not_alive() == "the thread writer has ended"
        pipeline._cameras_done.set()
        assert health() == (True, False, True)


def test_a_network_that_hangs_does_not_keep_the_pipeline_from_ending(
    scenes: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging = threading.Event()
    release = threading.Event()
    path = next((scenes / "recordings").glob("*.mp4"))
    pipeline = Pipeline(config_for(tiny_weights, tmp_path, {"a": path}))
    stop = threading.Event()

    def hang(clips: torch.Tensor) -> torch.Tensor:
        hanging.set()
        release.wait(60)
        raise RuntimeError("the device is gone")

    monkeypatch.setattr(pipeline._recogniser, "probabilities", hang)
    monkeypatch.setattr(stream.pipeline, "_HANGS_SECONDS", 1.0)
    threading.Thread(target=lambda: (hanging.wait(30), stop.set()), daemon=True).start()
    pipeline.run(stop)
    assert hanging.is_set()
    assert pipeline.failed
    release.set()


def test_numbers_that_are_no_probabilities_cost_their_clip_alone(
    scenes: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = next((scenes / "recordings").glob("*.mp4"))
    pipeline = Pipeline(config_for(tiny_weights, tmp_path, {"a": path}))
    real = pipeline._recogniser.probabilities
    calls = []

    def sometimes(clips: torch.Tensor) -> torch.Tensor:
        calls.append(len(clips))
        return real(clips) if len(calls) > 2 else torch.full((len(clips), 13), float("nan"))

    monkeypatch.setattr(pipeline._recogniser, "probabilities", sometimes)
    summary = pipeline.run(threading.Event())
    assert summary["cameras"]["a"]["drops"] == {"not_finite": sum(calls[:2])}
    assert summary["cameras"]["a"]["windows"] == sum(calls[2:]) > 0


def test_events_that_are_lost_are_said_to_be(
    scenes: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream.events.writer, "_LAST_SECONDS", 0.2)
    urls = {path.stem: path for path in sorted((scenes / "recordings").glob("*.mp4"))}
    events = EventConfig(smoothing=1, default={"enter": 0.3, "exit": 0.2}, update_seconds=0.2)  # type: ignore[arg-type]
    pipeline = Pipeline(config_for(tiny_weights, tmp_path, urls, events=events))
    database = pipeline._outbox._database
    database.execute(
        f"pragma max_page_count = {database.execute('pragma page_count').fetchone()[0]}"
    )
    summary = pipeline.run(threading.Event())
    assert summary["events_lost"] > 0
    assert summary["outbox_left"] == len(read_events(tmp_path / "outbox.db"))
    assert f"lost {summary['events_lost']}" in summary_lines(summary)[-1]
    assert pipeline.failed


def test_one_bad_camera_does_not_touch_the_others(
    scenes: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    good = next((scenes / "recordings").glob("*.mp4"))
    alone = Pipeline(config_for(tiny_weights, tmp_path / "alone", {"good": good})).run(
        threading.Event()
    )
    noise = tmp_path / "noise.mp4"
    noise.write_bytes(np.random.default_rng(0).bytes(200_000))
    beside = Pipeline(
        config_for(tiny_weights, tmp_path / "beside", {"noise": noise, "good": good})
    ).run(threading.Event())
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


def test_the_recogniser_is_the_network_it_loaded(tiny_weights: Path) -> None:
    recogniser = Recogniser(
        InferConfig(weights=str(tiny_weights), device="cpu", precision="float32")
    )
    ring = torch.randint(0, 256, (3, 32, 48, 80, 3), dtype=torch.uint8)
    network = load_model(tiny_weights)
    windows = [(2, 0), (0, 5), (1, 31)]
    clips = torch.stack([ring[slot].roll(-head, dims=0) for slot, head in windows])
    with torch.no_grad():
        expected = torch.softmax(network(normalise_clips(clips, recogniser.spec.preprocess)), dim=1)
    found = recogniser.probabilities(recogniser.gather(ring, windows))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert OutboxConfig().path.name == "outbox.db"


def test_the_metrics_say_what_mixes_and_why(
    scenes: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    urls = {"a": next((scenes / "recordings").glob("*.mp4"))}
    pipeline = Pipeline(
        config_for(
            tiny_weights, tmp_path, urls, infer={"weights": str(tiny_weights), "device": "cpu"}
        )
    )
    assert (
        'mixing="reference",mixing_reason="the network runs on the CPU"'
        in pipeline.metrics.exposition().decode()
    )
    assert pipeline.run(threading.Event())["runtime"]["mixing"] == "reference"
    with pytest.raises(KernelError, match="'cuda' was asked for"):
        Recogniser(InferConfig(weights=str(tiny_weights), device="cpu", mixing="cuda"))


def test_a_stage_that_fails_ends_the_run_instead_of_hanging(
    scenes: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    urls = {path.stem: path for path in sorted((scenes / "recordings").glob("*.mp4"))}
    pipeline = Pipeline(
        config_for(
            tiny_weights,
            tmp_path,
            urls,
            batch={"ready_batches": 1, "max_batch": 1, "camera_queue": 2},
        )
    )

    def broken(clips: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("out of memory")

    pipeline._recogniser.probabilities = broken  # type: ignore[method-assign]
    finished = threading.Event()
    thread = threading.Thread(
        target=lambda: (pipeline.run(threading.Event()), finished.set()), daemon=True
    )
    thread.start()
    assert finished.wait(30)
    assert pipeline.failed


def test_a_camera_that_will_not_wait_is_dropped_from_and_counted(
    scenes: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    import time

    path = next((scenes / "recordings").glob("*.mp4"))
    cameras = [{"id": f"c{n}", "url": str(path)} for n in range(3)]
    sections = {
        "cameras": cameras,
        "clip": {"hop": 1},
        "batch": {"ready_batches": 1, "max_batch": 1},
    }
    pipeline = Pipeline(config_for(tiny_weights, tmp_path, {}, **sections))
    quick = pipeline._recogniser.probabilities
    pipeline._recogniser.probabilities = lambda clips: (time.sleep(0.3), quick(clips))[1]  # type: ignore[method-assign]
    summary = pipeline.run(threading.Event(), duration_seconds=8.0)
    assert sum(camera["drops"].get("overload", 0) for camera in summary["cameras"].values()) > 20
    windows = [camera["windows"] for camera in summary["cameras"].values()]
    assert min(windows) >= max(windows) - 2 > 0
    assert summary["latency_seconds"]["p99"] < 4.0


def test_what_died_is_closed_with_numbers_that_go_on(
    scenes: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    from stream.events.outbox import Outbox
    from tests.support.factory import make_event

    outbox = Outbox(OutboxConfig(path=tmp_path / "outbox.db"))
    outbox.append([make_event(1, camera="a")])
    outbox.close()
    sections = {"events": EventConfig(smoothing=1, default={"enter": 0.3, "exit": 0.2})}  # type: ignore[arg-type]
    Pipeline(
        config_for(
            tiny_weights, tmp_path, {"a": next((scenes / "recordings").glob("*.mp4"))}, **sections
        )
    ).run(threading.Event())
    events = [stored.event for stored in read_events(tmp_path / "outbox.db")]
    assert (events[1].reason, events[1].event_id) == ("crash", events[0].event_id)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))


def test_regions_are_analysed_apart_with_numbers_of_one_camera(
    scenes: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    path = next((scenes / "recordings").glob("*.mp4"))
    regions = [{"id": "left", "right": 0.5}, {"id": "all"}]
    cameras = [
        {"id": "a", "url": str(path), "pace": "fast", "regions": regions},
        {"id": "b", "url": str(path), "pace": "fast", "hop": 10},
    ]
    sections = {
        "cameras": cameras,
        "snapshots": {"enabled": True, "path": tmp_path / "pictures", "activation": True},
        "events": EventConfig(smoothing=1, default={"enter": 0.3, "exit": 0.2}),  # type: ignore[arg-type]
    }
    pipeline = Pipeline(config_for(tiny_weights, tmp_path, {}, **sections))
    seen: dict[View, list[list[float]]] = {}
    new_detector = pipeline.recognition._new_detector

    def watched(view: View) -> EventDetector:
        detector = new_detector(view)
        push = detector.push
        detector.push = lambda p, **times: (
            seen.setdefault(view, []).append(list(p)),
            push(p, **times),
        )[1]  # type: ignore[method-assign]
        return detector

    pipeline.recognition._new_detector = watched  # type: ignore[method-assign]
    shapes = set()
    preprocess = pipeline._analysis._preprocess
    pipeline._analysis._preprocess = lambda crops: (
        shapes.update(crop.shape for crop in crops),
        preprocess(crops),
    )[1]  # type: ignore[method-assign]
    summary = pipeline.run(threading.Event())
    np.testing.assert_allclose(
        seen[View("a", "all")], one_by_one(path, tiny_weights, 4, short_side=640), atol=1e-4
    )
    np.testing.assert_allclose(
        seen[View("b")], one_by_one(path, tiny_weights, 10, short_side=640), atol=1e-4
    )
    (height, width), (narrow_height, narrow) = (
        (rows, columns) for rows, columns, _ in sorted(shapes, key=lambda shape: -shape[1])
    )
    assert (narrow_height, narrow) == (height, width // 2)
    assert summary["cameras"]["a"]["windows"] == 2 * len(seen[View("a", "all")])
    assert pipeline.ring.free == 64
    events = [stored.event for stored in read_events(tmp_path / "outbox.db")]
    mine = [event for event in events if event.camera_id == "a"]
    assert {event.region for event in mine} == {"left", "all"}
    assert [event.sequence for event in mine] == list(range(1, len(mine) + 1))
    assert {event.region for event in events if event.camera_id == "b"} == {None}
    for event in events:
        check_event(event.to_json())
        assert event.snapshot is not None
        picture = cv2.imread(str(tmp_path / "pictures" / event.snapshot))
        assert picture.shape[1] == (narrow if event.region == "left" else 640)


def test_a_file_shorter_than_a_clip_repeats_its_last_frame(
    scenes: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    import av

    short = tmp_path / "short.mp4"
    with av.open(str(short), "w") as out:
        stream = out.add_stream("libx264", rate=15)
        stream.width = 160
        stream.height = 120
        stream.pix_fmt = "yuv420p"
        for number in range(10):
            picture = np.full((120, 160, 3), 20 * number, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode())
    summary = Pipeline(config_for(tiny_weights, tmp_path, {"a": short})).run(threading.Event())
    assert summary["cameras"]["a"]["windows"] == 1
    assert summary["cameras"]["a"]["frames_sampled"] == 10
    looped = {"cameras": [{"id": "a", "url": str(short), "loop": True, "pace": "fast"}]}
    pipeline = Pipeline(config_for(tiny_weights, tmp_path, {}, **looped))
    stop = threading.Event()
    windows = pipeline.metrics.windows
    threading.Thread(
        target=lambda: until(lambda: pipeline.metrics.total(windows) > 3, 30) and stop.set(),
        daemon=True,
    ).start()
    summary = pipeline.run(stop)
    assert summary["cameras"]["a"]["windows"] > 3  # one of each turn
    assert summary["cameras"]["a"]["resets"]["reconnect"] >= 3


def test_cameras_come_and_go_while_the_others_are_analysed(
    scenes: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    path = next((scenes / "recordings").glob("*.mp4"))
    cameras = [{"id": "stays", "url": str(path), "loop": True}]
    sections = {
        "cameras": cameras,
        "events": EventConfig(smoothing=1, default={"enter": 0.05, "exit": 0.0}),
    }  # type: ignore[arg-type]
    pipeline = Pipeline(config_for(tiny_weights, tmp_path, {}, **sections))
    stop = threading.Event()
    summaries: list[dict[str, object]] = []
    runner = threading.Thread(target=lambda: summaries.append(pipeline.run(stop)))
    runner.start()
    manager = pipeline.manager
    assert manager is not None

    assert until(lambda: pipeline._started.is_set())
    for reason, end in (("removed", manager.remove), ("paused", manager.pause)):
        manager.add({"id": "guest", "url": str(path), "loop": True})
        assert until(lambda: bool(pipeline.recognition.active("guest")))
        free = pipeline.ring.free
        end("guest")
        assert until(lambda before=free: pipeline.ring.free == before + 1)  # type: ignore[misc]
        assert until(
            lambda why=reason: any(
                s.event.reason == why for s in read_events(tmp_path / "outbox.db")
            )
        )  # type: ignore[misc]
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


def test_a_camera_from_over_http_that_cannot_be_used_keeps_nobody_from_starting(
    scenes: Path, tiny_weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from stream.cameras.config import CameraConfig
    from stream.cameras.overrides import CameraChanges

    good = next((scenes / "recordings").glob("*.mp4"))
    gone = tmp_path / "gone.mp4"
    gone.touch()
    changes = CameraChanges(tmp_path / "changes.json")
    changes.apply([])
    changes.note("late", CameraConfig(id="late", url=str(gone)))
    gone.unlink()
    pipeline = Pipeline(config_for(tiny_weights, tmp_path, {"a": good}))
    stop = threading.Event()
    threading.Timer(8.0, stop.set).start()
    summary = pipeline.run(stop)
    assert summary["cameras"]["a"]["windows"] > 0
    assert "file not found" in summary["cameras"]["late"]["detail"]
