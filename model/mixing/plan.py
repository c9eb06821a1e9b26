"""How directional mixing is laid over a GPU: which kernel, which grid, which arguments. Pure
arithmetic; it runs anywhere.

Letters: B clips, C channels, T time in, S output rows (D directions times T'), N pixels.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from model.kernels import Argument, Launch
from model.mixing.cpu import empty_rows, is_channels_last

__all__ = [
    "MAX_ROWS",
    "MAX_TIMES",
    "Mapping",
    "instantiations",
    "run_backward",
    "run_forward",
    "unsupported",
]

Mapping = Literal["plain", "affine", "minmax"]
Run = Callable[[Launch], None]

_MAPPINGS: tuple[Mapping, ...] = ("plain", "affine", "minmax")  # in the order of the kernel's enum
MAX_TIMES = 32
MAX_ROWS = 64
_ELEMENTS = {
    torch.bfloat16: "bfloat16",
    torch.float16: "float16",
    torch.float32: "float",
    torch.float64: "double",
}
_BUCKETS = (4, 8, 16, 32)
_THREADS = 256
_FRAME_VALUES = 64  # of one thread's frames in registers
_SHARED_BYTES = 48 * 1024  # what every device gives a block without asking
# Blocks in one launch, from the map's shape alone, so that sums have the same order on every
# device. Of the kernels for the paper's maps in bfloat16, registers let two forward and three
# backward blocks share a multiprocessor: two and one full rounds of an H100's 132. Every block
# makes its own weights; every block of the backward pass leaves partial sums to write and add.
_FORWARD_BLOCKS = 2 * 2 * 132
_BACKWARD_BLOCKS = 3 * 132


@dataclasses.dataclass(frozen=True)
class _Geometry:
    """One launch's shape: blocks of `channel_lanes` by `position_lanes` threads over tiles of
    channels and positions.
    """

    vector: int
    bucket: int
    last: bool
    channel_lanes: int
    position_lanes: int
    channel_tiles: int
    splits: int
    chunk: int
    shared_bytes: int

    @property
    def block(self) -> tuple[int, int]:
        return (
            (self.channel_lanes, self.position_lanes)
            if self.last
            else (self.position_lanes, self.channel_lanes)
        )


def unsupported(x_BCTHW: Tensor, rows: int) -> str | None:
    """Why the kernel cannot mix this map into `rows` rows a direction, or None if it can."""
    if x_BCTHW.dtype not in _ELEMENTS:
        return f"dtype {x_BCTHW.dtype}"
    if x_BCTHW.shape[2] > MAX_TIMES:
        return f"T above {MAX_TIMES}"
    if rows > MAX_ROWS:
        return f"T' above {MAX_ROWS}"
    batches, _, _, height, width = x_BCTHW.shape
    if batches * height * width >= 2**31 - 2 * _THREADS:
        return "2^31 positions or more"
    return None


def run_forward(
    run: Run, x_BCTHW: Tensor, given_DCTT: Tensor, *, mapping: Mapping, masked: bool
) -> Tensor:
    """The mix, `B C S H W`, laid out as the map is."""
    x_BCTHW = _readable(x_BCTHW)
    given_DCTT = given_DCTT.contiguous()
    out_BCSHW = empty_rows(x_BCTHW, given_DCTT.shape[0] * given_DCTT.shape[2])
    maps = [x_BCTHW, out_BCSHW]
    if not x_BCTHW.numel():
        return out_BCSHW.zero_()
    geometry = _geometry(
        maps,
        given_DCTT,
        budget=_FRAME_VALUES,
        blocks=_FORWARD_BLOCKS,
        scratch=0,
        chunk_of=1,
        groups=1,
    )
    name = (
        f"mix_forward<{_ELEMENTS[x_BCTHW.dtype]}, {geometry.vector}, {geometry.bucket},"
        f" {_flag(geometry.last)}>"
    )
    _launch(
        run, name, geometry, 1, [x_BCTHW, given_DCTT, out_BCSHW], given_DCTT, mapping, masked, maps
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
    of_map: bool,
    of_given: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients that are asked for; both together take one pass where S is small enough for
    the registers.
    """
    x_BCTHW = _readable(x_BCTHW)
    given_DCTT = given_DCTT.contiguous()
    if is_channels_last(grad_BCSHW) != is_channels_last(x_BCTHW) or not _is_readable(grad_BCSHW):
        grad_BCSHW = empty_rows(x_BCTHW, grad_BCSHW.shape[2]).copy_(grad_BCSHW)
    grad_x = empty_rows(x_BCTHW, x_BCTHW.shape[2]) if of_map else None
    grad_given = torch.empty_like(given_DCTT) if of_given else None
    if not x_BCTHW.numel():
        return grad_x, grad_given if grad_given is None else grad_given.zero_()
    times = x_BCTHW.shape[2]
    dtype = x_BCTHW.dtype
    together = _fits_together(times, dtype) and grad_BCSHW.shape[2] <= _rows_at_once(times, dtype)
    passes = [(grad_x, grad_given)] if together else [(grad_x, None), (None, grad_given)]
    for of_x, of_weights in passes:
        if of_x is not None or of_weights is not None:
            _run_gradients(run, grad_BCSHW, x_BCTHW, given_DCTT, of_x, of_weights, mapping, masked)
    return grad_x, grad_given


