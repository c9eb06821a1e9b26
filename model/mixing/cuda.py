"""Directional mixing on GPUs: choose the kernel and prepare its arguments.

The caller passes the function `run` that launches the kernels: `model.kernels.run_on_gpu`, or a
replacement that runs them on the CPU or only records them.

Letters: B clips, C channels, T input times, S output rows (D directions times T' rows), H and W
space.
`given` is either the weights, or the logits that `mapping` turns into weights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from model.kernels import Argument, Launch
from model.mixing.cpu import empty_rows, is_channels_last
from model.mixing.launch_plan import (
    COMPILED_TIMES,
    ELEMENTS,
    FRAME_VALUES,
    KernelNeeds,
    access_widths,
    compiled_times,
    plan_launch,
    strides_of,
)

__all__ = ["Mapping", "kernel_names", "run_backward", "run_forward"]

Mapping = Literal["plain", "affine", "minmax"]
Run = Callable[[Launch], None]

_MAPPINGS: tuple[Mapping, ...] = ("plain", "affine", "minmax")  # in the order of the kernel's enum
# Target number of blocks in one launch. The number of blocks depends only on the map's shape, so
# that sums have the same order on every device. For the paper's maps in bfloat16, a multiprocessor
# has registers for two forward blocks or three backward blocks. On the 132 multiprocessors of an
# H100, the forward blocks therefore run in two rounds and the backward blocks in one. More blocks
# would take more time: each block computes its own weights, and each backward block writes partial
# sums that must be added afterwards.
_FORWARD_BLOCKS = 2 * 2 * 132
_BACKWARD_BLOCKS = 3 * 132


@dataclasses.dataclass(frozen=True)
class _Weights:
    """The tensor given to a kernel, and how the kernel computes its weights from it."""

    given_DCTT: Tensor
    mapping: Mapping
    masked: bool

    @property
    def flags(self) -> tuple[int, bool]:
        return _MAPPINGS.index(self.mapping), self.masked


def run_forward(
    run: Run, x_BCTHW: Tensor, given_DCTT: Tensor, *, mapping: Mapping, masked: bool
) -> Tensor:
    """Mix a map; return `B C S H W` in the memory layout of the map."""
    x_BCTHW = _readable(x_BCTHW)
    given_DCTT = given_DCTT.contiguous()
    out_BCSHW = empty_rows(x_BCTHW, given_DCTT.shape[0] * given_DCTT.shape[2])
    if not x_BCTHW.numel():
        return out_BCSHW.zero_()
    plan = plan_launch(
        [x_BCTHW, out_BCSHW],
        given_DCTT,
        KernelNeeds(frame_values=FRAME_VALUES, blocks=_FORWARD_BLOCKS, staged_rows=1),
    )
    flag = _flag(plan.channels_last)
    arguments: tuple[Argument, ...] = (
        x_BCTHW,
        given_DCTT,
        out_BCSHW,
        *_sizes(x_BCTHW, _Weights(given_DCTT, mapping, masked), plan.chunk_rows),
        *_strides([x_BCTHW, out_BCSHW], plan.channels_last),
    )
    run(
        Launch(
            f"mix_forward<{ELEMENTS[x_BCTHW.dtype]}, {plan.vector}, {plan.times}, {flag}>",
            (plan.channel_tiles, plan.position_splits, 1),
            plan.block,
            plan.shared_bytes,
            arguments,
        )
    )
    return out_BCSHW


def run_backward(
    run: Run,
    grad_BCSHW: Tensor,
    x_BCTHW: Tensor,
    given_DCTT: Tensor,
    *,
    mapping: Mapping,
    masked: bool,
    needs_map: bool,
    needs_given: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """Compute the gradients of the map and of `given`; a gradient that is not needed is None.

    If both are needed and S is small enough for the registers, one kernel launch computes both.
    """
    x_BCTHW = _readable(x_BCTHW)
    given_DCTT = given_DCTT.contiguous()
    if is_channels_last(grad_BCSHW) != is_channels_last(x_BCTHW) or not _is_readable(grad_BCSHW):
        grad_BCSHW = empty_rows(x_BCTHW, grad_BCSHW.shape[2]).copy_(grad_BCSHW)
    grad_x = empty_rows(x_BCTHW, x_BCTHW.shape[2]) if needs_map else None
    grad_given = torch.empty_like(given_DCTT) if needs_given else None
    if not x_BCTHW.numel():
        return grad_x, grad_given if grad_given is None else grad_given.zero_()
    weights = _Weights(given_DCTT, mapping, masked)
    times = x_BCTHW.shape[2]
    dtype = x_BCTHW.dtype
    together = _fits_together(times, dtype) and grad_BCSHW.shape[2] <= _rows_at_once(times, dtype)
    passes = [(grad_x, grad_given)] if together else [(grad_x, None), (None, grad_given)]
    for of_map, of_given in passes:
        if of_map is not None or of_given is not None:
            partials = _launch_backward(
                run, grad_BCSHW, x_BCTHW, weights, of_map, needs_given=of_given is not None
            )
            if of_given is not None:
                _launch_weights_gradient(run, partials, weights, of_given)
    return grad_x, grad_given


def kernel_names() -> Iterator[str]:
    """Yield the name of every kernel that can be launched."""
    for dtype, element in ELEMENTS.items():
        for times in COMPILED_TIMES:
            for last in (True, False):
                for vector in access_widths(dtype, times, FRAME_VALUES):
                    yield f"mix_forward<{element}, {vector}, {times}, {_flag(last)}>"
                together = [(True, True)] if _fits_together(times, dtype) else []
                for needs_map, needs_given in (*together, (True, False), (False, True)):
                    budget = _backward_frame_values(last, needs_given)
                    for vector in access_widths(dtype, times, budget):
                        yield _backward_name(dtype, vector, times, last, needs_map, needs_given)
    yield from ("mix_backward_weights<float>", "mix_backward_weights<double>")


def _launch_backward(
    run: Run,
    grad_BCSHW: Tensor,
    x_BCTHW: Tensor,
    weights: _Weights,
    grad_x_BCTHW: Tensor | None,
    *,
    needs_given: bool,
) -> Tensor:
    """Launch the backward kernel once.

    The kernel writes the map's gradient into `grad_x_BCTHW`, unless that is None. If `needs_given`,
    return partial sums of the gradient of `given`, one set per block.
    """
    given_DCTT = weights.given_DCTT
    needs_map = grad_x_BCTHW is not None
    # The kernel does not use this pointer then, so any address is valid.
    target = x_BCTHW if grad_x_BCTHW is None else grad_x_BCTHW
    maps = [grad_BCSHW, x_BCTHW, target]
    rows = grad_BCSHW.shape[2]
    channels, times = x_BCTHW.shape[1:3]
    at_once = _rows_at_once(times, x_BCTHW.dtype)
    needs = KernelNeeds(
        frame_values=_backward_frame_values(is_channels_last(x_BCTHW), needs_given),
        blocks=_BACKWARD_BLOCKS,
        groups=1 if needs_map else -(-rows // at_once),
        staged_rows=at_once if needs_map else 0,
        scratch_values=compiled_times(times) if needs_given else 0,
    )
    plan = plan_launch(maps, given_DCTT, needs)
    partials = given_DCTT
    if needs_given:
        partials = given_DCTT.new_empty(plan.position_splits, rows, times, channels)
    arguments: tuple[Argument, ...] = (
        grad_BCSHW,
        x_BCTHW,
        given_DCTT,
        target,
        partials,
        *_sizes(x_BCTHW, weights, plan.chunk_rows),
        *_strides(maps, plan.channels_last),
    )
    run(
        Launch(
            _backward_name(
                x_BCTHW.dtype, plan.vector, times, plan.channels_last, needs_map, needs_given
            ),
            (plan.channel_tiles, plan.position_splits, needs.groups),
            plan.block,
            plan.shared_bytes,
            arguments,
        )
    )
    return partials


def _launch_weights_gradient(
    run: Run, partials_NSTC: Tensor, weights: _Weights, grad_given_DCTT: Tensor
) -> None:
    """Launch the kernel that adds the partial sums of N blocks to the gradient of `given`."""
    given_DCTT = weights.given_DCTT
    splits, rows, times, channels = partials_NSTC.shape
    sizes = (splits, channels, times, rows, given_DCTT.shape[0], *weights.flags)
    lanes = 32 if times <= 16 else 16
    run(
        Launch(
            f"mix_backward_weights<{ELEMENTS[given_DCTT.dtype]}>",
            (-(-channels // lanes), rows, 1),
            (lanes, times),
            lanes * times * given_DCTT.element_size(),
            (partials_NSTC, given_DCTT, grad_given_DCTT, *map(np.int32, sizes)),
        )
    )


def _backward_name(
    dtype: torch.dtype, vector: int, times: int, last: bool, needs_map: bool, needs_given: bool
) -> str:
    flags = ", ".join(_flag(value) for value in (last, needs_map, needs_given))
    at_once = _rows_at_once(times, dtype)
    return f"mix_backward<{ELEMENTS[dtype]}, {vector}, {compiled_times(times)}, {at_once}, {flags}>"


def _sizes(x_BCTHW: Tensor, weights: _Weights, chunk_rows: int) -> Iterator[Argument]:
    directions, channels, rows, times = weights.given_DCTT.shape
    batches, _, _, height, width = x_BCTHW.shape
    sizes = (batches, channels, times, directions * rows, directions, height * width)
    yield from map(np.int32, (*sizes, *weights.flags, chunk_rows))


def _strides(maps: Sequence[Tensor], channels_last: bool) -> Iterator[Argument]:
    for item in maps:
        yield from map(np.int64, strides_of(item, channels_last))


def _readable(x_BCTHW: Tensor) -> Tensor:
    """Return the map if the kernel can read it, else a dense copy in the same memory layout."""
    if _is_readable(x_BCTHW):
        return x_BCTHW
    return empty_rows(x_BCTHW, x_BCTHW.shape[2]).copy_(x_BCTHW)


def _is_readable(x_BCTHW: Tensor) -> bool:
    """Tell whether the pixels of a frame are evenly spaced in memory, as the kernels require.

    Clips, channels and frames may have any distance from each other.
    """
    _, _, _, height, width = x_BCTHW.shape
    step = x_BCTHW.stride(4) if width > 1 else x_BCTHW.stride(3)
    even = height == 1 or width == 1 or x_BCTHW.stride(3) == width * step
    return even and (is_channels_last(x_BCTHW) or height * width == 1 or step == 1)


def _backward_frame_values(channels_last: bool, needs_given: bool) -> int:
    """Return how many frame values a thread may hold; the weights' gradient needs registers too."""
    if not needs_given:
        return FRAME_VALUES
    return 16 if channels_last else 32


def _fits_together(times: int, dtype: torch.dtype) -> bool:
    """Tell whether frames, their gradient and the weights' sums fit into registers together."""
    return times <= 16 or dtype != torch.float64


def _rows_at_once(times: int, dtype: torch.dtype) -> int:
    """Return for how many rows the sums over all frames fit into registers at a time."""
    narrow = 4 if times <= 16 else 2
    return narrow // 2 if dtype == torch.float64 and times > 8 else narrow


def _flag(value: bool) -> str:
    return "true" if value else "false"
