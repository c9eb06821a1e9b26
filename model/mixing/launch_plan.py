"""Plan the launch of a mixing kernel: blocks, threads, access width and shared memory.

Planning needs only shapes, strides and addresses, so it also runs on machines without a GPU.

Letters: B clips, C channels, T input times, S output rows (D directions times T' rows), H and W
space.
Each thread processes some channels of one position. In channels-last memory, a position is one
pixel of a clip, and a thread processes a vector of channels. In planar memory, a position is a
vector of pixels, and a thread processes one channel.
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
FRAME_VALUES = 64  # maximum number of frame values that one thread holds in registers

_THREADS = 256
_SHARED_BYTES = 48 * 1024  # default limit for a block on every device
_MAX_GRID_Y = 65535


@dataclasses.dataclass(frozen=True)
class KernelNeeds:
    """The requirements of one kernel on its launch.

    Attributes:
        frame_values: maximum number of frame values that one thread holds in registers.
        blocks: approximate number of blocks to launch.
        groups: number of blocks that share one tile of channels and positions.
        staged_rows: the number of weight rows copied to shared memory at a time is a multiple of
            this; 0 if no rows are copied.
        scratch_values: number of values in shared memory for each channel of a thread; they are
            used to add over positions.
    """

    frame_values: int
    blocks: int
    groups: int = 1
    staged_rows: int = 0
    scratch_values: int = 0


@dataclasses.dataclass(frozen=True)
class LaunchPlan:
    """The grid, block and memory of one launch; each block processes tiles of the map.

    Attributes:
        vector: number of elements in one memory access.
        times: time length for which the kernel is compiled.
        channels_last: whether channels, not pixels, are adjacent in memory.
        channel_lanes, position_lanes: number of threads of a block along channels and positions.
        channel_tiles: number of tiles along channels.
        position_splits: number of blocks among which the tiles along positions are divided.
        chunk_rows: number of weight rows in shared memory at the same time.
        shared_bytes: dynamic shared memory of a block, in bytes.
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
        """Number of threads along x and y; neighbours along x access neighbours in memory."""
        if self.channels_last:
            return self.channel_lanes, self.position_lanes
        return self.position_lanes, self.channel_lanes


def unsupported(x_BCTHW: Tensor, rows: int) -> str | None:
    """Return why the kernel cannot mix this map into `rows` rows per direction, or None."""
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
        given_DCTT: the weights, or the logits from which the kernel computes them.
        needs: the requirements of the kernel.
    """
    directions, channels, rows_per_direction, times = given_DCTT.shape
    rows = directions * rows_per_direction
    last = is_channels_last(maps[0])
    size = given_DCTT.element_size()
    kernel_times = compiled_times(times)
    widths = access_widths(maps[0].dtype, kernel_times, needs.frame_values)
    vector = _widest_access(maps, last, widths)
    owned_channels = vector if last else 1

    bounds_bytes = _ceil_to(rows * 8, 16)  # first and last frame that each row uses
    room = _SHARED_BYTES - bounds_bytes
    staged_rows = _ceil_to(rows, needs.staged_rows) if needs.staged_rows else 0
    row_bytes = (
        owned_channels * times * size
    )  # bytes of one weight row for one thread along channels
    # The sums for the weights' gradient need many registers. With smaller blocks, more blocks fit
    # on a multiprocessor.
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
    """Return the shortest compiled time length that is at least `times`."""
    return next(length for length in COMPILED_TIMES if times <= length)


@functools.cache
def access_widths(dtype: torch.dtype, times: int, frame_values: int) -> tuple[int, ...]:
    """Return the possible numbers of elements in one access, from the largest down to 1.

    One access has at most 16 bytes, and `times` accesses have at most `frame_values` elements.
    """
    # float64 is used only for checks, so its accesses are not optimised.
    is_wide = dtype != torch.float64
    widest = max(1, min(16 // dtype.itemsize, frame_values // times)) if is_wide else 1
    return tuple(dict.fromkeys((widest, max(1, widest // 2), 1)))


def strides_of(x_BCTHW: Tensor, channels_last: bool) -> tuple[int, int, int]:
    """Return the distances, in elements, to the next clip, pixel or channel, and frame.

    The second distance is to the next pixel in channels-last memory, and to the next channel in
    planar memory. The distance along an axis of size 1 is 0.
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
    """Return the numbers of threads along channels and positions.

    Use fewer threads along channels if the weights need more than `room` bytes.
    """
    channel_lanes = min(32, _power_of_two(channel_vectors))
    while channel_lanes > 4 and channel_lanes * lane_bytes > room:
        channel_lanes //= 2
    return channel_lanes, threads // channel_lanes


def _lanes_planar(threads: int, positions: int, lane_bytes: int, room: int) -> tuple[int, int]:
    """Return the same numbers as `_lanes_channels_last`, for planar memory."""
    position_lanes = min(64, _power_of_two(positions))
    channel_lanes = threads // position_lanes
    while channel_lanes > 1 and channel_lanes * lane_bytes > room:
        channel_lanes //= 2
    return channel_lanes, position_lanes


def _positions(x_BCTHW: Tensor, pixels_each: int) -> int:
    batches, _, _, height, width = x_BCTHW.shape
    return batches * (height * width // pixels_each)


def _widest_access(maps: Sequence[Tensor], channels_last: bool, widths: Sequence[int]) -> int:
    """Return the widest access to which sizes, strides and addresses of all maps are aligned."""
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
    """Round `value` up to a multiple of `step`."""
    return -(-value // step) * step


def _power_of_two(value: int) -> int:
    """Round `value` up to a power of two."""
    return 1 << max(0, value - 1).bit_length()
