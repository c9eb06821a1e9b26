"""Measure how many 720p30 H.264 cameras this machine can process, and compare with a simple loop.

    python -m benchmarks.cameras [--seconds 20] [--most 64]

Both use the demo's network and weights. The simple loop has one thread per camera with OpenCV's
capture, a list of the camera's last 32 frames, and one network call per camera and clip. Cameras
are files played in real time from the page cache, so that no server uses part of the machine.
Latency is counted from the moment when a frame is due. A number of cameras passes if the 95th
percentile of the latency is below one second and at least 99 % of the due clips are analysed. Each
trial runs in a separate process. Before the timing, the benchmark checks that both ways recognise
the same actions.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.stages import wide_script
from model import load_model
from model.checkpoints.weights import ModelSpec
from model.media.container import open_file, video_stream
from model.media.conversion import FrameConverter
from model.media.preprocess import Preprocessor, normalise_clips
from model.runtime import keep_freed_memory
from stream.analysis.config import InferConfig, weights_path
from stream.analysis.recogniser import Recogniser
from stream.config import StreamConfig
from stream.pipeline import Pipeline
from train.synthetic.film import Look, film

__all__ = ["main"]

_FPS = 30
_SAMPLED = 15
_HOP = 4
_FRAMES = 32
_WARM_SECONDS = 6.0
# Encode as a camera does: no B-frames, a key frame every two seconds, and a few megabits per
# second, mostly caused by sensor noise.
_LOOK = Look(float(_FPS), False, 1.0, 1.0, (0.0, 1.0), (0.0, 1.0), 6.0, 23, "veryfast", 2.0, 0)
Result = dict[str, float]


def main() -> None:
    """Find the maximum number of cameras for each way; print the cost of one camera."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument(
        "--seconds",
        type=float,
        default=12.0,
        help="length of a trial after its warm-up, in seconds",
    )
    parser.add_argument("--most", type=int, default=64, help="maximum number of cameras to try")
    parser.add_argument(
        "--trial", nargs=3, metavar=("WAY", "COUNT", "VIDEO"), help=argparse.SUPPRESS
    )
    options = parser.parse_args()
    if options.trial:
        way, count, video = options.trial
        print(json.dumps(_WAYS[way](int(count), Path(video), options.seconds)))
        return
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "camera.mp4"
        # a trial must not reach the end of the video, because clips restart there
        length = _WARM_SECONDS + options.seconds + 2.0
        film(wide_script(length), video, np.random.default_rng(0), _LOOK)
        megabits = video.stat().st_size * 8 / length / 1e6
        agreement = _agreement(video)
        print(
            f"720p{_FPS} H.264, {megabits:.1f} Mbit/s; both ways name the same action in"
            f" {agreement:.0%} of the clips"
        )
        if agreement < 0.9:
            raise SystemExit("the two ways recognise different actions; nothing was timed")
        _print_costs(video)
        carried = {way: _max_carried(way, video, options) for way in _WAYS}
    table = Table(
        "way", "cameras", "ours / this", title=f"cameras carried by {os.cpu_count()} cores"
    )
    for way, count in carried.items():
        table.add_row(way, str(count), f"{carried['ours'] / count:.2f}" if count else "")
    Console().print(table)


def _max_carried(way: str, video: Path, options: argparse.Namespace) -> int:
    """Find the largest number of cameras that passes, by doubling and then halving the distance.

    A failed trial is repeated once, because other programs may use the machine.
    """
    carried = 0
    failed = options.most + 1
    count = 2
    while failed - carried > 1 and count <= options.most:
        if any(_is_carried(_trial(way, count, video, options.seconds)) for _ in range(2)):
            carried = count
        else:
            failed = count
        count = (
            min(2 * carried, options.most)
            if failed > options.most and carried < options.most
            else (carried + failed) // 2
        )
        if count in (carried, failed):
            break
    return carried


