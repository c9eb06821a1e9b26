"""Decode groups of pictures of many cameras in one run of DALI.

On a GPU the frames stay in its memory. No GPU has run this yet.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
import torch.utils.dlpack
from numpy.typing import NDArray
from torch import Tensor

from configs import MediaError
from model.media.colour_correction import correct_colours
from model.media.dali_errors import reason_of
from model.media.dali_library import load_dali_graphs

__all__ = ["EncodedGop", "GopDecoder"]


@dataclasses.dataclass(frozen=True)
class EncodedGop:
    """A group of pictures in a container, and which of its frames are wanted.

    Attributes:
        data: bytes of the container, uint8.
        wanted: places of the frames in presentation order, int32, at least one.
        width, height: of the frames; what the decoder gives to the right and below is cut.
        correction: matrix `3 3` that multiplies RGB columns, because DALI always uses BT.601; None
            if the video uses BT.601 too.
    """

    data: NDArray[np.uint8]
    wanted: NDArray[np.int32]
    width: int
    height: int
    correction: NDArray[np.float32] | None = None

    @property
    def decoded_bytes(self) -> int:
        """Bytes of the wanted frames."""
        return len(self.wanted) * self.width * self.height * 3


class GopDecoder:
    """Decodes batches of groups in DALI.

    On the CPU, DALI can decode only VP8, VP9 and MJPEG. One thread uses it.

    Args:
        max_batch: maximum number of groups in one call.
        device: `cpu` or `gpu`.
        threads: groups that are decoded at the same time; on a GPU each has a hardware decoder.
        gpu: index of the GPU.
    """

    def __init__(
        self,
        *,
        max_batch: int,
        device: Literal["cpu", "gpu"] = "cpu",
        threads: int = 1,
        gpu: int | None = None,
    ) -> None:
        self.max_batch = max_batch
        self._device = device
        self._threads = threads
        self._gpu = gpu if device == "gpu" else None
        self._pipeline: Any = None
        self._stream: Any = None

    def decode(self, gops: Sequence[EncodedGop]) -> list[list[Any]]:
        """Decode the wanted frames of each group.

        Returns:
            For each group its frames, uint8 `H W 3`: NumPy arrays on the CPU, tensors on a GPU.
            Each frame has memory of its own.

        Raises:
            MediaError: DALI cannot decode one of them; DALI does not report which one.
        """
        try:
            if self._pipeline is None:
                self._pipeline = self._build()
            self._pipeline.feed_input("encoded", [gop.data for gop in gops])
            self._pipeline.feed_input("wanted", [gop.wanted for gop in gops])
            (output,) = self._pipeline.run()
            return [self._frames(output, place, gop) for place, gop in enumerate(gops)]
        except RuntimeError as error:
            self._pipeline = None  # after an error, the graph cannot be used again
            raise MediaError(
                f"DALI cannot decode one of {len(gops)} groups of pictures: {reason_of(error)}"
            ) from None

    def _frames(self, output: Any, place: int, gop: EncodedGop) -> list[Any]:
        """Copy a group's frames: the next run overwrites the output."""
        if self._device == "gpu":
            return self._frames_on_gpu(output, place, gop)
        frames_FHWC = np.asarray(output.at(place))
        _check_shape(frames_FHWC.shape, gop)
        cut_FHWC = torch.from_numpy(frames_FHWC[:, : gop.height, : gop.width])
        return [_copied(frame, gop).numpy() for frame in cut_FHWC]

    def _frames_on_gpu(self, output: Any, place: int, gop: EncodedGop) -> list[Any]:
        """Copy a group's frames on a stream of this decoder, so that nothing waits for others."""
        if self._stream is None:
            self._stream = torch.cuda.Stream(self._gpu)  # type: ignore[no-untyped-call]
        with torch.cuda.stream(self._stream):
            frames_FHWC = torch.utils.dlpack.from_dlpack(output[place])
            _check_shape(tuple(frames_FHWC.shape), gop)
            cut_FHWC = frames_FHWC[:, : gop.height, : gop.width]
            frames = [_copied(frame, gop) for frame in cut_FHWC]
            # The copies are finished before another stream reads them, and before the next run
            # overwrites their source.
            self._stream.synchronize()
        return frames

    def _build(self) -> Any:
        pipeline = load_dali_graphs().gop_graph(
            self._device,
            batch_size=self.max_batch,
            num_threads=self._threads,
            device_id=self._gpu,
            prefetch_queue_depth=1,
            exec_dynamic=False,
            exec_async=False,
            exec_pipelined=False,
        )
        pipeline.build()
        return pipeline


def _check_shape(shape: tuple[int, ...], gop: EncodedGop) -> None:
    """Refuse frames of another size than the first one's: the camera changed it in the group.

    Raises:
        MediaError: the frames have another number or size.
    """
    frames, height, width = shape[:3]
    if frames != len(gop.wanted) or height < gop.height or width < gop.width:
        raise MediaError(
            f"DALI gives {frames} frames of {width}x{height} where {len(gop.wanted)} of"
            f" {gop.width}x{gop.height} are wanted"
        )


def _copied(frame_HWC: Tensor, gop: EncodedGop) -> Tensor:
    copy_HWC = frame_HWC.clone(memory_format=torch.contiguous_format)
    if gop.correction is not None:
        correct_colours(copy_HWC, gop.correction)
    return copy_HWC
