"""Measure training clips per second from H.264 files; compare with PyAV, decord2 and torchcodec.

    python -m benchmarks.loader

Each clip has 32 frames at 15 frames per second, from a random position in a ten-second file with 30
frames per second. Frames are resized to a random shorter side of 128 to 160 pixels and cropped to a
random 112 x 112; half of the clips are mirrored. Batches have 8 uint8 clips. The other libraries
use PyTorch's resize in a PyTorch DataLoader with the same number of workers. All loaders get the
same clip plan, and their clips are compared with the project's clips before the timing. The runs of
all loaders are interleaved. Other programs may use the machine, so compare ratios. Libraries that
are not installed are listed and skipped.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from model.media.preprocess import CropSpec, PreprocessConfig
from train.data.clip_plan import PlannedClip
from train.data.clip_store import ClipStore
from train.data.loader import batches
from train.data.manifest import ManifestEntry
from train.data.readers import WorkerReader

__all__ = ["SIZES", "main", "make_plan", "write_file"]

SIZES = ((320, 240), (640, 360))
_SECONDS = 10
_RATE = 30
_FPS = 15
_FRAMES = 32
_SIDE = 112
_BATCH = 8
_PREPROCESS = PreprocessConfig(short_side=_SIDE, height=_SIDE, width=_SIDE)
_MAX_DIFFERENCE = 6.0  # largest allowed mean difference between two loaders, in grey levels
_OURS = "this project"


@dataclasses.dataclass(frozen=True)
class _Decoder:
    """A library that returns the frames with given numbers from a file, as `T C H W`."""

    name: str
    needs: str
    frames: Callable[[str, Sequence[int]], Tensor]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--clips", type=int, default=96, help="number of clips per run")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    table = Table(
        "loader",
        "clips/s",
        "p20",
        "p80",
        "ours / it",
        title=f"{options.workers} workers, batches of {_BATCH}, {_SIDE} x {_SIDE}",
    )
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            files = [
                write_file(Path(folder) / f"{number}.mp4", size, number) for number in range(8)
            ]
            _measure(table, files, size, options)
    Console().print(table)


Loader = Callable[[Sequence[PlannedClip]], Iterator[Tensor]]


def _measure(
    table: Table, files: list[Path], size: tuple[int, int], options: argparse.Namespace
) -> None:
    planned = make_plan(files, options.clips)
    store = ClipStore(fps=_FPS, frames=_FRAMES, short_side=None, cache=None, scale_early=True)
    reader = WorkerReader(store, options.workers)
    loaders = {_OURS: _our_loader(reader), **_peer_loaders(options.workers)}
    _check_clips(loaders, planned[: 2 * _BATCH])
    rates: dict[str, list[float]] = {name: [] for name in loaders}
    for _ in range(options.runs):
        for name, loader in loaders.items():
            started = time.perf_counter()
            count = sum(len(clips) for clips in loader(planned))
            rates[name].append(count / (time.perf_counter() - started))
    reader.close()
    ours = statistics.median(rates[_OURS])
    table.add_section()
    for name, measured in rates.items():
        low, middle, high = np.percentile(measured, [20, 50, 80])
        figures = (f"{middle:.1f}", f"{low:.1f}", f"{high:.1f}", f"{ours / middle:.2f}")
        table.add_row(f"{size[0]}x{size[1]} {name}", *figures)


def _our_loader(reader: WorkerReader) -> Loader:
    def load(planned: Sequence[PlannedClip]) -> Iterator[Tensor]:
        for batch in batches(planned, _BATCH, reader=reader, preprocess=_PREPROCESS):
            yield batch.clips_BTHWC

    return load


def _peer_loaders(workers: int) -> dict[str, Loader]:
    """Return the loaders of the installed libraries; print the names of the others."""
    loaders: dict[str, Loader] = {}
    for peer in _PEERS:
        try:
            importlib.import_module(peer.needs)
        except (ImportError, RuntimeError) as error:
            print(f"{peer.name} left out: {str(error).splitlines()[0]}")
            continue
        loaders[peer.name] = _PeerLoader(peer, workers)
    return loaders


def _check_clips(loaders: dict[str, Loader], planned: Sequence[PlannedClip]) -> None:
    """Stop the benchmark if a loader's clips differ from the clips of this project."""
    clips = {name: torch.cat(list(loader(planned))).int() for name, loader in loaders.items()}
    for name, theirs in clips.items():
        difference = float((theirs - clips[_OURS]).abs().float().mean())
        if difference > _MAX_DIFFERENCE:
            raise SystemExit(
                f"{name} gives other clips: mean difference {difference:.1f} grey levels"
            )


