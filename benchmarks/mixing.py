"""Directional mixing beside what one would write without a kernel, on the paper's three maps.

    python -m benchmarks.mixing [--device auto] [--batches 1 8 64] [--compiled] [--graphs]
    [--markdown FILE]

Both directions, T = 4 to 2 x 2 rows, weights masked as the paper masks them, bfloat16, in
channels-last memory (what networks here run in) and planar memory. `eager` flips time, convolves
with groups and concatenates (in channels-last memory that copies the map to planar memory and
back); `einsum` is the reference; `compiled` is torch.compile of the reference; `from logits` makes
the weights too, as training does. Results are compared with float64 before anything is timed. A
forward pass must read the map and write the mix, a backward pass read the gradient and the map and
write the map's gradient: `of copy` is those bytes per second over what a plain copy of a large
tensor moves on this device.

On a GPU times are the device's own: calls are queued behind a wait, so that Python is not in them;
`from Python` at batch 1 is with Python, `CUDA graph` replays twenty captured calls. Each call gets
other inputs than the last, 256 MB of them in turn, so that no cache holds them. Contenders take
turns. Machines are shared: compare ratios.
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

from model.mixing import directional_mask, directional_mix, directional_mix_logits, mixing_choice
from model.mixing.reference import mix_by_einsum
from model.runtime import keep_freed_memory, pick_device
from tests.support.mixing_cases import Case, agree, reference

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

    @property
    def group(self) -> tuple[str, str, str, str]:
        """What is compared: all but the contender."""
        return self.memory, self.map, str(self.batch), self.step

    def cells(self, ours: float) -> list[str]:
        """As text; the last is this contender's time over ours."""
        times = [f"{value:.3f}" for value in (self.median, self.p20, self.p80)]
        return [
            *self.group,
            self.contender,
            *times,
            f"{self.of_copy:.2f}",
            f"{self.median / ours:.2f}",
        ]


HEADER = (
    "memory",
    "map",
    "batch",
    "pass",
    "contender",
    "median ms",
    "p20",
    "p80",
    "of copy",
    "over ours",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; status 1 if a result is wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument(
        "--memory", choices=("last", "planar"), nargs="+", default=["last", "planar"]
    )
    parser.add_argument(
        "--compiled",
        action="store_true",
        help="torch.compile of the reference as well, in channels-last memory",
    )
    parser.add_argument("--graphs", action="store_true", help="batch 1 inside CUDA graphs as well")
    parser.add_argument("--markdown", type=Path, help="write the table here too, after every map")
    options = parser.parse_args(arguments)
    device = pick_device(options.device)
    if device.type == "cpu":
        keep_freed_memory()
    path, reason = mixing_choice("auto", device)
    copied = copy_bytes_per_second(device)
    place = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"CPU, {torch.get_num_threads()} threads"
    )
    title = (
        f"{place}: ours runs {path}{f' ({reason})' if reason else ''}; a copy moves"
        f" {copied / 1e9:.0f} GB/s"
    )
    lines: list[Line] = []
    for memory in options.memory:
        for channels, side in MAPS:
            contenders = _contenders(compiled=options.compiled and memory == "last")
            if not all(
                _is_right(name, mix, Case(2, channels, 4, 2, 2, side, side, memory), device)
                for name, mix in contenders.items()
            ):
                return 1
            for batch in options.batches:
                lines += _measure(
                    Case(batch, channels, 4, 2, 2, side, side, memory),
                    contenders,
                    device,
                    copied,
                    graphs=options.graphs,
                )
            if options.markdown is not None:
                options.markdown.write_text(_markdown(lines, title), encoding="utf-8")
    _print(lines, title)
    return 0


def _contenders(*, compiled: bool) -> dict[str, Mix]:
    """By name; what is compiled anew for every map, or the compiler gives up after eight shapes
    and runs eagerly without a word.
    """
    contenders: dict[str, Mix] = {
        "ours": partial(directional_mix, masked=True),
        "eager": flip_convolve_concatenate,
        "einsum": mix_by_einsum,
    }
    if compiled:
        torch._dynamo.reset()
        torch._dynamo.config.fail_on_recompile_limit_hit = True
        contenders["compiled"] = torch.compile(mix_by_einsum, dynamic=False)
    return contenders | {"ours, from logits": directional_mix_logits}


