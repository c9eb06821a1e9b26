"""Frames pushed into a pipeline, against the same videos read by the pipeline itself."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from configs import CameraError, DataError, ShapeError
from stream import Pipeline
from stream.events.outbox import read_events
from stream.types import View
from tests.support.pipelines import ResultTap, config_for
from tests.support.waiting import until

EVENTS = {"smoothing": 1, "default": {"enter": 0.3, "exit": 0.2}, "update_seconds": 0.5}


def decoded(path: Path) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Decode a video as an ingestion service does, with PyAV alone: times and RGB frames."""
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield float(frame.time), frame.to_ndarray(format="rgb24")


def pushed(camera_id: str = "pushed", **settings: object) -> dict[str, object]:
    return {"id": camera_id, "url": "push:", "pace": "fast", **settings}


def told(outbox: Path, camera: str) -> list[tuple[object, ...]]:
    """Return what does not depend on the clock in the events of a camera."""
    return [
        (
            event.kind,
            event.action,
            event.sequence,
            event.reason,
            event.pts_start_seconds,
            event.pts_end_seconds,
            round(event.confidence, 3),
        )
        for stored in read_events(outbox)
        if (event := stored.event).camera_id == camera
    ]


class Running:
    """A pipeline that runs in a thread, for tests that push frames."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.stop = threading.Event()
        self.summary: dict[str, Any] = {}
        self._pipeline = pipeline
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Running:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop.set()
        self.join()

    def join(self) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        self.summary = self._pipeline.run(self.stop)


@pytest.mark.slow
def test_pushed_frames_give_the_events_of_the_same_file(
    scenes: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    path = sorted((scenes / "recordings").glob("*.mp4"))[0]
    sections = {
        "cameras": [{"id": "file", "url": str(path), "pace": "fast"}, pushed()],
        "events": EVENTS,
        # Pictures keep frames in full size: both cameras see the same pixels.
        "snapshots": {"enabled": True, "path": tmp_path / "pictures"},
    }
    with Pipeline(config_for(tiny_weights, tmp_path, {}, **sections)) as pipeline:
        seen = ResultTap(pipeline).seen
        with Running(pipeline) as running:
            for pts_seconds, frame in decoded(path):
                assert pipeline.push("pushed", frame, pts_seconds)
                frame[:] = 0  # it belongs to the program again
            pipeline.end("pushed")
            running.join()
    np.testing.assert_allclose(seen[View("pushed")], seen[View("file")], atol=1e-5)
    mine, expected = (told(tmp_path / "outbox.db", camera) for camera in ("pushed", "file"))
    assert mine == expected
    assert len(mine) > 2
    cameras = running.summary["cameras"]
    assert cameras["pushed"]["detail"] == "ended by its program"
    for name in ("frames_decoded", "frames_sampled", "clips", "dropped", "resets"):
        assert cameras["pushed"][name] == cameras["file"][name], name


def test_large_frames_are_scaled_down_as_a_decoder_does(
    scenes: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    path = scenes / "clips/fall/0000.mp4"
    cameras = [{"id": "file", "url": str(path), "pace": "fast"}, pushed()]
    with Pipeline(config_for(tiny_weights, tmp_path, {}, cameras=cameras)) as pipeline:
        seen = ResultTap(pipeline).seen
        with Running(pipeline) as running:
            for pts_seconds, frame in decoded(path):
                pipeline.push("pushed", torch.from_numpy(frame), np.float64(pts_seconds))
            pipeline.end("pushed")
            running.join()
    # Scaling before or after the conversion to RGB differs by rounding.
    np.testing.assert_allclose(seen[View("pushed")], seen[View("file")], atol=0.02)


def test_a_live_camera_drops_frames_while_the_pipeline_is_behind(
    tiny_weights: Path, tmp_path: Path
) -> None:
    frame = np.zeros((96, 160, 3), np.uint8)
    sections: dict[str, Any] = {
        "cameras": [pushed(pace="realtime", source={"read_timeout_seconds": 1.0})],
        "batch": {"camera_queue": 4},
    }
    with Pipeline(config_for(tiny_weights, tmp_path, {}, **sections)) as pipeline:
        held, entered = threading.Event(), threading.Event()
        preprocessor = pipeline.clips.preprocessor

        def slow(clips: Any) -> Any:
            entered.set()
            held.wait(20)
            return preprocessor(clips)

        pipeline.clips.preprocessor = slow  # type: ignore[assignment]
        assert not pipeline.push("pushed", frame, 0.0)  # not started yet
        with Running(pipeline) as running:
            assert until(lambda: pipeline.push("pushed", frame, 0.0))
            assert pipeline.push("pushed", frame, 0.5 / 15)
            assert pipeline.push("pushed", frame, 0.9 / 15)
            assert entered.wait(10)
            taken = [pipeline.push("pushed", frame, number / 15) for number in range(1, 40)]
            assert not taken[-1]
            assert not pipeline.push("pushed", frame, 50 / 15, timeout_seconds=0.3)
            held.set()
            assert pipeline.push("pushed", frame, 51 / 15, timeout_seconds=10)
            assert until(lambda: pipeline.cameras()[0].state == "stalled")
            assert pipeline.cameras()[0].detail == "no frame was pushed for 1 s"
            assert until(lambda: pipeline.push("pushed", frame, 100 / 15))
            assert pipeline.cameras()[0].state == "running"
        dropped = running.summary["cameras"]["pushed"]["dropped"]["frames"]
    assert dropped["behind"] == taken.count(False) + 1
    assert dropped["not_open"] >= 1
    assert running.summary["cameras"]["pushed"]["resets"]["stalled"] == 1
    with pytest.raises(CameraError, match="has stopped and takes no more frames"):
        pipeline.push("pushed", frame, 200.0)


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (np.zeros((4, 6, 3), np.float32), r"uint8 H W 3; got float32 of shape \(4, 6, 3\)"),
        (np.zeros((4, 6), np.uint8), r"got uint8 of shape \(4, 6\)"),
        (np.zeros((3, 4, 6), np.uint8), r"got uint8 of shape \(3, 4, 6\)"),
        (np.zeros((0, 6, 3), np.uint8), r"got uint8 of shape \(0, 6, 3\)"),
        ("frame", "got an object of type str"),
        (torch.zeros(4, 6, 3, device="meta", dtype=torch.uint8), r"\(4, 6, 3\) on meta"),
        (np.zeros((8000, 8000, 3), np.uint8), "frames of 8000x8000 have more than"),
    ],
)
def test_wrong_frames_are_refused_at_once(
    frame: object, said: str, tiny_weights: Path, tmp_path: Path
) -> None:
    config = config_for(tiny_weights, tmp_path, {}, cameras=[pushed()])
    pipeline = Pipeline(config)
    with pytest.raises(ShapeError, match=said):
        pipeline.push("pushed", frame, 0.0)
    pipeline.close()


def test_wrong_times_and_cameras_are_refused(
    scenes: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    frame = np.zeros((4, 6, 3), np.uint8)
    path = str(scenes / "clips/fall/0000.mp4")
    cameras = [pushed(), pushed("over"), {"id": "file", "url": path}]
    pipeline = Pipeline(config_for(tiny_weights, tmp_path, {}, cameras=cameras))
    for wrong in (float("nan"), float("inf"), None, "1"):
        with pytest.raises(DataError, match="pts_seconds must be a finite number"):
            pipeline.push("pushed", frame, wrong)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="timeout_seconds must be 0 or more, got -1"):
        pipeline.push("pushed", frame, 0.0, timeout_seconds=-1)
    with pytest.raises(CameraError, match="there is no camera 'gone'"):
        pipeline.push("gone", frame, 0.0)
    with pytest.raises(CameraError, match="camera file: its frames are not pushed"):
        pipeline.push("file", frame, 0.0)
    pipeline.end("over")
    with pytest.raises(CameraError, match="camera over has ended"):
        pipeline.push("over", frame, 0.0)
    pipeline.close()


@pytest.mark.slow
def test_many_threads_push_and_the_time_line_keeps_its_rules(
    tiny_weights: Path, tmp_path: Path
) -> None:
    cameras = [pushed(f"c{number}") for number in range(4)]
    frame = np.zeros((96, 160, 3), np.uint8)
    with Pipeline(config_for(tiny_weights, tmp_path, {}, cameras=cameras)) as pipeline:

        def push(camera: str) -> None:
            times = [n / 15 for n in range(40)]
            times += [n / 15 for n in range(100, 140)]  # a gap
            times += [n / 15 for n in range(40)]  # and back
            for pts_seconds in times:
                assert pipeline.push(camera, frame, pts_seconds)
            pipeline.end(camera)

        with Running(pipeline) as running:
            threads = [threading.Thread(target=push, args=(f"c{n}",)) for n in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
            running.join()
    for camera in running.summary["cameras"].values():
        assert dataclasses.asdict(Expected()).items() <= camera.items()


@dataclasses.dataclass
class Expected:
    """What three stretches of 40 frames give, one clip every 4 frames after the first 32."""

    frames_decoded: int = 120
    frames_sampled: int = 120
    clips: int = 9
    resets: dict[str, int] = dataclasses.field(
        default_factory=lambda: {"gap": 1, "backwards": 1, "ended": 1}
    )