def _trial(way: str, count: int, video: Path, seconds: float) -> Result:
    command = [
        sys.executable,
        "-m",
        "benchmarks.cameras",
        "--seconds",
        str(seconds),
        "--trial",
        way,
        str(count),
        str(video),
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: Result = json.loads(done.stdout.splitlines()[-1])
    cells = ", ".join(f"{name} {value:.3g}" for name, value in result.items())
    print(
        f"  {way}, {count} cameras: {cells}; {'carried' if _is_carried(result) else 'not carried'}",
        flush=True,
    )
    return result


def _is_carried(result: Result) -> bool:
    return result["p95_seconds"] < 1.0 and result["analysed_fraction"] >= 0.99


def _result(
    latencies: Sequence[float], count: int, seconds: float, processor_seconds: float
) -> Result:
    due = count * seconds * _SAMPLED / _HOP
    ordered = sorted(latencies) or [math.inf]
    return {
        "p50_seconds": ordered[len(ordered) // 2],
        "p95_seconds": ordered[math.ceil(0.95 * len(ordered)) - 1],
        "analysed_fraction": min(1.0, len(latencies) / due),
        "cores": processor_seconds / seconds,
    }


def _ours(count: int, video: Path, seconds: float) -> Result:
    with tempfile.TemporaryDirectory() as folder:
        config = StreamConfig.model_validate(
            {
                "cameras": [
                    {"id": f"c{number}", "url": str(video), "loop": True} for number in range(count)
                ],
                "outbox": {"path": Path(folder) / "outbox.db"},
                "http": {"enabled": False},
                "infer": {"device": "cpu"},
                "log": {"level": "error"},
            }
        )
        stop = threading.Event()
        with Pipeline(config) as pipeline:
            runner = threading.Thread(target=lambda: pipeline.run(stop))
            runner.start()
            latencies, processor = _between(pipeline.latency.values, seconds)
            stop.set()
            runner.join()
    return _result(latencies, count, seconds, processor)


def _between(values: Callable[[], list[float]], seconds: float) -> tuple[list[float], float]:
    """Return the values added to a list in `seconds` after the warm-up, and the CPU time used."""
    time.sleep(_WARM_SECONDS)
    before = len(values())
    processor = time.process_time()
    time.sleep(seconds)
    return values()[before:], time.process_time() - processor


@dataclasses.dataclass
class _Loop:
    """The simple loop, with the network in one data type."""

    precision: torch.dtype

    def __call__(self, count: int, video: Path, seconds: float) -> Result:
        network = load_model(weights_path(InferConfig())).eval()
        lock = threading.Lock()
        latencies = []
        stop = threading.Event()
        spec = network.spec
        assert isinstance(spec, ModelSpec)

        def camera() -> None:
            for clip, due in _captured(video, spec, stop):
                with lock:
                    _looped_probabilities(network, clip, spec, self.precision)
                latencies.append(time.monotonic() - due)

        threads = [threading.Thread(target=camera, daemon=True) for _ in range(count)]
        for thread in threads:
            thread.start()
        measured, processor = _between(lambda: list(latencies), seconds)
        stop.set()
        for thread in threads:
            thread.join(5)
        return _result(measured, count, seconds, processor)


def _captured(video: Path, spec: ModelSpec, stop: threading.Event, *, paced: bool = True):  # type: ignore[no-untyped-def]
    """Yield clips of a video that OpenCV plays repeatedly, and when each newest frame was due."""
    recent: collections.deque[Any] = collections.deque(maxlen=_FRAMES)
    started = time.monotonic()
    number = 0
    sampled = 0
    while not stop.is_set():
        capture = cv2.VideoCapture(str(video))
        while not stop.is_set():
            there, picture = capture.read()
            if not there:
                break
            due = started + number / _FPS
            number += 1
            if paced and due > time.monotonic():
                stop.wait(due - time.monotonic())
            if number % (_FPS // _SAMPLED) != 1:
                continue
            recent.append(_looped_picture(picture, spec))
            sampled += 1
            if sampled >= _FRAMES and (sampled - _FRAMES) % _HOP == 0:
                yield np.stack(recent), due
        capture.release()
        if not paced:
            return


def _looped_picture(picture: Any, spec: ModelSpec) -> Any:
    size = spec.preprocess
    scale = size.short_side / min(picture.shape[:2])
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    wanting = max(0, size.width - small.shape[1])  # black borders where the picture is narrower
    small = cv2.copyMakeBorder(
        small, 0, 0, wanting // 2, wanting - wanting // 2, cv2.BORDER_CONSTANT
    )
    top = (small.shape[0] - size.height) // 2
    left = (small.shape[1] - size.width) // 2
    return cv2.cvtColor(small[top : top + size.height, left : left + size.width], cv2.COLOR_BGR2RGB)


@torch.no_grad()
def _looped_probabilities(
    network: Any, clip_THWC: Any, spec: ModelSpec, precision: torch.dtype
) -> torch.Tensor:
    clips = normalise_clips(torch.from_numpy(clip_THWC)[None], spec.preprocess)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
        return torch.softmax(network(clips).float(), dim=1)


def _agreement(video: Path) -> float:
    """Return the fraction of the video's clips for which both ways name the same action."""
    network = load_model(weights_path(InferConfig())).eval()
    spec = network.spec
    assert isinstance(spec, ModelSpec)
    looped = [
        int(_looped_probabilities(network, clip, spec, torch.float32).argmax())
        for clip, _ in _captured(video, spec, threading.Event(), paced=False)
    ]
    ours: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        cameras = [{"id": "a", "url": str(video), "pace": "fast"}]
        tree = {
            "cameras": cameras,
            "outbox": {"path": Path(folder) / "o.db"},
            "http": {"enabled": False},
            "infer": {"device": "cpu"},
        }

        class Noted(Recogniser):
            """A recogniser that records the best class of every clip."""

            def probabilities(self, clips_BCTHW: torch.Tensor) -> torch.Tensor:
                """Return class probabilities `B K` of normalised clips."""
                probabilities_BK = super().probabilities(clips_BCTHW)
                ours.extend(probabilities_BK.argmax(dim=1).tolist())
                return probabilities_BK

        with Pipeline(StreamConfig.model_validate(tree), open_recogniser=Noted) as pipeline:
            ours.clear()  # discard the results of the warm-up
            pipeline.run(threading.Event())
    pairs = list(zip(ours, looped, strict=False))
    assert len(pairs) >= len(looped) - 2 > 20, "too few clips to compare"
    return sum(mine == theirs for mine, theirs in pairs) / len(pairs)


def _print_costs(video: Path) -> None:
    """Print the CPU time of each stage for one second of one camera, in one thread."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    recogniser = Recogniser(InferConfig(device="cpu"))
    graph = Preprocessor(recogniser.spec.preprocess, max_batch=16, threads=1)
    seconds: collections.Counter[str] = collections.Counter()

    def timed(name: str, work: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        done = work()
        seconds[name] += time.perf_counter() - started
        return done

    convert = FrameConverter(recogniser.spec.preprocess.live_short_side)
    pictures = []
    count = 0
    with open_file(video) as container:
        packets = timed("demux", lambda: list(container.demux(video_stream(container))))
        for packet in packets:
            for frame in timed("decode", lambda coded=packet: list(coded.decode())):  # type: ignore[misc]
                count += 1
                if count % (_FPS // _SAMPLED) == 1:
                    pictures.append(timed("convert", lambda native=frame: convert(native)))  # type: ignore[misc]
    length = count / _FPS
    for begin in range(0, len(pictures), 16):
        timed(
            "preprocess",
            lambda at=begin: graph([picture[None] for picture in pictures[at : at + 16]]),
        )  # type: ignore[misc]
    ring = torch.zeros(
        1,
        _FRAMES,
        recogniser.spec.preprocess.height,
        recogniser.spec.preprocess.width,
        3,
        dtype=torch.uint8,
    )
    clips = recogniser.gather(ring, [(0, 0)] * 8)
    recogniser.probabilities(clips)
    for _ in range(10):
        timed("infer", lambda: recogniser.probabilities(recogniser.gather(ring, [(0, 0)] * 8)))
    seconds["infer"] *= _SAMPLED / _HOP * length / 80
    table = Table(
        "stage", "cores per camera", title="one 720p30 camera, one thread, clips in batches of 8"
    )
    for name, value in seconds.items():
        table.add_row(name, f"{value / length:.4f}")
    table.add_row("all", f"{sum(seconds.values()) / length:.4f}")
    Console().print(table)


_WAYS: dict[str, Callable[[int, Path, float], Result]] = {
    "ours": _ours,
    "loop, float32": _Loop(torch.float32),
    "loop, bfloat16": _Loop(torch.bfloat16),
}


if __name__ == "__main__":
    keep_freed_memory()
    main()
