"""Compare ways to bring frames from host memory to a GPU: which memory the copy reads.

    python -m benchmarks.staging [--frames 16] [--rounds 30] [--markdown FILE]

`pageable` is ordinary memory, `torch` and `pycuda` are page-locked, and `pycuda write-combined`
passes by the CPU's caches. A batch of frames is copied into the buffer (`fill`), then to the GPU
(`copy`, until the GPU has done it). `CPU` is the time that the calling thread computed, without the
wait for the GPU. The bytes on the GPU are compared with the frames before the timing, for each way
and size. The ways run in turns. Other programs may use the machine, so compare ratios.

`infer.staging` takes PyCUDA's plain memory by default, until this has been measured on a GPU.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor

from model.pycuda_memory import PyCudaMemory, why_not_pycuda
from model.staging import HostMemory, TorchMemory

__all__ = ["Line", "PageableMemory", "as_markdown", "compare", "main"]

# Height and width: 720p scaled for a network of 256 pixels, and whole frames.
SIZES = {"910x512": (512, 910), "1920x1080": (1080, 1920)}
HEADER = ("frames", "memory", "step", "median ms", "p20", "p80", "GB/s", "CPU ms")
_WARM_UP = 3


class PageableMemory(TorchMemory):
    """Ordinary memory; CUDA copies from it through memory of its own, and the host waits."""

    name = "pageable"

    def allocate(self, size: int) -> Tensor:
        """Return memory that is not page-locked, uint8; its pages exist."""
        return torch.zeros(size, dtype=torch.uint8)


@dataclasses.dataclass(frozen=True)
class Line:
    """One step of one way; times in milliseconds for a batch."""

    frames: str
    way: str
    step: str
    median: float
    p20: float
    p80: float
    gigabytes_per_second: float
    cpu: float

    def cells(self) -> list[str]:
        """Return the cells of the line as text."""
        times = [f"{value:.3f}" for value in (self.median, self.p20, self.p80)]
        rate = f"{self.gigabytes_per_second:.1f}"
        return [self.frames, self.way, self.step, *times, rate, f"{self.cpu:.3f}"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; return 1 if bytes are wrong, 2 without a GPU, else 0."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=16, help="frames in one copy")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--markdown", type=Path, help="also write the table to this file")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("none of the ways can run here: PyTorch finds no CUDA device", file=sys.stderr)
        return 2
    device = torch.device("cuda", torch.cuda.current_device())
    ways, missing = open_ways(device)
    title = f"{torch.cuda.get_device_name(device)}: {options.frames} frames in one copy"
    title += "".join(f"; {name} cannot run here: {reason}" for name, reason in missing.items())
    lines: list[Line] = []
    try:
        for name, size in SIZES.items():
            frames = random_frames(options.frames, *size)
            try:
                lines += compare(f"{options.frames} x {name}", frames, ways, device, options.rounds)
            except ValueError as error:
                print(f"error: {error}", file=sys.stderr)
                return 1
    finally:
        for memory in ways.values():
            memory.close()
    if options.markdown is not None:
        options.markdown.write_text(as_markdown(lines, title), encoding="utf-8")
    print_lines(lines, title)
    return 0


def open_ways(device: torch.device) -> tuple[dict[str, HostMemory], dict[str, str]]:
    """Return the memories that can be used here, and the reasons why others cannot."""
    ways: dict[str, HostMemory] = {
        "pageable": PageableMemory(device),
        "torch": TorchMemory(device),
    }
    if reason := why_not_pycuda(device.index):
        return ways, dict.fromkeys(("pycuda", "pycuda write-combined"), reason)
    ways["pycuda"] = PyCudaMemory(device.index)
    ways["pycuda write-combined"] = PyCudaMemory(device.index, is_write_combined=True)
    return ways, {}


def random_frames(count: int, height: int, width: int) -> list[NDArray[np.uint8]]:
    """Return frames, uint8 `H W 3`."""
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(count)]


def compare(
    label: str,
    frames_HWC: Sequence[NDArray[np.uint8]],
    ways: Mapping[str, HostMemory],
    device: torch.device,
    rounds: int,
    new_target: Callable[[int], Tensor] | None = None,
) -> list[Line]:
    """Check and time all ways with the same frames.

    Args:
        label: name of the size in the table.
        rounds: number of samples of each way.
        new_target: allocates memory on the device; default: PyTorch.

    Raises:
        ValueError: a way brought other bytes to the device.
    """
    size = sum(frame.size for frame in frames_HWC)
    if new_target is None:

        def new_target(size: int) -> Tensor:
            return torch.empty(size, dtype=torch.uint8, device=device)

    buffers = {name: memory.allocate(size) for name, memory in ways.items()}
    targets = {name: new_target(size) for name in ways}
    try:
        for name, memory in ways.items():
            _sample(memory, buffers[name], targets[name], frames_HWC)
            sent = np.concatenate([frame.reshape(-1) for frame in frames_HWC])
            if not np.array_equal(targets[name].cpu().numpy(), sent):
                raise ValueError(f"{name} memory brought wrong bytes to the device ({label})")
        samples: dict[str, list[list[float]]] = {name: [] for name in ways}
        for turn in range(rounds + _WARM_UP):
            for name, memory in ways.items():
                sample = _sample(memory, buffers[name], targets[name], frames_HWC)
                if turn >= _WARM_UP:
                    samples[name].append(sample)
    finally:
        for name, memory in ways.items():
            memory.free(buffers[name])
    return [line for name in ways for line in _lines(label, name, size, samples[name])]


def _sample(
    memory: HostMemory, buffer: Tensor, target: Tensor, frames_HWC: Sequence[NDArray[np.uint8]]
) -> list[float]:
    """Fill and copy once; return the seconds of both, and the seconds of computing in both."""
    into = buffer.numpy()
    cpu_started_at, started_at = time.thread_time(), time.perf_counter()
    start = 0
    for frame in frames_HWC:
        np.copyto(into[start : start + frame.size].reshape(frame.shape), frame)
        start += frame.size
    cpu_filled_at, filled_at = time.thread_time(), time.perf_counter()
    memory.copy(target, buffer)
    cpu_sent_at = time.thread_time()
    memory.stream.synchronize()
    return [
        filled_at - started_at,
        time.perf_counter() - filled_at,
        cpu_filled_at - cpu_started_at,
        cpu_sent_at - cpu_filled_at,
    ]


def _lines(label: str, name: str, size: int, samples: Sequence[Sequence[float]]) -> list[Line]:
    fill, copy, cpu_fill, cpu_copy = 1e3 * np.array(samples).T
    lines = []
    for step, times, cpu in (("fill", fill, cpu_fill), ("copy", copy, cpu_copy)):
        cuts = statistics.quantiles(times.tolist(), n=10, method="inclusive")
        rate = size / (1e6 * cuts[4])
        line = Line(label, name, step, cuts[4], cuts[1], cuts[7], rate, float(np.median(cpu)))
        lines.append(line)
    return lines


def as_markdown(lines: Sequence[Line], title: str) -> str:
    """Return the table as Markdown."""
    rows = [f"| {' | '.join(line.cells())} |" for line in lines]
    heading = [f"| {' | '.join(HEADER)} |", "|" + "---|" * len(HEADER)]
    return "\n".join([title, "", *heading, *rows, ""])


def print_lines(lines: Sequence[Line], title: str) -> None:
    """Print the table."""
    table = Table(*HEADER, title=title)
    for line in lines:
        table.add_row(*line.cells())
    Console(width=None if sys.stdout.isatty() else 130).print(table)


if __name__ == "__main__":
    sys.exit(main())
