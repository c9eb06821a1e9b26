"""Measure the cost per clip, event order and fairness with 1 to 256 simulated cameras.

    python -m benchmarks.scaling [--most 256] [--clips 16] [--seconds 20]

The frames are a few noise images of 640 x 360. Everything after the decoder is the real pipeline
with the demo's weights. To measure cost, each camera gets all its frames at once, so that the
machine is never idle; the cost of a clip is then the wall time per clip. To measure fairness, the
benchmark runs twice as many live cameras as the machine can serve and compares their numbers of
analysed clips.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from model.runtime import keep_freed_memory
from stream.analysis.recogniser import Recogniser
from stream.cameras.worker_threads import WorkerThreads
from stream.config import StreamConfig
from stream.events.outbox import read_events
from stream.pipeline import Pipeline
from stream.types import (
    BreakReason,
    CameraOpened,
    EndReason,
    SampledFrame,
    StreamBreak,
    StreamItem,
)

__all__ = ["main"]

_FPS = 15.0
_HOP = 4
_FRAMES = 32


class Injected(Pipeline):
    """A pipeline whose cameras get generated frames.

    Args:
        count: number of cameras.
        clips: number of clips per camera; None: live cameras that never end.
    """

    def __init__(self, folder: Path, count: int, clips: int | None) -> None:
        video = folder / "none.mp4"
        video.touch()
        pace = "realtime" if clips is None else "fast"
        tree = {
            "cameras": [
                {"id": f"c{number:03}", "url": str(video), "pace": pace} for number in range(count)
            ],
            "outbox": {"path": folder / "outbox.db"},
            "http": {"enabled": False},
            "infer": {"device": "cpu"},
            # Noise is recognised as background, so background must count as an action here.
            "events": {
                "smoothing": 1,
                "default": {"enter": 0.05, "exit": 0.0},
                "update_seconds": 0.2,
                "ignore": [],
            },
        }
        self._clips = clips
        random = np.random.default_rng(0)
        self._frames_THWC = random.integers(0, 256, (8, 360, 640, 3), dtype=np.uint8)
        finished: list[tuple[float, int]] = []
        self.finished = finished

        class Noted(Recogniser):
            """A recogniser that records when each batch is finished and its number of clips."""

            def probabilities(self, clips_BCTHW: torch.Tensor) -> torch.Tensor:
                """Return class probabilities `B K` of normalised clips."""
                probabilities_BK = super().probabilities(clips_BCTHW)
                finished.append((time.perf_counter(), len(clips_BCTHW)))
                return probabilities_BK

        super().__init__(StreamConfig.model_validate(tree), open_recogniser=Noted)

    def run_camera(self, threads: WorkerThreads) -> None:
        """Put frames into the inbox at the camera's rate, or as fast as the analysis takes them."""
        camera = threads.status.camera
        threads.status.set_state("running")
        self._put(CameraOpened(camera, threads.generation), threads)
        started_at = time.monotonic()
        frames = (
            itertools.count() if self._clips is None else range(_FRAMES + _HOP * (self._clips - 1))
        )
        for number in frames:
            if self._clips is None:
                threads.stop.wait(max(0.0, started_at + number / _FPS - time.monotonic()))
            if threads.stop.is_set():
                return
            frame_HWC = self._frames_THWC[number % len(self._frames_THWC)]
            now = time.monotonic()
            frame = SampledFrame(camera.id, frame_HWC, number / _FPS, now, time.time())
            self._put(frame, threads)
        threads.status.end(EndReason.FINISHED)
        self._put(StreamBreak(camera.id, BreakReason.ENDED, threads.generation), threads)

    def _put(self, item: StreamItem, threads: WorkerThreads) -> None:
        self.inbox.put(item, threads.stop, threads.status.set_blocked)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--most", type=int, default=256, help="maximum number of cameras")
    parser.add_argument("--clips", type=int, default=16, help="number of clips per camera")
    parser.add_argument(
        "--seconds", type=float, default=20.0, help="length of the overload, in seconds"
    )
    options = parser.parse_args()
    table = Table(
        "cameras",
        "clips",
        "ms per clip",
        "to one camera",
        "events",
        "in order",
        title=f"{torch.get_num_threads()} threads",
    )
    costs: list[float] = []
    for count in (count for count in (1, 4, 16, 64, 256) if count <= options.most):
        clips = max(
            options.clips, 128 // count
        )  # with few cameras, more clips are needed to measure
        cost, events, ordered = _cost(count, clips)
        assert events >= count * clips, "there are too few events to see their order"
        costs.append(cost)
        table.add_row(
            str(count),
            str(count * clips),
            f"{cost * 1e3:.2f}",
            f"{cost / costs[0]:.2f}",
            str(events),
            "yes" if ordered else "NO",
        )
    Console().print(table)
    overloaded = max(4, round(2 / (min(costs) * _FPS / _HOP)))
    least, most, mean, dropped = _fairness(overloaded, options.seconds)
    print(
        f"overload: {overloaded} live cameras for {options.seconds:g} s: {mean:.1f} clips a camera"
        f" analysed, least {least}, most {most} ({(most - least) / mean:.0%} apart), {dropped}"
        " dropped"
    )


def _cost(count: int, clips: int) -> tuple[float, int, bool]:
    """Return seconds per clip, the number of events, and whether each camera's are in order."""
    with tempfile.TemporaryDirectory() as folder:
        with Injected(Path(folder), count, clips) as pipeline:
            pipeline.finished.clear()  # the warm-up
            summary = pipeline.run(threading.Event())
        analysed = [camera["clips"] for camera in summary["cameras"].values()]
        assert analysed == [clips] * count, "clips are missing"
        (first, not_counted), (last, _) = pipeline.finished[0], pipeline.finished[-1]
        events = [stored.event for stored in read_events(Path(folder) / "outbox.db")]
    ordered = all(
        [event.sequence for event in events if event.camera_id == camera]
        == list(range(1, 1 + sum(event.camera_id == camera for event in events)))
        for camera in summary["cameras"]
    )
    return (last - first) / (count * clips - not_counted), len(events), ordered


def _fairness(count: int, seconds: float) -> tuple[int, int, float, int]:
    """Return the minimum, maximum and mean clips per camera, and the number of dropped clips."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Injected(Path(folder), count, None) as pipeline,
    ):
        summary = pipeline.run(threading.Event(), duration_seconds=seconds)
    analysed = [camera["clips"] for camera in summary["cameras"].values()]
    dropped = sum(camera["drops"].get("overload", 0) for camera in summary["cameras"].values())
    assert dropped, "the machine was not overloaded"
    return min(analysed), max(analysed), sum(analysed) / count, dropped


if __name__ == "__main__":
    keep_freed_memory()
    main()