def flip_convolve_concatenate(x_BCTHW: Tensor, weights_DCTT: Tensor) -> Tensor:
    """The obvious way: for each direction a grouped 1x1 convolution with time as its channels,
    the second on the flipped map.
    """
    batch, channels, times, height, width = x_BCTHW.shape
    halves = []
    for direction, weights_CTT in enumerate(weights_DCTT):
        read = x_BCTHW.flip(2) if direction else x_BCTHW
        kernel = weights_CTT.reshape(-1, times, 1, 1).to(x_BCTHW.dtype)
        mixed = functional.conv2d(
            read.reshape(batch, channels * times, height, width), kernel, groups=channels
        )
        halves.append(mixed.reshape(batch, channels, -1, height, width))
    return torch.cat(halves, dim=2)


def copy_bytes_per_second(device: torch.device) -> float:
    """What copying a tensor too large for any cache moves, bytes read and written."""
    size = 1 << (30 if device.type == "cuda" else 28)
    source, target = (torch.ones(size, dtype=torch.uint8, device=device) for _ in range(2))
    return 2 * size / statistics.median(_time([lambda _: target.copy_(source)], device, calls=3)[0])


def _is_right(name: str, mix: Mix, case: Case, device: torch.device) -> bool:
    """Result and gradients of a small batch against float64."""
    dtype = torch.bfloat16
    out, x_grad, weights_grad = reference(
        case, dtype, "affine" if name == "ours, from logits" else "plain", True
    )
    x = case.map(dtype, device.type).requires_grad_()
    weights = _masked_weights(case, device).requires_grad_()
    mixed = mix(x, weights)
    found_x, found_weights = torch.autograd.grad(
        mixed, (x, weights), case.gradient(dtype, device.type)
    )
    found_weights = found_weights.masked_fill(
        directional_mask(case.rows, case.times).to(device), 0.0
    )
    # Sums over all positions in bfloat16, as peers make them, keep fewer digits than the values
    # themselves.
    right = (
        agree(mixed, out, dtype)
        and agree(found_x, x_grad, dtype)
        and _close(found_weights, weights_grad, 0.03)
    )
    if not right:
        print(f"error: {name} is wrong on {case}", file=sys.stderr)
    return right


def _masked_weights(case: Case, device: torch.device) -> Tensor:
    return case.given(torch.bfloat16, device.type).masked_fill(
        directional_mask(case.rows, case.times).to(device), 0.0
    )


def _close(found: Tensor, expected: Tensor, tolerance: float) -> bool:
    return float((found.cpu().double() - expected).norm()) <= tolerance * float(expected.norm())


def _measure(
    case: Case, contenders: dict[str, Mix], device: torch.device, copied: float, *, graphs: bool
) -> list[Line]:
    """Forward without gradients, then backward alone."""
    sets = _inputs(case, device)
    lines = []
    forward = [_forward_of(mix, sets) for mix in contenders.values()]

    def note(step: str, timed: list[list[float]]) -> None:
        moved = _bytes(case, step)
        lines.extend(
            _line(case, step, name, seconds, moved, copied)
            for name, seconds in zip(contenders, timed, strict=True)
        )

    on_gpu = device.type == "cuda"
    calls = 5 if device.type == "cuda" else 1
    note("forward", _time(forward, device, calls))
    if on_gpu and case.batch == 1:
        note("forward, from Python", _time(forward, device, 20, queued=False))
    if on_gpu and case.batch == 1 and graphs:
        note(
            "forward, CUDA graph",
            [
                [seconds / 20 for seconds in timed]
                for timed in _time([_captured(run) for run in forward], device, 1)
            ],
        )
    note("backward", _time([_backward_of(mix, sets) for mix in contenders.values()], device, calls))
    return lines


def _captured(run: Callable[[int], object], calls: int = 20) -> Callable[[int], object]:
    """One of many launches in a graph: nothing but the device's own time is left."""
    run(0)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for index in range(calls):
            run(index)
    return lambda _: graph.replay()


