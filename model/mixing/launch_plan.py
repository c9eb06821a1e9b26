"""How a mixing kernel is launched: blocks, threads, access width, shared memory.

Pure arithmetic on shapes, strides and addresses, so it runs on any machine.

Letters: B clips, C channels, T time in, S output rows (D directions times T' rows), H and W space.
A thread owns some channels and one position. In channels-last memory a position is a pixel of a
clip and a thread owns a vector of channels; in planar memory a position is a vector of pixels and
a thread owns one channel.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from model.mixing.cpu import is_channels_last

__all__ = [
    "COMPILED_TIMES",
    "ELEMENTS",
    "FRAME_VALUES",
    "MAX_ROWS",
    "MAX_TIMES",
    "KernelNeeds",
    "LaunchPlan",
    "access_widths",
    "compiled_times",
    "plan_launch",
    "strides_of",
    "unsupported",
]

MAX_TIMES = 32
MAX_ROWS = 64
# C++ names of the element types.
ELEMENTS = {
    torch.bfloat16: "bfloat16",
    torch.float16: "float16",
    torch.float32: "float",
    torch.float64: "double",
}
COMPILED_TIMES = (4, 8, 16, 32)  # kernels are compiled for these time lengths
FRAME_VALUES = 64  # of one thread's frames in registers

_THREADS = 256
_SHARED_BYTES = 48 * 1024  # every device gives a block this much without being asked
_MAX_GRID_Y = 65535


@dataclasses.dataclass(frozen=True)
class KernelNeeds:
    """What one kernel needs from its launch.

    Attributes:
        frame_values: limit on the values of one thread's frames in registers.
        blocks: about how many blocks to launch.
        groups: blocks that share one tile of channels and positions.
        staged_rows: rows of weights are put into shared memory in multiples of this; 0 if none
            are.
        scratch_values: values in shared memory for each channel of a thread, to add over
            positions.
    """

    frame_values: int
    blocks: int
    groups: int = 1
    staged_rows: int = 0
    scratch_values: int = 0


@dataclasses.dataclass(frozen=True)
class LaunchPlan:
    """The shape of one launch: tiles of channels and positions, and a block of threads for each.

    Attributes:
        vector: elements in one memory access.
        times: the time length that the kernel is compiled for.
        channels_last: whether channels, not pixels, are adjacent in memory.
        channel_lanes, position_lanes: threads of a block along channels and along positions.
        channel_tiles: tiles of channels.
        position_splits: blocks that share the tiles of positions among them.
        chunk_rows: rows of weights in shared memory at the same time.
        shared_bytes: dynamic shared memory of a block.
    """

    vector: int
    times: int
    channels_last: bool
    channel_lanes: int
    position_lanes: int
    channel_tiles: int
    position_splits: int
    chunk_rows: int
    shared_bytes: int

    @property
    def block(self) -> tuple[int, int]:
        """Threads along x and y: neighbours along x are neighbours in memory."""
        if self.channels_last:
            return self.channel_lanes, self.position_lanes
        return self.position_lanes, self.channel_lanes


def unsupported(x_BCTHW: Tensor, rows: int) -> str | None:
    """Why the kernel cannot mix this map into `rows` rows per direction, or None if it can."""
    if x_BCTHW.dtype not in ELEMENTS:
        return f"dtype {x_BCTHW.dtype}"
    if x_BCTHW.shape[2] > MAX_TIMES:
        return f"T above {MAX_TIMES}"
    if rows > MAX_ROWS:
        return f"T' above {MAX_ROWS}"
    batches, _, _, height, width = x_BCTHW.shape
    if batches * height * width >= 2**31 - 2 * _THREADS:
        return "2^31 positions or more"
    return None


def plan_launch(maps: Sequence[Tensor], given_DCTT: Tensor, needs: KernelNeeds) -> LaunchPlan:
    """Plan one launch over maps that have the same B, C, H, W and memory layout.

    Args:
        maps: every map that the kernel reads or writes.
        given_DCTT: the weights, or the logits they are made from.
        needs: what the kernel needs.
    """
    directions, channels, rows_per_direction, times = given_DCTT.shape
    rows = directions * rows_per_direction
    last = is_channels_last(maps[0])
    size = given_DCTT.element_size()
    kernel_times = compiled_times(times)
    widths = access_widths(maps[0].dtype, kernel_times, needs.frame_values)
    vector = _widest_access(maps, last, widths)
    owned_channels = vector if last else 1

    bounds_bytes = _ceil_to(rows * 8, 16)  # first and last time of every row
    room = _SHARED_BYTES - bounds_bytes
    staged_rows = _ceil_to(rows, needs.staged_rows) if needs.staged_rows else 0
    row_bytes = owned_channels * times * size  # of one channel lane
    # Sums for the weights' gradient take registers: with smaller blocks, more fit at a time.
    threads = _THREADS // 2 if needs.scratch_values else _THREADS
    positions = _positions(maps[0], 1 if last else vector)
    lane_bytes = staged_rows * row_bytes
    if last:
        lanes = _lanes_channels_last(threads, -(-channels // vector), lane_bytes, room)
    else:
        lanes = _lanes_planar(threads, positions, lane_bytes, room)
    channel_lanes, position_lanes = lanes

    chunk_rows = max(rows, 1)
    staged_bytes = 0
    if needs.staged_rows:
        fitting = room // (channel_lanes * row_bytes)
        chunk_rows = min(staged_rows, fitting // needs.staged_rows * needs.staged_rows)
        staged_bytes = chunk_rows * channel_lanes * row_bytes
    scratch_bytes = needs.scratch_values * owned_channels * channel_lanes * position_lanes * size
    channel_tiles = -(-channels // (channel_lanes * owned_channels))
    position_tiles = -(-positions // position_lanes)
    splits = max(1, needs.blocks // (channel_tiles * needs.groups))
    tiles_per_block = -(-position_tiles // min(position_tiles, splits, _MAX_GRID_Y))
    return LaunchPlan(
        vector=vector,
        times=kernel_times,
        channels_last=last,
        channel_lanes=channel_lanes,
        position_lanes=position_lanes,
        channel_tiles=channel_tiles,
        position_splits=-(-position_tiles // tiles_per_block),
        chunk_rows=chunk_rows,
        shared_bytes=bounds_bytes + max(staged_bytes, scratch_bytes),
    )


def compiled_times(times: int) -> int:
    """The shortest time length with a compiled kernel that `times` frames fit into."""
    return next(length for length in COMPILED_TIMES if times <= length)


@functools.cache
def access_widths(dtype: torch.dtype, times: int, frame_values: int) -> tuple[int, ...]:
    """Elements in one access, widest first and always ending in 1.

    An access has at most 16 bytes, and `times` of them at most `frame_values` values.
    """
    # float64 is for checks only.
    is_wide = dtype != torch.float64
    widest = max(1, min(16 // dtype.itemsize, frame_values // times)) if is_wide else 1
    return tuple(dict.fromkeys((widest, max(1, widest // 2), 1)))


def strides_of(x_BCTHW: Tensor, channels_last: bool) -> tuple[int, int, int]:
    """Elements to the next clip, to the next pixel or channel, and to the next frame.

    In channels-last memory the second is the distance to the next pixel, in planar memory to the
    next channel. Along a size of 1 the distance is 0.
    """
    batches, channels, times, height, width = x_BCTHW.shape
    by_batch, by_channel, by_time, by_row, by_column = x_BCTHW.stride()
    if channels_last:
        step = by_column if width > 1 else by_row if height > 1 else 0
    else:
        step = by_channel if channels > 1 else 0
    return by_batch if batches > 1 else 0, step, by_time if times > 1 else 0


def _lanes_channels_last(
    threads: int, channel_vectors: int, lane_bytes: int, room: int
) -> tuple[int, int]:
    """Threads along channels and along positions, as few along channels as the room asks for."""
    channel_lanes = min(32, _power_of_two(channel_vectors))
    while channel_lanes > 4 and channel_lanes * lane_bytes > room:
        channel_lanes //= 2
    return channel_lanes, threads // channel_lanes


def _lanes_planar(threads: int, positions: int, lane_bytes: int, room: int) -> tuple[int, int]:
    """As `_lanes_channels_last`, for planar memory."""
    position_lanes = min(64, _power_of_two(positions))
    channel_lanes = threads // position_lanes
    while channel_lanes > 1 and channel_lanes * lane_bytes > room:
        channel_lanes //= 2
    return channel_lanes, position_lanes


def _positions(x_BCTHW: Tensor, pixels_each: int) -> int:
    batches, _, _, height, width = x_BCTHW.shape
    return batches * (height * width // pixels_each)


def _widest_access(maps: Sequence[Tensor], channels_last: bool, widths: Sequence[int]) -> int:
    """The widest access that sizes, strides and addresses of all maps are multiples of."""
    _, channels, _, height, width = maps[0].shape
    adjacent = channels if channels_last else height * width
    strides = [stride for item in maps for stride in strides_of(item, channels_last)]
    for vector in widths:
        whole = all(length % vector == 0 for length in (adjacent, *strides))
        aligned = all(item.data_ptr() % (vector * item.element_size()) == 0 for item in maps)
        if whole and aligned:
            return vector
    return 1


def _ceil_to(value: int, step: int) -> int:
    """The smallest multiple of `step` that is not below `value`."""
    return -(-value // step) * step


def _power_of_two(value: int) -> int:
    """The smallest power of two that is not below `value`."""
    return 1 << max(0, value - 1).bit_length()
