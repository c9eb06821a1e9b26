"""Compare directional mixing with code that uses no special kernel, on the paper's three maps.

    python -m benchmarks.mixing [--device auto] [--batches 1 8 64] [--compiled] [--graphs]
    [--markdown FILE]

The benchmark mixes bfloat16 maps in both directions, from T = 4 to 2 x 2 rows, with the paper's
mask, in channels-last memory (which the networks of this project use) and in planar memory. `eager`
flips time, runs grouped convolutions and concatenates; in channels-last memory this copies the map
to planar memory and back. `einsum` is the reference code, and `compiled` is torch.compile of the
reference. `from logits` also computes the weights, as training does. Results are compared with
float64 before the timing. A forward pass must read the map and write the result. A backward pass
must read the gradient and the map and write the map's gradient. `of copy` is the rate of these
bytes, divided by the rate of a plain copy of a large tensor on this device.

On a GPU, times are measured by the device: calls are queued behind a wait, so that the time of
Python is not included. `from Python` at batch 1 includes Python, and `CUDA graph` replays twenty
captured calls. Successive calls use different inputs, 256 MB in total, so that no cache can hold
them. The measured functions run in turns. Other programs may use the machine, so compare ratios.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.mixing_table import Line, as_markdown, measured, print_lines
from benchmarks.timing import captured, copy_bytes_per_second, take_turns
from model.mixing import directional_mask, directional_mix, directional_mix_logits, mixing_choice
from model.mixing.reference import mix_by_einsum
from model.runtime import keep_freed_memory, pick_device
from tests.support.mixing_cases import Case, agree, reference

__all__ = ["main"]

MAPS = ((512, 28), (1024, 14), (2048, 7))
Mix = Callable[[Tensor, Tensor], Tensor]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; return 1 if a result is wrong, else 0."""
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
        help="also measure torch.compile of the reference, in channels-last memory",
    )
    parser.add_argument("--graphs", action="store_true", help="also measure batch 1 in CUDA graphs")
    parser.add_argument(
        "--markdown", type=Path, help="also write the table to this file, after every map"
    )
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
                options.markdown.write_text(as_markdown(lines, title), encoding="utf-8")
    print_lines(lines, title)
    return 0


def _contenders(*, compiled: bool) -> dict[str, Mix]:
    """Return the functions to measure, by name.

    The compiler is reset for every map, because after eight shapes it would run eagerly
    without a warning.
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
    """Mix with one grouped convolution over time per direction; flip the map for the second."""
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


def _is_right(name: str, mix: Mix, case: Case, device: torch.device) -> bool:
    """Check the result and the gradients of a small batch against float64."""
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
    # The other functions add over all positions in bfloat16, so these sums are less accurate than
    # single values.
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
    """Measure the forward pass without gradients, then the backward pass alone."""
    sets = _inputs(case, device)
    lines = []
    forward = [_forward_of(mix, sets) for mix in contenders.values()]

    def note(step: str, timed: list[list[float]]) -> None:
        moved = _bytes(case, step)
        lines.extend(
            measured(case, step, name, seconds, moved, copied)
            for name, seconds in zip(contenders, timed, strict=True)
        )

    on_gpu = device.type == "cuda"
    calls = 5 if device.type == "cuda" else 1
    note("forward", take_turns(forward, device, calls))
    if on_gpu and case.batch == 1:
        note("forward, from Python", take_turns(forward, device, 20, queued=False))
    if on_gpu and case.batch == 1 and graphs:
        note(
            "forward, CUDA graph",
            [
                [seconds / 20 for seconds in timed]
                for timed in take_turns([captured(run) for run in forward], device, 1)
            ],
        )
    note(
        "backward",
        take_turns([_backward_of(mix, sets) for mix in contenders.values()], device, calls),
    )
    return lines


def _inputs(case: Case, device: torch.device) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Return sets of map, weights and gradient; on a GPU at least two, with 256 MB of maps."""
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


if __name__ == "__main__":
    sys.exit(main())
