"""The clip gather copies clips from the ring of all cameras' frames into the network's batch.

Letters: S slots, B clips, T frames, H and W space, C channels (RGB).
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

__all__ = ["ClipGather", "ClipPlace", "gather_kernels"]

_log = logging.getLogger(__name__)

# Location of a clip in the ring: its slot, and the position of its oldest frame in that slot.
ClipPlace = tuple[int, int]
_ELEMENTS = {torch.bfloat16: "bfloat16", torch.float16: "float16", torch.float32: "float"}
_THREADS = 256
_VECTORS_PER_THREAD = 4
# Size of the float32 block that a CPU processes at a time; it fits into the cache of one core.
_BLOCK_BYTES = 1 << 20


class ClipGather:
    """Copies clips out of a ring `S T H W C` into a normalised batch `B C T H W`.

    The batch is in channels-last-3d memory. The ring is not changed.

    Args:
        config: means and standard deviations of the channels.
        dtype: data type of the batch.
        device: device of the ring and of the batch.
        path: `auto` uses the CUDA kernel on a GPU where it can run, `cuda` requires it,
            `reference` uses plain PyTorch.

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
        reason = mixing_choice(path, device)[1]
        if not reason and dtype not in _ELEMENTS:
            reason = f"dtype {dtype}"
        if reason and path == "cuda":
            raise KernelError(
                f"the clip gather's kernel was requested by 'cuda', but does not support {reason};"
                " use 'auto' or 'reference'"
            )
        if reason and path == "auto" and device.type == "cuda":
            _log.warning("clips are gathered by plain PyTorch, not by the CUDA kernel: %s", reason)
        self._on_gpu = not reason
        self._frame_size = (0, 0)
        self._frame_statistics: tuple[Tensor, ...] = ()

    def __call__(self, ring_STHWC: Tensor, clips: Sequence[ClipPlace]) -> Tensor:
        """Copy the clips into a batch, with the frames of each clip from the oldest to the newest.

        Raises:
            ShapeError: the ring is not uint8 `S T H W 3`, or a clip lies outside it.
        """
        _check(ring_STHWC, clips, self.device)
        if self._on_gpu:
            return self.by_kernel(run_on_gpu, ring_STHWC, clips)
        _, times, height, width, channels = ring_STHWC.shape
        out_BTHWC = self._empty_batch(ring_STHWC, len(clips))
        scale, shift = self._statistics_of_frame(ring_STHWC.device, height, width)
        block = max(1, _BLOCK_BYTES // (4 * scale.numel()))
        wide = torch.empty(block, height, width, channels, device=ring_STHWC.device)
        for target, (slot, head) in zip(out_BTHWC, clips, strict=True):
            for source, first, count in _runs(head, times, block):
                # The float32 block stays in the cache, so main memory is read and written once.
                part = wide[:count].copy_(ring_STHWC[slot, source : source + count])
                target[first : first + count] = torch.addcmul(shift, part, scale, out=part)
        return out_BTHWC.permute(0, 4, 1, 2, 3)

    def by_kernel(
        self, run: Callable[[Launch], None], ring_STHWC: Tensor, clips: Sequence[ClipPlace]
    ) -> Tensor:
        """Copy the clips into a batch with one kernel launch; `run` launches the kernel."""
        _, times, height, width, channels = ring_STHWC.shape
        out_BTHWC = self._empty_batch(ring_STHWC, len(clips))
        if not clips:
            return out_BTHWC.permute(0, 4, 1, 2, 3)
        table = torch.tensor(clips, dtype=torch.int32)
        if ring_STHWC.is_cuda:
            table = table.pin_memory().to(ring_STHWC.device, non_blocking=True)
        frame_bytes = height * width * channels
        vector = _vector(self.dtype, frame_bytes, ring_STHWC.data_ptr())
        blocks = -(-frame_bytes // (vector * _THREADS * _VECTORS_PER_THREAD))
        statistics = (*self._scale.tolist(), *self._shift.tolist())
        arguments: tuple[Argument, ...] = (
            ring_STHWC,
            table,
            out_BTHWC,
            np.int32(times),
            np.int32(frame_bytes),
            *map(np.float32, statistics),
        )
        name = f"gather_clips<{_ELEMENTS[self.dtype]}, {vector}>"
        run(Launch(name, (blocks, times, len(clips)), (_THREADS, 1), 0, arguments))
        return out_BTHWC.permute(0, 4, 1, 2, 3)

    def _empty_batch(self, ring_STHWC: Tensor, clips: int) -> Tensor:
        shape = (clips, *ring_STHWC.shape[1:])
        return torch.empty(shape, dtype=self.dtype, device=ring_STHWC.device)

    def _statistics_of_frame(
        self, device: torch.device, height: int, width: int
    ) -> tuple[Tensor, Tensor]:
        """Return scale and shift for every byte of a frame.

        They are cached until the frame size changes. With full-size tensors, a CPU can process 16
        bytes at a time; it cannot do so when it must repeat three channel values.
        """
        if self._frame_size != (height, width):
            self._frame_size = (height, width)
            self._frame_statistics = tuple(
                values.to(device).expand(1, height, width, 3).contiguous()
                for values in (self._scale, self._shift)
            )
        return self._frame_statistics[0], self._frame_statistics[1]


def gather_kernels() -> Iterator[str]:
    """Yield the name of every kernel that `ClipGather` can launch."""
    for dtype, element in _ELEMENTS.items():
        for frame_bytes in (16, 1):
            yield f"gather_clips<{element}, {_vector(dtype, frame_bytes)}>"


def _vector(dtype: torch.dtype, frame_bytes: int, address: int = 0) -> int:
    """Return how many bytes are read in one access: enough to fill 16 bytes of `dtype`, or 1.

    The larger number requires that every frame starts and ends at a multiple of it.
    """
    widest = 16 // dtype.itemsize
    return widest if frame_bytes % widest == 0 and address % widest == 0 else 1


def _runs(head: int, times: int, block: int) -> Iterator[tuple[int, int, int]]:
    """Split a clip into blocks of consecutive frames.

    Yield for each block its position in the ring, its position in the clip, and its frame count.
    """
    for start, end, first in ((head, times, 0), (0, head, times - head)):
        for source in range(start, end, block):
            yield source, first + source - start, min(block, end - source)


def _check(ring_STHWC: Tensor, clips: Sequence[ClipPlace], device: torch.device) -> None:
    if ring_STHWC.device.type != device.type:
        raise ShapeError(f"the ring is on {ring_STHWC.device}, this gather was made for {device}")
    is_ring = ring_STHWC.dim() == 5 and ring_STHWC.shape[4] == 3 and ring_STHWC.is_contiguous()
    if not is_ring or ring_STHWC.dtype != torch.uint8:
        raise ShapeError(
            "the ring must be contiguous uint8 S T H W 3,"
            f" got {ring_STHWC.dtype} {tuple(ring_STHWC.shape)}"
        )
    slots, times = ring_STHWC.shape[:2]
    for slot, head in clips:
        if not (0 <= slot < slots and 0 <= head < times):
            raise ShapeError(
                f"clip (slot {slot}, head {head}) lies outside a ring of {slots} slots"
                f" of {times} frames"
            )
