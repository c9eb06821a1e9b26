"""Directional mixing beside what one would write without a kernel, on the paper's three maps.

    python -m benchmarks.mixing [--device auto] [--batches 1 8 64] [--compiled] [--graphs] [--markdown FILE]

Both directions, T = 4 to 2 x 2 rows, weights masked as the paper masks them, bfloat16, in channels-last memory (what networks here
run in) and planar memory. `eager` flips time, convolves with groups and concatenates; `einsum` is the reference; `compiled` is
torch.compile of the reference. Results are compared with float64 before anything is timed. A forward pass must read the map and write
the mix, a backward pass read the gradient and the map and write the map's gradient: `of copy` is those bytes per second over what a
plain copy of a large tensor moves on this device. Contenders take turns; on a GPU each call gets other inputs than the last, so that
its cache holds none of them. Machines are shared: compare ratios.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional

from model.mixing import directional_mask, directional_mix, mixing_choice
from model.mixing.reference import mix_by_einsum
from model.runtime import keep_freed_memory, pick_device
from tests.mixing_cases import Case, agree, reference

__all__ = ["main"]

MAPS = ((512, 28), (1024, 14), (2048, 7))
Mix = Callable[[Tensor, Tensor], Tensor]


@dataclasses.dataclass(frozen=True)
class Line:
    """One measurement: milliseconds a call."""

    memory: str
    map: str
    batch: int
    step: str
    contender: str
    median: float
    p20: float
    p80: float
    of_copy: float

    def cells(self, ours: float) -> list[str]:
        """As text; the last is this contender's time over ours."""
        times = [f"{value:.3f}" for value in (self.median, self.p20, self.p80)]
        return [
            self.memory,
            self.map,
            str(self.batch),
            self.step,
            self.contender,
            *times,
            f"{self.of_copy:.2f}",
            f"{self.median / ours:.2f}",
        ]


HEADER = ("memory", "map", "batch", "pass", "contender", "median ms", "p20", "p80", "of copy", "over ours")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; status 1 if a result is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--memory", choices=("last", "planar"), nargs="+", default=["last", "planar"])
    parser.add_argument("--rounds", type=int, default=0, help="samples of each; 0 for 40 on a GPU, 7 on a CPU")
    parser.add_argument("--compiled", action="store_true", help="torch.compile of the reference as well")
    parser.add_argument("--graphs", action="store_true", help="batch 1 inside CUDA graphs as well")
    parser.add_argument("--markdown", type=Path, help="write the table here too")
    options = parser.parse_args(arguments)
    device = pick_device(options.device)
    if device.type == "cpu":
        keep_freed_memory()
    path, reason = mixing_choice("auto", device)
    copied = copy_bytes_per_second(device)
    place = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    title = f"{place}: ours runs {path}{f' ({reason})' if reason else ''}; a copy moves {copied / 1e9:.0f} GB/s"
    contenders: dict[str, Mix] = {
        "ours": partial(directional_mix, masked=True),
        "eager": flip_convolve_concatenate,
        "einsum": mix_by_einsum,
    }
    if options.compiled:
        contenders["compiled"] = torch.compile(mix_by_einsum, dynamic=False)
    lines: list[Line] = []
    for memory in options.memory:
        for channels, side in MAPS:
            if not all(_is_right(name, mix, Case(2, channels, 4, 2, 2, side, side, memory), device) for name, mix in contenders.items()):
                return 1
            for batch in options.batches:
                case = Case(batch, channels, 4, 2, 2, side, side, memory)
                lines += _measure(case, contenders, device, copied, options.rounds or (40 if device.type == "cuda" else 7))
                if options.graphs and device.type == "cuda" and batch == 1:
                    lines += _measure_graphs(case, contenders, device, copied)
    _print(lines, title, options.markdown)
    return 0


def flip_convolve_concatenate(x_BCTHW: Tensor, weights_DCTT: Tensor) -> Tensor:
    """The obvious way: for each direction a grouped 1x1 convolution with time as its channels, the second on the flipped map."""
    batch, channels, times, height, width = x_BCTHW.shape
    halves = []
    for direction, weights_CTT in enumerate(weights_DCTT):
        read = x_BCTHW.flip(2) if direction else x_BCTHW
        kernel = weights_CTT.reshape(-1, times, 1, 1).to(x_BCTHW.dtype)
        mixed = functional.conv2d(read.reshape(batch, channels * times, height, width), kernel, groups=channels)
        halves.append(mixed.reshape(batch, channels, -1, height, width))
    return torch.cat(halves, dim=2)


def copy_bytes_per_second(device: torch.device) -> float:
    """What copying a tensor too large for any cache moves, bytes read and written."""
    size = 1 << (30 if device.type == "cuda" else 28)
    source, target = (torch.ones(size, dtype=torch.uint8, device=device) for _ in range(2))
    seconds = _time([lambda _: target.copy_(source)], device, rounds=15, calls=1)[0]
    return 2 * size / statistics.median(seconds)


def _is_right(name: str, mix: Mix, case: Case, device: torch.device) -> bool:
    """Result and gradients of a small batch against float64."""
    dtype = torch.bfloat16
    out, x_grad, weights_grad = reference(case, dtype, "plain", True)
    x, weights = case.map(dtype, device.type).requires_grad_(), _masked_weights(case, device).requires_grad_()
    mixed = mix(x, weights)
    found_x, found_weights = torch.autograd.grad(mixed, (x, weights), case.gradient(dtype, device.type))
    found_weights = found_weights.masked_fill(directional_mask(case.rows, case.times).to(device), 0.0)
    # Sums over all positions in bfloat16, as peers make them, keep fewer digits than the values themselves.
    right = agree(mixed, out, dtype) and agree(found_x, x_grad, dtype) and _close(found_weights, weights_grad, 0.03)
    if not right:
        print(f"error: {name} is wrong on {case}", file=sys.stderr)
    return right


