"""Measure the time of each stage of the live pipeline, and of another library for the same work.

    python -m benchmarks.stages

Results are checked before the timing. Times are medians with the 20th and 80th percentile. Other
programs may use the machine, so compare ratios.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional

from model.checkpoints.weights import read_spec
from model.media.conversion import rgb_frame
from model.media.preprocess import Preprocessor, normalise_clips
from model.media.video import decode_frames
from model.runtime import keep_freed_memory
from stream.analysis.config import InferConfig, weights_path
from stream.analysis.recogniser import Recogniser
from stream.analysis.ring import ClipRing
from train.synthetic.film import Look, film
from train.synthetic.script import Script, recording_script

__all__ = ["main", "wide_script"]

_LOOK = Look(30.0, False, 1.0, 1.0, (0.0, 1.0), (0.0, 1.0), 3.0, 26, "veryfast", 2.0, 0)


def main() -> None:
    """Print the table."""
    keep_freed_memory()
    table = Table(
        "stage",
        "median ms",
        "p20",
        "p80",
        "peer",
        "peer ms",
        "peer / ours",
        title=f"{torch.get_num_threads()} threads",
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "camera.mp4"
        film(wide_script(8.0), path, np.random.default_rng(0), _LOOK)
        pictures = _decode_rows(table, path)
    _preprocess_rows(table, pictures)
    _network_rows(table)
    Console().print(table)


def wide_script(seconds: float) -> Script:
    """Return the script of a 720p recording."""
    for seed in range(1000):
        script = recording_script(seconds, np.random.default_rng([seed, 1]))
        if script.camera.height == 720:
            return script
    raise AssertionError("no 720p scene among 1000 seeds")


def _decode_rows(table: Table, path: Path) -> list[np.ndarray]:
    frames = list(decode_frames(path))
    seconds = _times(lambda: sum(1 for _ in decode_frames(path)), 5)
    _row(table, "decode, per 720p frame", [value / len(frames) for value in seconds])
    _row(table, "convert to RGB, per 720p frame", _times(lambda: rgb_frame(frames[0]), 30))
    return [rgb_frame(frame) for frame in frames[:8]]


def _preprocess_rows(table: Table, pictures: list[np.ndarray]) -> None:
    spec = read_spec(weights_path(InferConfig())).preprocess
    graph = Preprocessor(spec, max_batch=8, threads=1)
    size = (round(pictures[0].shape[1] * spec.short_side / pictures[0].shape[0]), spec.short_side)

    def by_torch() -> torch.Tensor:
        x = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float()
        return functional.interpolate(x, size[::-1], mode="bilinear", antialias=True)

    def by_opencv() -> list[np.ndarray]:
        return [cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in pictures]

    ours = graph([picture[None] for picture in pictures])[:, 0].float().mean()
    assert abs(float(by_torch().mean()) - float(ours)) < 4, "the peers compute something else"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    mine = [
        value / 8 for value in _times(lambda: graph([picture[None] for picture in pictures]), 15)
    ]
    _row(
        table,
        "DALI graph, per 720p frame, 1 thread",
        mine,
        "torch interpolate",
        [value / 8 for value in _times(by_torch, 15)],
    )
    _row(
        table,
        "DALI graph, per 720p frame, 1 thread",
        mine,
        "OpenCV area resize",
        [value / 8 for value in _times(by_opencv, 15)],
    )
    torch.set_num_threads(threads)


def _network_rows(table: Table) -> None:
    fast, exact = (
        Recogniser(InferConfig(precision=precision, device="cpu"))
        for precision in ("auto", "float32")
    )
    picture = fast.spec.preprocess
    ring = ClipRing(8, height=picture.height, width=picture.width)
    ring.buffer_STHWC.random_(0, 256)
    for slot in range(8):
        for _ in range(32 + 3 * slot):
            ring.push(slot, ring.buffer_STHWC[slot, 0].clone())
    slots = list(range(8))
    windows = ring.places(slots)

    def in_steps() -> Tensor:
        return normalise_clips(ring.gather(slots), picture, dtype=fast.dtype)

    def in_one() -> Tensor:
        return fast.gather(ring.buffer_STHWC, windows)

    assert torch.equal(in_one(), in_steps()), (
        "the window gather is not the gather and the normalisation"
    )
    mine, peer = ([value / 8 for value in _times(work, 15)] for work in (in_one, in_steps))
    _row(table, "window gather, per clip", mine, "index, then normalise", peer)
    clips = in_one()
    exact_clips = exact.gather(ring.buffer_STHWC, windows)
    assert torch.allclose(fast.probabilities(clips), exact.probabilities(exact_clips), atol=0.1), (
        "the number formats disagree"
    )
    for batch in (1, 4, 8):
        mine = [
            value / batch
            for value in _times(lambda size=batch: fast.probabilities(clips[:size]), 10)
        ]  # type: ignore[misc]
        peer = [
            value / batch
            for value in _times(lambda size=batch: exact.probabilities(exact_clips[:size]), 10)
        ]  # type: ignore[misc]
        _row(
            table,
            f"network, batch {batch}, per clip, {str(fast.dtype).removeprefix('torch.')}",
            mine,
            "float32",
            peer,
        )


def _times(work: Callable[[], object], repeats: int) -> list[float]:
    work()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return seconds


def _row(
    table: Table, name: str, ours: list[float], peer_name: str = "", peer: list[float] | None = None
) -> None:
    p20, median, p80 = _spread(ours)
    cells = [name, f"{median:.2f}", f"{p20:.2f}", f"{p80:.2f}", peer_name]
    cells += (
        ["", ""]
        if peer is None
        else [f"{_spread(peer)[1]:.2f}", f"{_spread(peer)[1] / median:.2f}"]
    )
    table.add_row(*cells)


def _spread(seconds: list[float]) -> tuple[float, float, float]:
    cuts = statistics.quantiles([value * 1e3 for value in seconds], n=10, method="inclusive")
    return cuts[1], cuts[4], cuts[7]


if __name__ == "__main__":
    main()
