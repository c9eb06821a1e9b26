"""Preprocess frames: resize, crop and flip them in DALI.

Training, evaluation and the live pipeline all use this code.

Letters: B clips, T or F frames, H and W space, C channels (RGB).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor

from configs import MediaError, ShapeError, StrictModel
from model.media.colour_correction import correct_colours
from model.media.dali_errors import reason_of
from model.media.dali_runner import DaliRunner
from model.media.normalisation import normalise_clips
from model.staging import HostUpload

__all__ = [
    "CENTRE",
    "CropSpec",
    "EncodedClip",
    "PreprocessConfig",
    "Preprocessor",
    "normalise_clips",
]

Positive = Annotated[float, Field(gt=0)]
# Channel means and standard deviations of ImageNet, in grey levels (0 to 255); most public
# backbones were trained with them.
MEAN_RGB = (123.675, 116.28, 103.53)
STD_RGB = (58.395, 57.12, 57.375)
_ALL_ROWS = 1 << 20  # more than any frame has


class PreprocessConfig(StrictModel):
    """Size and normalisation of the network's input frames."""

    short_side: int = Field(
        256, ge=32, le=2048, description="length of the shorter side after resizing, in pixels"
    )
    height: int = Field(256, ge=32, le=2048, description="height of the crop, in pixels")
    width: int = Field(
        256,
        ge=32,
        le=2048,
        description="width of the crop, in pixels; narrower frames get black borders",
    )
    mean_rgb: tuple[float, float, float] = Field(
        MEAN_RGB, description="mean of each channel, in grey levels; it is subtracted"
    )
    std_rgb: tuple[Positive, Positive, Positive] = Field(
        STD_RGB,
        description="standard deviation of each channel, in grey levels; values are divided by it",
    )

    @model_validator(mode="after")
    def _check(self) -> PreprocessConfig:
        if self.height > self.short_side:
            raise ValueError(
                f"height ({self.height}) must not be above short_side ({self.short_side})"
            )
        return self

    @property
    def live_short_side(self) -> int:
        """Length of the shorter side, in pixels, of live frames after conversion to RGB.

        This is twice `short_side`. Converting and scaling in one step takes half as much time as
        converting at full size and resizing in the DALI graph.
        """
        return 2 * self.short_side


@dataclasses.dataclass(frozen=True)
class CropSpec:
    """The size, crop position and mirroring of the frames of one clip.

    Attributes:
        short_side: length of the shorter side after resizing, in pixels; 0: the configured length.
        crop_x, crop_y: position of the crop, from 0 (left, top) to 1 (right, bottom).
        mirror: whether left and right are swapped.
    """

    short_side: int
    crop_x: float = 0.5
    crop_y: float = 0.5
    mirror: bool = False


CENTRE = CropSpec(short_side=0)


@dataclasses.dataclass(frozen=True)
class EncodedClip:
    """A whole video file, and the positions of the clip's frames in it.

    Attributes:
        data: bytes of the file, uint8.
        places: positions of the clip's frames in presentation order, int32.
        correction: matrix `3 3` that multiplies RGB columns, because DALI always uses BT.601; None
            if the file uses BT.601 too.
        rows: number of rows of the decoded frames that are shown, from the top; None: all. It is
            needed if the file's data no longer names the rows to cut.
    """

    data: NDArray[np.uint8]
    places: NDArray[np.int32]
    correction: NDArray[np.float32] | None = None
    rows: int | None = None


# A clip or a single frame, uint8 `F H W 3`, in host memory or on the graph's device.
ClipFrames = NDArray[np.uint8] | Tensor