def _masked_weights(case: Case, device: torch.device) -> Tensor:
    return case.given(torch.bfloat16, device.type).masked_fill(directional_mask(case.rows, case.times).to(device), 0.0)


def _close(found: Tensor, expected: Tensor, tolerance: float) -> bool:
    return float((found.cpu().double() - expected).norm()) <= tolerance * float(expected.norm())


def _measure(case: Case, contenders: dict[str, Mix], device: torch.device, copied: float, rounds: int) -> list[Line]:
    """Forward without gradients, then backward alone."""
    sets = _inputs(case, device)
    calls = 20 if device.type == "cuda" and case.batch < 8 else 1
    forward = [_forward_of(mix, sets) for mix in contenders.values()]
    backward = [_backward_of(mix, sets) for mix in contenders.values()]
    lines = []
    for step, runs in (("forward", forward), ("backward", backward)):
        moved = _bytes(case, step)
        for name, seconds in zip(contenders, _time(runs, device, rounds, calls), strict=True):
            lines.append(_line(case, step, name, seconds, moved, copied))
    return lines


def _measure_graphs(case: Case, contenders: dict[str, Mix], device: torch.device, copied: float, calls: int = 20) -> list[Line]:
    """Forward, as one of many launches in a captured graph: nothing but the device's own time is left."""
    sets, lines, runs = _inputs(case, device), [], []
    for mix in contenders.values():
        run = _forward_of(mix, sets)
        run(0)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for index in range(calls):
                run(index)
        runs.append(lambda _, graph=graph: graph.replay())
    for name, seconds in zip(contenders, _time(runs, device, 40, 1), strict=True):
        lines.append(_line(case, "forward, CUDA graph", name, [value / calls for value in seconds], _bytes(case, "forward"), copied))
    return lines


def _inputs(case: Case, device: torch.device) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Sets of map, weights and gradient: on a GPU as many as its cache cannot hold, up to eight."""
    x, given, grad = case.map(torch.bfloat16, device.type), _masked_weights(case, device), case.gradient(torch.bfloat16, device.type)
    several = 1 if device.type == "cpu" else max(2, min(8, (512 << 20) // (x.numel() * 2)))
    return [(x, given, grad), *((torch.randn_like(x), given.clone(), torch.randn_like(grad)) for _ in range(several - 1))]


def _forward_of(mix: Mix, sets: Sequence[tuple[Tensor, Tensor, Tensor]]) -> Callable[[int], object]:
    def run(index: int) -> object:
        x, weights, _ = sets[index % len(sets)]
        with torch.no_grad():
            return mix(x, weights)

    return run


def _backward_of(mix: Mix, sets: Sequence[tuple[Tensor, Tensor, Tensor]]) -> Callable[[int], object]:
    leaves = [(x.detach().requires_grad_(), weights.detach().requires_grad_(), grad) for x, weights, grad in sets]
    graphs = [(mix(x, weights), x, weights, grad) for x, weights, grad in leaves]

    def run(index: int) -> object:
        mixed, x, weights, grad = graphs[index % len(graphs)]
        return torch.autograd.grad(mixed, (x, weights), grad, retain_graph=True)

    return run


def _bytes(case: Case, step: str) -> int:
    frames = case.times + case.directions * case.rows if step == "forward" else 2 * case.times + case.directions * case.rows
    return 2 * case.batch * case.channels * frames * case.height * case.width


def _line(case: Case, step: str, name: str, seconds: Sequence[float], moved: int, copied: float) -> Line:
    cuts = statistics.quantiles([1e3 * value for value in seconds], n=10, method="inclusive")
    size = f"{case.channels}x{case.times}x{case.height}x{case.width}"
    return Line(case.memory, size, case.batch, step, name, cuts[4], cuts[1], cuts[7], moved / (1e-3 * cuts[4]) / copied)


def _time(runs: Sequence[Callable[[int], object]], device: torch.device, rounds: int, calls: int) -> list[list[float]]:
    """Seconds of one call of each, taken in turns; `calls` calls make one sample."""
    times: list[list[float]] = [[] for _ in runs]
    for turn in range(rounds + 2):
        for number, run in enumerate(runs):
            seconds = _one_sample(run, device, turn * calls, calls)
            if turn >= 2:
                times[number].append(seconds)
    return times


def _one_sample(run: Callable[[int], object], device: torch.device, first: int, calls: int) -> float:
    if device.type == "cpu":
        begun = time.perf_counter()
        for index in range(first, first + calls):
            run(index)
        return (time.perf_counter() - begun) / calls
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    for index in range(first, first + calls):
        run(index)
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) * 1e-3 / calls


def _print(lines: Sequence[Line], title: str, markdown: Path | None) -> None:
    table = Table(*HEADER, title=title)
    rows, before = [], None
    for line in lines:
        group = (line.memory, line.map, line.batch, line.step)
        ours = next(
            other.median for other in lines if (other.memory, other.map, other.batch, other.step, other.contender) == (*group, "ours")
        )
        if group != before and before is not None:
            table.add_section()
        before = group
        rows.append(line.cells(ours))
        table.add_row(*rows[-1])
    Console(width=None if sys.stdout.isatty() else 130).print(table)
    if markdown is not None:
        text = [title, "", f"| {' | '.join(HEADER)} |", "|" + "---|" * len(HEADER), *(f"| {' | '.join(row)} |" for row in rows), ""]
        markdown.write_text("\n".join(text), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
