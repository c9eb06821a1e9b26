"""The window gather: from the ring of every camera's frames to a normalised batch in the network's
layout, in one pass.

Letters: S slots, B windows, T frames, H and W space, C channels (RGB).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from configs import KernelError, ShapeError
from model.kernels import Argument, Launch, run_on_gpu
from model.mixing import MixingPath, mixing_choice

if TYPE_CHECKING:
    from model.media.preprocess import PreprocessConfig

__all__ = ["WindowGather", "window_kernels"]

_log = logging.getLogger(__name__)

Window = tuple[int, int]  # a slot of the ring, and where its oldest frame lies
_ELEMENTS = {torch.bfloat16: "bfloat16", torch.float16: "float16", torch.float32: "float"}
_THREADS = 256
_VECTORS_OF_THREAD = 4
# of float32 pictures worked on at a time on a CPU: what a core's own cache holds
_BLOCK_BYTES = 1 << 20


class WindowGather:
    """Takes windows out of a ring `S T H W C` without rolling or copying it: `B C T H W`,
    channels-last, minus mean, over deviation.

    Args:
        config: the channel statistics.
        dtype: of the batch.
        device: where the ring is and the batch will be.
        path: `auto` takes the CUDA kernel on a GPU where it can run, `cuda` insists on it,
            `reference` is plain PyTorch.

    Raises:
        KernelError: `path` is `cuda` and the kernel cannot run here.
    """

    def __init__(
        self,
        config: PreprocessConfig,
        *,
        dtype: torch.dtype,
        device: torch.device,
        path: MixingPath = "auto",
    ) -> None:
        self.dtype = dtype
        self.device = device
        self._scale = 1.0 / torch.tensor(config.std_rgb)
        self._shift = -torch.tensor(config.mean_rgb) * self._scale
        reason = mixing_choice(path, device)[1] or ("" if dtype in _ELEMENTS else f"dtype {dtype}")
        if reason and path == "cuda":
            raise KernelError(
                f"the window gather's kernel was asked for by 'cuda', but does not take {reason};"
                " use 'auto' or 'reference'"
            )
        if reason and path == "auto" and device.type == "cuda":
            _log.warning(
                "windows are gathered by plain PyTorch, not by the CUDA kernel: %s", reason
            )
        self._on_gpu = not reason
        self._tile_of = (0, 0)
        self._tiles: tuple[Tensor, ...] = ()

    def __call__(self, ring_STHWC: Tensor, windows: Sequence[Window]) -> Tensor:
        """The windows, each from its oldest frame on.

        Raises:
            ShapeError: the ring is not uint8 `S T H W 3`, or a window lies outside it.
        """
        _check(ring_STHWC, windows, self.device)
        if self._on_gpu:
            return self.by_kernel(run_on_gpu, ring_STHWC, windows)
        _, times, height, width, channels = ring_STHWC.shape
        out_BTHWC = torch.empty(
            len(windows), times, height, width, channels, dtype=self.dtype, device=ring_STHWC.device
        )
        scale, shift = self._tile(ring_STHWC.device, height, width)
        block = max(1, _BLOCK_BYTES // (4 * scale.numel()))
        wide = torch.empty(block, height, width, channels, device=ring_STHWC.device)
        for target, (slot, head) in zip(out_BTHWC, windows, strict=True):
            for source, first, count in _runs(head, times, block):
                # By way of a float32 block that stays in cache: memory is read once and written
                # once.
                part = wide[:count].copy_(ring_STHWC[slot, source : source + count])
                target[first : first + count] = torch.addcmul(shift, part, scale, out=part)
        return out_BTHWC.permute(0, 4, 1, 2, 3)

    def by_kernel(
        self, run: Callable[[Launch], None], ring_STHWC: Tensor, windows: Sequence[Window]
    ) -> Tensor:
        """The same, by one launch of the kernel through `run`."""
        _, times, height, width, channels = ring_STHWC.shape
        out_BTHWC = torch.empty(
            len(windows), times, height, width, channels, dtype=self.dtype, device=ring_STHWC.device
        )
        if not windows:
            return out_BTHWC.permute(0, 4, 1, 2, 3)
        table = torch.tensor(windows, dtype=torch.int32)
        if ring_STHWC.is_cuda:
            table = table.pin_memory().to(ring_STHWC.device, non_blocking=True)
        frame_bytes = height * width * channels
        vector = _vector(self.dtype, frame_bytes, ring_STHWC.data_ptr())
        blocks = -(-frame_bytes // (vector * _THREADS * _VECTORS_OF_THREAD))
        statistics: list[np.float32] = [
            np.float32(value) for value in (*self._scale.tolist(), *self._shift.tolist())
        ]
        arguments: tuple[Argument, ...] = (
            ring_STHWC,
            table,
            out_BTHWC,
            np.int32(times),
            np.int32(frame_bytes),
            *statistics,
        )
        name = f"gather_windows<{_ELEMENTS[self.dtype]}, {vector}>"
        run(Launch(name, (blocks, times, len(windows)), (_THREADS, 1), 0, arguments))
        return out_BTHWC.permute(0, 4, 1, 2, 3)

    def _tile(self, device: torch.device, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Scale and shift of every byte of a frame: without a repeating pattern the CPU takes
        them 16 at a time.
        """
        if self._tile_of != (height, width):
            self._tile_of = (height, width)
            self._tiles = tuple(
                values.to(device).expand(1, height, width, 3).contiguous()
                for values in (self._scale, self._shift)
            )
        return self._tiles[0], self._tiles[1]


def window_kernels() -> Iterator[str]:
    """The name of every kernel that can be asked for."""
    for dtype, element in _ELEMENTS.items():
        for frame_bytes in (16, 1):
            yield f"gather_windows<{element}, {_vector(dtype, frame_bytes)}>"


def _vector(dtype: torch.dtype, frame_bytes: int, address: int = 0) -> int:
    """Bytes to an access: so many that their elements fill 16 bytes, if frames are whole in them
    and start at a multiple of them.
    """
    widest = 16 // dtype.itemsize
    return widest if frame_bytes % widest == 0 and address % widest == 0 else 1


def _runs(head: int, times: int, block: int) -> Iterator[tuple[int, int, int]]:
    """Blocks of frames that follow each other in the ring: where they start there, where in the
    window, how many.
    """
    for start, end, first in ((head, times, 0), (0, head, times - head)):
        for source in range(start, end, block):
            yield source, first + source - start, min(block, end - source)


def _check(ring_STHWC: Tensor, windows: Sequence[Window], device: torch.device) -> None:
    if ring_STHWC.device.type != device.type:
        raise ShapeError(f"the ring is on {ring_STHWC.device}, this gather was made for {device}")
    if (
        ring_STHWC.dim() != 5
        or ring_STHWC.shape[4] != 3
        or ring_STHWC.dtype != torch.uint8
        or not ring_STHWC.is_contiguous()
    ):
        raise ShapeError(
            f"the ring must be contiguous uint8 S T H W 3, got {ring_STHWC.dtype}"
            f" {tuple(ring_STHWC.shape)}"
        )
    slots, times = ring_STHWC.shape[:2]
    for slot, head in windows:
        if not (0 <= slot < slots and 0 <= head < times):
            raise ShapeError(
                f"window (slot {slot}, head {head}) lies outside a ring of {slots} slots of {times}"
                " frames"
            )