def _inputs(case: Case, device: torch.device) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Sets of map, weights and gradient: on a GPU 256 MB of maps, at least two; large ones are
    drawn there.
    """
    small = dataclasses.replace(case, batch=1)
    x = small.map(torch.bfloat16, device.type)
    given = _masked_weights(case, device)
    grad = small.gradient(torch.bfloat16, device.type)
    form = torch.channels_last_3d if case.memory == "last" else torch.contiguous_format
    count = 1 if device.type == "cpu" else max(2, -(-(256 << 20) // (x.numel() * 2 * case.batch)))

    def draw(like: Tensor) -> Tensor:
        return torch.randn(
            (case.batch, *like.shape[1:]), dtype=like.dtype, device=device
        ).contiguous(memory_format=form)

    return [(draw(x), given.clone(), draw(grad)) for _ in range(count)]


def _forward_of(mix: Mix, sets: Sequence[tuple[Tensor, Tensor, Tensor]]) -> Callable[[int], object]:
    def run(index: int) -> object:
        x, weights, _ = sets[index % len(sets)]
        with torch.no_grad():
            return mix(x, weights)

    return run


def _backward_of(
    mix: Mix, sets: Sequence[tuple[Tensor, Tensor, Tensor]]
) -> Callable[[int], object]:
    leaves = [
        (x.detach().requires_grad_(), weights.detach().requires_grad_(), grad)
        for x, weights, grad in sets
    ]
    graphs = [(mix(x, weights), x, weights, grad) for x, weights, grad in leaves]

    def run(index: int) -> object:
        mixed, x, weights, grad = graphs[index % len(graphs)]
        return torch.autograd.grad(mixed, (x, weights), grad, retain_graph=True)

    return run


def _bytes(case: Case, step: str) -> int:
    frames = case.times + case.directions * case.rows + (case.times if step == "backward" else 0)
    return 2 * case.batch * case.channels * frames * case.height * case.width


def _line(
    case: Case, step: str, name: str, seconds: Sequence[float], moved: int, copied: float
) -> Line:
    cuts = statistics.quantiles([1e3 * value for value in seconds], n=10, method="inclusive")
    size = f"{case.channels}x{case.times}x{case.height}x{case.width}"
    return Line(
        case.memory,
        size,
        case.batch,
        step,
        name,
        cuts[4],
        cuts[1],
        cuts[7],
        moved / (1e-3 * cuts[4]) / copied,
    )


def _time(
    runs: Sequence[Callable[[int], object]],
    device: torch.device,
    calls: int,
    *,
    queued: bool = True,
) -> list[list[float]]:
    """Seconds of one call of each, taken in turns until each has had a fair share: at least five
    samples of `calls` calls, at most 40.
    """
    times: list[list[float]] = [[] for _ in runs]
    budget = 0.4 * len(runs) if device.type == "cuda" else 4.0 * len(runs)
    begun = time.perf_counter()
    for turn in range(42):
        if turn >= 7 and time.perf_counter() - begun > budget:
            break
        for number, run in enumerate(runs):
            seconds = _one_sample(run, device, turn * calls, calls, queued=queued)
            if turn >= 2:
                times[number].append(seconds)
    return times


def _one_sample(
    run: Callable[[int], object], device: torch.device, first: int, calls: int, *, queued: bool
) -> float:
    if device.type == "cpu":
        begun = time.perf_counter()
        for index in range(first, first + calls):
            run(index)
        return (time.perf_counter() - begun) / calls
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    if queued:
        # about two milliseconds: all calls are queued before the first begins
        torch.cuda._sleep(4_000_000)
    start.record()
    for index in range(first, first + calls):
        run(index)
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) * 1e-3 / calls


def _cells(lines: Sequence[Line]) -> list[list[str]]:
    ours = {line.group: line.median for line in lines if line.contender == "ours"}
    return [line.cells(ours[line.group]) for line in lines]


def _markdown(lines: Sequence[Line], title: str) -> str:
    rows = [f"| {' | '.join(cells)} |" for cells in _cells(lines)]
    return "\n".join(
        [title, "", f"| {' | '.join(HEADER)} |", "|" + "---|" * len(HEADER), *rows, ""]
    )


def _print(lines: Sequence[Line], title: str) -> None:
    table = Table(*HEADER, title=title)
    before = None
    for line, cells in zip(lines, _cells(lines), strict=True):
        if before is not None and line.group != before:
            table.add_section()
        before = line.group
        table.add_row(*cells)
    Console(width=None if sys.stdout.isatty() else 130).print(table)


if __name__ == "__main__":
    sys.exit(main())
