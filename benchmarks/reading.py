"""Measure what it gains to read files ahead of DALI's decoder in threads.

    python -m benchmarks.reading [--clips 48] [--runs 5] [--step-ms 30] [--disk-ms 5]

DALI decodes VP9 files, which it can on a CPU too, into batches of 8 clips. `in DALI's thread`
reads, demuxes and decodes one after the other; `ahead, N threads` reads and demuxes in threads. In
each run, a new reader first knows none of the files (first epoch), then all of them (later epoch).
A step of training is a pause, as the CPU has little to do while a GPU computes, and so is the time
of a disk or a network that each file takes. Clips are compared before the timing. The ways run in
turns.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.loader import make_plan
from model.media.preprocess import EncodedClip, PreprocessConfig
from train.data.clip_plan import PlannedClip
from train.data.clip_store import ClipRequest, ClipStore, Frames
from train.data.loader import batches
from train.data.readers import EncodedReader

__all__ = ["main"]

_BATCH = 8
_FRAMING = PreprocessConfig(short_side=112, height=112, width=112)
_THREADS = (0, 1, 4)


class _SlowDisk(EncodedReader):
    """A reader whose files take this many more seconds to arrive."""

    seconds = 0.0

    def _encoded(self, request: ClipRequest) -> EncodedClip | None:
        time.sleep(self.seconds)
        return super()._encoded(request)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=48, help="number of clips per epoch")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--step-ms", type=float, default=30.0, help="pause for each batch")
    parser.add_argument("--disk-ms", type=float, default=5.0, help="pause for each file")
    options = parser.parse_args(arguments)
    _SlowDisk.seconds = options.disk_ms / 1e3
    with tempfile.TemporaryDirectory() as folder:
        files = [_write(Path(folder) / f"{number}.webm", number) for number in range(8)]
        plan = make_plan(files, options.clips)
        expected = _clips(_reader(0), plan[:_BATCH])
        for threads in _THREADS[1:]:
            if not torch.equal(_clips(_reader(threads), plan[:_BATCH]), expected):
                raise SystemExit(f"{threads} threads give other clips; nothing was timed")
        rates = _rates(plan, options)
    _print(rates, options)


def _reader(threads: int) -> _SlowDisk:
    store = ClipStore(fps=15, frames=32, short_side=None, cache=None)
    return _SlowDisk(store, threads=threads)


def _clips(reader: EncodedReader, plan: Sequence[PlannedClip]) -> torch.Tensor:
    (batch,) = batches(plan, _BATCH, reader=reader, preprocess=_FRAMING)
    reader.close()
    return batch.clips_BTHWC


def _rates(
    plan: Sequence[PlannedClip], options: argparse.Namespace
) -> dict[tuple[int, str], list[float]]:
    """Return clips per second of each way and epoch, one value for each run."""
    rates: dict[tuple[int, str], list[float]] = {}
    for _ in range(options.runs):
        for threads in _THREADS:
            reader = _reader(threads)
            for epoch in ("first", "later"):
                started_at = time.perf_counter()
                for _batch in batches(plan, _BATCH, reader=reader, preprocess=_FRAMING):
                    time.sleep(options.step_ms / 1e3)
                rate = len(plan) / (time.perf_counter() - started_at)
                rates.setdefault((threads, epoch), []).append(rate)
            reader.close()
    return rates


def _print(rates: dict[tuple[int, str], list[float]], options: argparse.Namespace) -> None:
    title = f"clips/s; {options.step_ms:g} ms a step, {options.disk_ms:g} ms a file"
    table = Table("epoch", "reading", "median", "p20", "p80", "over DALI's thread", title=title)
    for epoch in ("first", "later"):
        before = statistics.median(rates[0, epoch])
        for threads in _THREADS:
            low, middle, high = np.percentile(rates[threads, epoch], [20, 50, 80])
            name = f"ahead, {threads} threads" if threads else "in DALI's thread"
            cells = (f"{middle:.1f}", f"{low:.1f}", f"{high:.1f}", f"{middle / before:.2f}")
            table.add_row(epoch, name, *cells)
    Console(width=100).print(table)


def _write(path: Path, seed: int) -> Path:
    """Write ten seconds of VP9, 160 x 96, of moving frames with noise."""
    noise: Frames = np.random.default_rng(seed).integers(0, 256, (160, 400, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx-vp9", rate=30, options={"cpu-used": "8", "g": "30"})
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for number in range(300):
            shown = np.ascontiguousarray(noise[number // 8 :, number // 2 :][:96, :160])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(shown, format="rgb24")))
        container.mux(stream.encode())
    return path


if __name__ == "__main__":
    main()