def write_file(path: Path, size: tuple[int, int], seed: int) -> Path:
    """Write a ten-second H.264 file of moving frames with noise, with a key frame every 2 s."""
    rng = np.random.default_rng(seed)
    width, height = size
    large = np.kron(
        rng.integers(40, 216, (height // 20 + 8, width // 20 + 40, 3)), np.ones((20, 20, 1))
    ).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=_RATE, options={"crf": "23", "preset": "veryfast", "g": str(2 * _RATE)}
        )
        stream.width = width
        stream.height = height
        stream.pix_fmt = "yuv420p"
        for number in range(_SECONDS * _RATE):
            clean = large[number // 4 :][:height, 2 * number :][:, :width]
            noisy = np.clip(clean + rng.integers(-4, 5, clean.shape), 0, 255).astype(np.uint8)
            for packet in stream.encode(
                av.VideoFrame.from_ndarray(np.ascontiguousarray(noisy), format="rgb24")
            ):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def make_plan(files: Sequence[Path], count: int) -> list[PlannedClip]:
    """Plan random clips of the files, with a fixed random seed."""
    rng = np.random.default_rng(0)
    return [
        PlannedClip(
            ManifestEntry(files[number % len(files)], "x"),
            float(rng.random()),
            CropSpec(
                int(rng.integers(128, 161)),
                float(rng.random()),
                float(rng.random()),
                bool(rng.integers(2)),
            ),
            0,
        )
        for number in range(count)
    ]


class _PeerLoader:
    """A DataLoader over the clips of a library; a clip plan is set before each pass."""

    def __init__(self, decoder: _Decoder, workers: int) -> None:
        self._clips = _PeerClips(decoder)
        self._loader: Any = DataLoader(
            self._clips,
            batch_size=_BATCH,
            num_workers=workers,
            prefetch_factor=3,
            persistent_workers=True,
            sampler=_Order(self),
            multiprocessing_context="spawn",
        )
        self.plan: Sequence[PlannedClip] = ()

    def __call__(self, plan: Sequence[PlannedClip]) -> Iterator[Tensor]:
        self.plan = plan
        return iter(self._loader)


class _Order:
    """A sampler that gives the clip plan to the DataLoader's workers."""

    def __init__(self, owner: _PeerLoader) -> None:
        self._owner = owner

    def __iter__(self) -> Iterator[PlannedClip]:
        return iter(self._owner.plan)


class _PeerClips(Dataset[Tensor]):
    """The clips of a library, resized, cropped and mirrored according to the plan."""

    def __init__(self, decoder: _Decoder) -> None:
        self._decoder = decoder

    def __getitem__(self, item: PlannedClip) -> Tensor:
        torch.set_num_threads(1)
        samples = _SECONDS * _FPS
        first = round(item.start * (samples - _FRAMES))
        frames_TCHW = self._decoder.frames(
            str(item.entry.path), [2 * (first + index) for index in range(_FRAMES)]
        )
        height, width = frames_TCHW.shape[2:]
        scale = item.view.short_side / min(height, width)
        size = [round(height * scale), round(width * scale)]
        resized = functional.interpolate(frames_TCHW, size, mode="bilinear", antialias=True)
        top = round(item.view.crop_y * (size[0] - _SIDE))
        left = round(item.view.crop_x * (size[1] - _SIDE))
        cropped = resized[:, :, top : top + _SIDE, left : left + _SIDE]
        return (cropped.flip(3) if item.view.mirror else cropped).permute(0, 2, 3, 1).contiguous()


def _pyav(path: str, numbers: Sequence[int]) -> Tensor:
    """Seek to the key frame before the clip, decode from there, convert the requested frames."""
    frames = {}
    wanted = set(numbers)
    with av.open(path) as container:
        stream = container.streams.video[0]
        container.seek(int(numbers[0] / _RATE / stream.time_base), stream=stream)
        for frame in container.decode(stream):
            number = round(frame.time * _RATE)
            if number in wanted:
                frames[number] = torch.from_numpy(frame.to_ndarray(format="rgb24"))
            if number >= numbers[-1]:
                break
    return torch.stack([frames[number] for number in numbers]).permute(0, 3, 1, 2)


def _decord(path: str, numbers: Sequence[int]) -> Tensor:
    import decord

    return torch.from_numpy(
        decord.VideoReader(path, num_threads=1).get_batch(list(numbers)).asnumpy()
    ).permute(0, 3, 1, 2)


def _torchcodec(path: str, numbers: Sequence[int]) -> Tensor:
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(path, seek_mode="approximate", num_ffmpeg_threads=1)
    frames: Tensor = decoder.get_frames_at(list(numbers)).data
    return frames


_PEERS = (
    _Decoder("PyAV + torch", "av", _pyav),
    _Decoder("decord2 + torch", "decord", _decord),
    _Decoder("torchcodec + torch", "torchcodec", _torchcodec),
)


if __name__ == "__main__":
    main()
