"""From 1 to 256 cameras with injected frames (no decoding): cost of a clip, order of events,
fairness under overload.

    python -m benchmarks.scaling [--most 256] [--clips 16] [--seconds 20]

Frames are noise of 640 x 360 in a handful of pictures; everything behind the decoder is the
pipeline itself with the demo's weights. Waiting cameras are given all their frames at once, so that
the machine is never idle: wall time per clip is its cost. Fairness is measured with twice as many
live cameras as the machine can serve: how far the number of clips analysed differs between them.
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

from stream.cameras.status import CameraStatus
from stream.cameras.supervisor import Worker
from stream.config import StreamConfig
from stream.events.outbox import read_events
from stream.pipeline import Pipeline
from stream.types import SampledFrame, StreamBreak

__all__ = ["main"]

_FPS = 15.0
_HOP = 4
_FRAMES = 32


class Injected(Pipeline):
    """A pipeline whose cameras are given their frames.

    Args:
        count: cameras.
        clips: of each camera; None for live cameras without an end.
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
            # Background, which is all that noise shows, counts as an action that lasts.
            "events": {
                "smoothing": 1,
                "default": {"enter": 0.05, "exit": 0.0},
                "update_seconds": 0.2,
                "ignore": [],
            },
        }
        self._clips = clips
        self._pictures = np.random.default_rng(0).integers(0, 256, (8, 360, 640, 3), dtype=np.uint8)
        super().__init__(StreamConfig.model_validate(tree))
        recognise = self._recogniser.probabilities
        self.finished: list[tuple[float, int]] = []

        def noted(clips_BCTHW: torch.Tensor) -> torch.Tensor:
            probabilities = recognise(clips_BCTHW)
            self.finished.append((time.perf_counter(), len(clips_BCTHW)))
            return probabilities

        self._recogniser.probabilities = noted  # type: ignore[method-assign]

    def _run_camera(self, status: CameraStatus, worker: Worker) -> None:
        status.set_state("running")
        begun = time.monotonic()
        frames = (
            itertools.count() if self._clips is None else range(_FRAMES + _HOP * (self._clips - 1))
        )
        for number in frames:
            if self._clips is None:
                worker.stop.wait(max(0.0, begun + number / _FPS - time.monotonic()))
            if worker.stop.is_set():
                return
            picture = self._pictures[number % len(self._pictures)]
            self._hand_over(
                SampledFrame(
                    status.camera.id, picture, number / _FPS, time.monotonic(), time.time()
                ),
                status,
                worker,
            )
        status.set_state("ended", "end of file")
        self._hand_over(StreamBreak(status.camera.id, "ended"), status, worker)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--most", type=int, default=256, help="most cameras")
    parser.add_argument("--clips", type=int, default=16, help="clips of each camera")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of the overload")
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
        clips = max(options.clips, 128 // count)  # enough to measure with few cameras, too
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
        " left out"
    )


def _cost(count: int, clips: int) -> tuple[float, int, bool]:
    """Seconds per clip from the first batch to the last, how many events there were, and whether
    each camera's are in order.
    """
    with tempfile.TemporaryDirectory() as folder:
        pipeline = Injected(Path(folder), count, clips)
        summary = pipeline.run(threading.Event())
        windows = [camera["windows"] for camera in summary["cameras"].values()]
        assert windows == [clips] * count, "clips are missing"
        (begun, not_counted), (ended, _) = pipeline.finished[0], pipeline.finished[-1]
        events = [stored.event for stored in read_events(Path(folder) / "outbox.db")]
    ordered = all(
        [event.sequence for event in events if event.camera_id == camera]
        == list(range(1, 1 + sum(event.camera_id == camera for event in events)))
        for camera in summary["cameras"]
    )
    return (ended - begun) / (count * clips - not_counted), len(events), ordered


def _fairness(count: int, seconds: float) -> tuple[int, int, float, int]:
    """Least, most and mean clips of a camera, and how many were left out."""
    with tempfile.TemporaryDirectory() as folder:
        summary = Injected(Path(folder), count, None).run(
            threading.Event(), duration_seconds=seconds
        )
    windows = [camera["windows"] for camera in summary["cameras"].values()]
    dropped = sum(camera["drops"].get("overload", 0) for camera in summary["cameras"].values())
    assert dropped, "the machine was not overloaded"
    return min(windows), max(windows), sum(windows) / count, dropped


if __name__ == "__main__":
    main()
