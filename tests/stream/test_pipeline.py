"""The wired pipeline on real files, against the same clips cut and recognised one by one."""

from __future__ import annotations

import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from configs import KernelError
from model import load_model
from model.media.preprocess import normalise_clips
from stream.analysis.config import InferConfig
from stream.analysis.recogniser import Recogniser
from stream.events.config import EventConfig, OutboxConfig
from stream.events.outbox import read_events
from stream.pipeline import Pipeline
from stream.types import View
from tests.support.pipelines import ResultTap, config_for, one_by_one, run_pipeline
from tests.support.schema import check_event
from tests.support.waiting import until


@pytest.mark.slow
def test_every_clip_gets_the_same_result_as_on_its_own(
    scenes: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    urls = {path.stem: path for path in sorted((scenes / "recordings").glob("*.mp4"))} | {
        "clip": scenes / "clips/fall/0000.mp4"
    }
    with Pipeline(config_for(tiny_weights, tmp_path, urls, clip={"hop": 5})) as pipeline:
        tap = ResultTap(pipeline)
        summary = pipeline.run(threading.Event())
    for name, path in urls.items():
        expected = one_by_one(path, tiny_weights, 5)
        assert summary["cameras"][name]["windows"] == len(expected)
        np.testing.assert_allclose(tap.seen[View(name)], expected, atol=1e-4)
        assert summary["cameras"][name]["state"] == "ended"
        assert summary["cameras"][name]["drops"] == {}


@pytest.mark.slow
def test_events_are_stored_valid_and_complete(
    scenes: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    urls = {path.stem: path for path in sorted((scenes / "recordings").glob("*.mp4"))}
    sections = {
        "events": EventConfig(smoothing=1, default={"enter": 0.3, "exit": 0.2}, update_seconds=0.5)
    }
    summary = run_pipeline(config_for(tiny_weights, tmp_path, urls, **sections))
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
    first = next(iter(urls))
    run_pipeline(config_for(tiny_weights, tmp_path, {first: urls[first]}, **sections))
    mine = [
        stored.event.sequence
        for stored in read_events(tmp_path / "outbox.db")
        if stored.event.camera_id == next(iter(urls))
    ]
    assert mine == list(range(1, len(mine) + 1))


def test_the_recogniser_computes_what_the_loaded_network_computes(tiny_weights: Path) -> None:
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


def test_the_metrics_name_the_mixing_kernel_and_the_reason_for_it(
    scenes: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    urls = {"a": next((scenes / "recordings").glob("*.mp4"))}
    infer = {"weights": str(tiny_weights), "device": "cpu"}
    with Pipeline(config_for(tiny_weights, tmp_path, urls, infer=infer)) as pipeline:
        assert (
            'mixing="reference",mixing_reason="the network runs on the CPU"'
            in pipeline.metrics.exposition().decode()
        )
        assert pipeline.run(threading.Event())["runtime"]["mixing"] == "reference"
    with pytest.raises(KernelError, match="'cuda' was asked for"):
        Recogniser(InferConfig(weights=str(tiny_weights), device="cpu", mixing="cuda"))


@pytest.mark.slow
def test_regions_are_analysed_separately_and_share_the_sequence_of_their_camera(
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
    shapes = set()
    with Pipeline(config_for(tiny_weights, tmp_path, {}, **sections)) as pipeline:
        seen = ResultTap(pipeline).seen
        preprocess = pipeline.clips.preprocessor

        def watched(clips: list[NDArray[np.uint8]]) -> Tensor:
            shapes.update(clip[0].shape for clip in clips)
            return preprocess(clips)

        pipeline.clips.preprocessor = watched  # type: ignore[assignment]
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
    summary = run_pipeline(config_for(tiny_weights, tmp_path, {"a": short}))
    assert summary["cameras"]["a"]["windows"] == 1
    assert summary["cameras"]["a"]["frames_sampled"] == 10
    looped = {"cameras": [{"id": "a", "url": str(short), "loop": True, "pace": "fast"}]}
    stop = threading.Event()
    with Pipeline(config_for(tiny_weights, tmp_path, {}, **looped)) as pipeline:
        metrics = pipeline.metrics
        threading.Thread(
            target=lambda: until(lambda: metrics.total(metrics.clips) > 3, 30) and stop.set(),
            daemon=True,
        ).start()
        summary = pipeline.run(stop)
    assert summary["cameras"]["a"]["windows"] > 3  # one of each turn
    assert summary["cameras"]["a"]["resets"]["reconnect"] >= 3