class Preprocessor:
    """Runs the DALI graph on batches of clips or single frames of any size.

    On a GPU, all work is put on the calling thread's current stream and the host does not wait for
    it. `DaliRunner` says how long the results can be used. Call it from one thread.

    Args:
        config: size of the network's input frames.
        max_batch: maximum number of clips in one call.
        device: `cpu` or `gpu`; with `gpu`, frames are copied to the GPU and results stay there.
        threads: number of CPU threads of the graph.
        gpu: index of the GPU; None: the current GPU of the calling thread.
        upload: copies frames to the GPU; default: through page-locked memory of PyTorch.

    Attributes:
        upload: what copies frames to the GPU; None on the CPU.

    Raises:
        ConfigError: DALI cannot run on this device.
        DeviceMemoryError: there is not enough memory; calls raise it too.
    """

    def __init__(
        self,
        config: PreprocessConfig,
        *,
        max_batch: int,
        device: Literal["cpu", "gpu"] = "cpu",
        threads: int = 1,
        gpu: int | None = None,
        upload: HostUpload | None = None,
    ) -> None:
        self.config = config
        self.max_batch = max_batch
        self._device = device
        if device == "gpu" and gpu is None:
            gpu = torch.cuda.current_device()
        self._gpu = gpu
        if device == "gpu" and upload is None:
            upload = HostUpload(torch.device(f"cuda:{gpu}"))
        self.upload = upload if device == "gpu" else None
        self._runner = DaliRunner(device, gpu=gpu, max_batch=max_batch, threads=threads)
        self._size = {"height": config.height, "width": config.width}
        self._runner.build("clip_graph", **self._size)

    def __call__(
        self, clips_FHWC: Sequence[ClipFrames], crops: Sequence[CropSpec] | None = None
    ) -> Tensor:
        """Preprocess a batch.

        Args:
            clips_FHWC: uint8 RGB `F H W 3`; F must be the same for all, H and W may differ. Arrays,
                or tensors on the graph's device; both may come in one call. What wrote the tensors
                must lie on the current stream, or before an event that the stream waits for. They
                may be dropped after the call, but not written to before the stream has done it.
            crops: one crop per clip; default: the centre of each clip.

        Returns:
            uint8 `B F H W C` on the graph's device. On the CPU the next call overwrites it: copy it
            to keep it. On a GPU it belongs to the current stream.

        Raises:
            ShapeError: the batch is empty or too large, a clip is not uint8 `F H W 3`, or a tensor
                is on another device.
        """
        crops = [CENTRE] * len(clips_FHWC) if crops is None else crops
        self._check(clips_FHWC, crops)
        sized = all(
            min(clip.shape[1:3]) == self.short_side(crop)
            for clip, crop in zip(clips_FHWC, crops, strict=True)
        )
        graph = "sized_clip_graph" if sized else "clip_graph"
        return self._run(graph, {"frames": self._on_device(clips_FHWC)}, crops)

    def decode(self, clips: Sequence[EncodedClip], crops: Sequence[CropSpec]) -> Tensor:
        """Decode a batch of encoded files in DALI and preprocess their frames.

        On the CPU, DALI can decode only VP8, VP9 and MJPEG.

        Raises:
            ShapeError: the batch is empty or too large.
            MediaError: DALI cannot decode one of the files; DALI does not report which one.
        """
        self._check_count(len(clips), len(crops))
        inputs: dict[str, Any] = {
            "encoded": [clip.data for clip in clips],
            "places": [clip.places for clip in clips],
        }
        cuts_rows = any(clip.rows is not None for clip in clips)
        if cuts_rows:
            inputs["rows"] = [np.array([clip.rows or _ALL_ROWS], np.int32) for clip in clips]
        try:
            clips_BTHWC = self._run("encoded_clip_graph", inputs, crops, cuts_rows=cuts_rows)
        except RuntimeError as error:
            raise MediaError(
                f"DALI cannot decode one of {len(clips)} videos: {reason_of(error)}"
            ) from None
        for clip_THWC, clip in zip(clips_BTHWC, clips, strict=True):
            if clip.correction is not None:
                correct_colours(clip_THWC, clip.correction)
        return clips_BTHWC

    def close(self) -> None:
        """Free page-locked memory; what was returned stays valid."""
        if self.upload is not None:
            self.upload.close()

    def short_side(self, crop: CropSpec) -> int:
        """Return the length of the shorter side after resizing, in pixels."""
        return crop.short_side or self.config.short_side

    def _run(
        self, graph: str, inputs: dict[str, Any], crops: Sequence[CropSpec], **arguments: Any
    ) -> Tensor:
        if graph != "sized_clip_graph":
            inputs["short_side"] = [np.float32(self.short_side(crop)) for crop in crops]
        inputs |= {
            "crop_x": [np.float32(crop.crop_x) for crop in crops],
            "crop_y": [np.float32(crop.crop_y) for crop in crops],
            "mirror": [np.int32(crop.mirror) for crop in crops],
        }
        return self._runner.run(graph, inputs, **self._size, **arguments)

    def _on_device(self, clips_FHWC: Sequence[ClipFrames]) -> Sequence[ClipFrames]:
        if self.upload is None:
            return [np.ascontiguousarray(clip) for clip in clips_FHWC]
        stream = torch.cuda.current_stream(self._gpu)
        in_host_memory = [clip for clip in clips_FHWC if not isinstance(clip, Tensor)]
        try:
            uploaded = iter(self.upload(in_host_memory) if in_host_memory else ())
        except RuntimeError as error:
            self._runner.raise_if_out_of_memory(error)
            raise
        found: list[Tensor] = []
        for clip in clips_FHWC:
            if isinstance(clip, Tensor):
                # It may be memory of another stream, which could give it away after this call.
                clip.record_stream(stream)
                found.append(clip.contiguous())
            else:
                found.append(next(uploaded))
        return found

    def _check(self, clips_FHWC: Sequence[ClipFrames], crops: Sequence[CropSpec]) -> None:
        self._check_count(len(clips_FHWC), len(crops))
        for clip in clips_FHWC:
            if clip.ndim != 4 or clip.shape[3] != 3 or 0 in clip.shape or not _is_uint8(clip):
                raise ShapeError(
                    f"clips must be uint8 F H W 3, got {clip.dtype} {tuple(clip.shape)}"
                )
            if len(clip) != len(clips_FHWC[0]):
                raise ShapeError(
                    "clips of one batch must have the same number of frames, got"
                    f" {len(clips_FHWC[0])} and {len(clip)}"
                )
            if isinstance(clip, Tensor) and clip.is_cuda != (self._device == "gpu"):
                raise ShapeError(
                    f"tensors must be on the graph's device ({self._device}), got one on"
                    f" {clip.device}"
                )

    def _check_count(self, clips: int, crops: int) -> None:
        if not 0 < clips <= self.max_batch or crops != clips:
            raise ShapeError(
                f"a batch takes 1 to {self.max_batch} clips with one crop each, got {clips} clips"
                f" and {crops} crops"
            )


def _is_uint8(clip: ClipFrames) -> bool:
    return clip.dtype == (torch.uint8 if isinstance(clip, Tensor) else np.uint8)