def _run_gradients(
    run: Run,
    grad_BCSHW: Tensor,
    x_BCTHW: Tensor,
    given_DCTT: Tensor,
    grad_x_BCTHW: Tensor | None,
    grad_given_DCTT: Tensor | None,
    mapping: Mapping,
    masked: bool,
) -> None:
    """Launch the backward kernel once, and the one that adds its partial sums."""
    of_map = grad_x_BCTHW is not None
    of_weights = grad_given_DCTT is not None
    maps = [grad_BCSHW, x_BCTHW, x_BCTHW if grad_x_BCTHW is None else grad_x_BCTHW]
    rows = grad_BCSHW.shape[2]
    times = x_BCTHW.shape[2]
    channels = x_BCTHW.shape[1]
    at_once = _rows_at_once(times, x_BCTHW.dtype)
    groups = 1 if of_map else -(-rows // at_once)
    last = is_channels_last(x_BCTHW)
    geometry = _geometry(
        maps,
        given_DCTT,
        budget=_backward_budget(last, of_weights),
        blocks=_BACKWARD_BLOCKS,
        scratch=_bucket(times) if of_weights else 0,
        chunk_of=at_once if of_map else 0,
        groups=groups,
    )
    flags = ", ".join(_flag(value) for value in (last, of_map, of_weights))
    name = (
        f"mix_backward<{_ELEMENTS[x_BCTHW.dtype]}, {geometry.vector}, {geometry.bucket}, {at_once},"
        f" {flags}>"
    )
    partials = (
        given_DCTT.new_empty(geometry.splits, rows, times, channels) if of_weights else given_DCTT
    )
    tensors = [grad_BCSHW, x_BCTHW, given_DCTT, maps[2], partials]
    _launch(run, name, geometry, groups, tensors, given_DCTT, mapping, masked, maps)
    if grad_given_DCTT is None:
        return
    sizes = (
        geometry.splits,
        channels,
        times,
        rows,
        given_DCTT.shape[0],
        _MAPPINGS.index(mapping),
        masked,
    )
    lanes = 32 if times <= 16 else 16
    run(
        Launch(
            f"mix_backward_weights<{_ELEMENTS[given_DCTT.dtype]}>",
            (-(-channels // lanes), rows, 1),
            (lanes, times),
            lanes * times * given_DCTT.element_size(),
            (partials, given_DCTT, grad_given_DCTT, *map(np.int32, sizes)),
        )
    )


def instantiations() -> Iterator[str]:
    """The name of every kernel that can be asked for."""
    for dtype, element in _ELEMENTS.items():
        for bucket in _BUCKETS:
            for last in (True, False):
                for vector in _vectors(dtype, bucket, _FRAME_VALUES):
                    yield f"mix_forward<{element}, {vector}, {bucket}, {_flag(last)}>"
                together = [(True, True)] if _fits_together(bucket, dtype) else []
                for of_map, of_weights in (*together, (True, False), (False, True)):
                    for vector in _vectors(dtype, bucket, _backward_budget(last, of_weights)):
                        flags = ", ".join(_flag(value) for value in (last, of_map, of_weights))
                        yield (
                            f"mix_backward<{element}, {vector}, {bucket},"
                            f" {_rows_at_once(bucket, dtype)}, {flags}>"
                        )
    yield from ("mix_backward_weights<float>", "mix_backward_weights<double>")


def _launch(
    run: Run,
    name: str,
    geometry: _Geometry,
    groups: int,
    tensors: Sequence[Tensor],
    given_DCTT: Tensor,
    mapping: Mapping,
    masked: bool,
    maps: Sequence[Tensor],
) -> None:
    directions, channels, rows, times = given_DCTT.shape
    batches = maps[0].shape[0]
    pixels = maps[0].shape[3] * maps[0].shape[4]
    sizes = (
        batches,
        channels,
        times,
        directions * rows,
        directions,
        pixels,
        _MAPPINGS.index(mapping),
        masked,
        geometry.chunk,
    )
    strides = [stride for item in maps for stride in _strides(item, geometry.last)]
    arguments: tuple[Argument, ...] = (*tensors, *map(np.int32, sizes), *map(np.int64, strides))
    run(
        Launch(
            name,
            (geometry.channel_tiles, geometry.splits, groups),
            geometry.block,
            geometry.shared_bytes,
            arguments,
        )
    )


def _readable(x_BCTHW: Tensor) -> Tensor:
    """The map itself if the kernel can read it where it lies, else a dense copy in the same
    layout.
    """
    return (
        x_BCTHW if _is_readable(x_BCTHW) else empty_rows(x_BCTHW, x_BCTHW.shape[2]).copy_(x_BCTHW)
    )


def _is_readable(x_BCTHW: Tensor) -> bool:
    """Whether the pixels of a frame lie at one distance from each other, as the kernels take
    them; batches, channels and times are free.
    """
    _, _, _, height, width = x_BCTHW.shape
    step = x_BCTHW.stride(4) if width > 1 else x_BCTHW.stride(3)
    even = height == 1 or width == 1 or x_BCTHW.stride(3) == width * step
    return even and (is_channels_last(x_BCTHW) or height * width == 1 or step == 1)


def _strides(x_BCTHW: Tensor, last: bool) -> tuple[int, int, int]:
    """Elements to the next batch, to the next pixel (channels last) or channel, and to the next
    time; 0 where there is no next one.
    """
    batches, channels, times, height, width = x_BCTHW.shape
    by_batch, by_channel, by_time, by_row, by_column = x_BCTHW.stride()
    step = (
        (by_column if width > 1 else by_row if height > 1 else 0)
        if last
        else (by_channel if channels > 1 else 0)
    )
    return by_batch if batches > 1 else 0, step, by_time if times > 1 else 0


def _geometry(
    maps: Sequence[Tensor],
    given_DCTT: Tensor,
    *,
    budget: int,
    blocks: int,
    scratch: int,
    chunk_of: int,
    groups: int,
) -> _Geometry:
    """Lay a launch over its maps.

    Args:
        budget: most values of one thread's frames in registers.
        blocks: about how many blocks to launch.
        scratch: values of every thread's channels in shared memory at the end, for adding over
            positions.
        chunk_of: rows of weights are staged in multiples of this; 0 if none are.
        groups: blocks for each tile and split.
    """
    directions, channels, rows, times = given_DCTT.shape
    rows *= directions
    last = is_channels_last(maps[0])
    bucket = _bucket(times)
    size = given_DCTT.element_size()
    vector = _vector(maps, last, _vectors(maps[0].dtype, bucket, budget))
    owned = vector if last else 1
    bounds_bytes = -(-rows * 8 // 16) * 16
    room = _SHARED_BYTES - bounds_bytes
    # Sums of the weights' gradient take registers: of smaller blocks more fit beside each other.
    threads = _THREADS // 2 if scratch else _THREADS
    pixels = maps[0].shape[3] * maps[0].shape[4]
    positions = maps[0].shape[0] * (pixels if last else pixels // vector)
    whole = -(-rows // chunk_of) * chunk_of if chunk_of else 0
    if last:
        channel_lanes = min(32, _power_of_two(-(-channels // vector)))
        while channel_lanes > 4 and channel_lanes * owned * whole * times * size > room:
            channel_lanes //= 2
        position_lanes = threads // channel_lanes
    else:
        position_lanes = min(64, _power_of_two(positions))
        channel_lanes = threads // position_lanes
        while channel_lanes > 1 and channel_lanes * whole * times * size > room:
            channel_lanes //= 2
    row_bytes = channel_lanes * owned * times * size
    chunk = min(whole, room // row_bytes // chunk_of * chunk_of) if chunk_of else max(rows, 1)
    shared = max(
        chunk * row_bytes if chunk_of else 0,
        scratch * owned * channel_lanes * position_lanes * size,
    )
    channel_tiles = -(-channels // (channel_lanes * owned))
    tiles = -(-positions // position_lanes)
    each = -(-tiles // min(tiles, max(1, blocks // (channel_tiles * groups)), 65535))
    return _Geometry(
        vector,
        bucket,
        last,
        channel_lanes,
        position_lanes,
        channel_tiles,
        -(-tiles // each),
        chunk,
        bounds_bytes + shared,
    )


def _vector(maps: Sequence[Tensor], last: bool, allowed: Sequence[int]) -> int:
    """The widest access that every map allows: sizes, strides and addresses are multiples of it."""
    inner = maps[0].shape[1] if last else maps[0].shape[3] * maps[0].shape[4]
    for vector in allowed:
        whole = all(stride % vector == 0 for item in maps for stride in _strides(item, last))
        aligned = all(item.data_ptr() % (vector * item.element_size()) == 0 for item in maps)
        if inner % vector == 0 and whole and aligned:
            return vector
    return 1


@functools.cache
def _vectors(dtype: torch.dtype, bucket: int, budget: int) -> tuple[int, ...]:
    """Elements to an access, widest first: at most 16 bytes, at most `budget` values for all
    frames; always 1.
    """
    # float64 is for checks only.
    widest = 1 if dtype == torch.float64 else max(1, min(16 // dtype.itemsize, budget // bucket))
    return tuple(dict.fromkeys((widest, max(1, widest // 2), 1)))


def _backward_budget(last: bool, of_weights: bool) -> int:
    """Most values of one thread's frames: what the sums of the weights' gradient leave of the
    registers.
    """
    return _FRAME_VALUES if not of_weights else 16 if last else 32


def _fits_together(times: int, dtype: torch.dtype) -> bool:
    """Whether frames, their gradient and the weights' sums fit into registers at the same time."""
    return times <= 16 or dtype != torch.float64


def _rows_at_once(times: int, dtype: torch.dtype) -> int:
    """Rows whose sums with all frames fit into registers."""
    narrow = 4 if times <= 16 else 2
    return narrow // 2 if dtype == torch.float64 and times > 8 else narrow


def _bucket(times: int) -> int:
    return next(bucket for bucket in _BUCKETS if times <= bucket)


def _power_of_two(value: int) -> int:
    """The smallest power of two that is not below."""
    return 1 << max(0, value - 1).bit_length()


def _flag(value: bool) -> str:
    return "true" if value else "false"
