"""Preprocess frames: resize, crop and flip them in DALI, then normalise them.

Training, evaluation and the live pipeline all use this code.

Letters: B clips, T or F frames, H and W space, C channels (RGB).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
import torch.utils.dlpack
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor

from configs import MediaError, ShapeError, StrictModel

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
    """

    data: NDArray[np.uint8]
    places: NDArray[np.int32]
    correction: NDArray[np.float32] | None = None


class Preprocessor:
    """Runs the DALI graph on batches of clips or single frames of any size.

    Args:
        config: size of the network's input frames.
        max_batch: maximum number of clips in one call.
        device: `cpu` or `gpu`; with `gpu`, frames are copied to the GPU and results stay there.
        threads: number of CPU threads of the graph.
        gpu: index of the GPU; None: the current GPU of the calling thread.
    """

    def __init__(
        self,
        config: PreprocessConfig,
        *,
        max_batch: int,
        device: Literal["cpu", "gpu"] = "cpu",
        threads: int = 1,
        gpu: int | None = None,
    ) -> None:
        self.config = config
        self.max_batch = max_batch
        self._device = device
        self._threads = threads
        self._gpu = torch.cuda.current_device() if device == "gpu" and gpu is None else gpu
        self._pipelines = {"clip_graph": self._build("clip_graph")}

    def __call__(
        self, clips_FHWC: Sequence[NDArray[np.uint8]], crops: Sequence[CropSpec] | None = None
    ) -> Tensor:
        """Preprocess a batch.

        Args:
            clips_FHWC: uint8 RGB arrays `F H W 3`; F must be the same for all, H and W may differ.
            crops: one crop per clip; default: the centre of each clip.

        Returns:
            uint8 `B F H W C` on the graph's device. The next call overwrites it: copy it to keep
            it.

        Raises:
            ShapeError: the batch is empty or too large, or an array is not uint8 `F H W 3`.
        """
        crops = [CENTRE] * len(clips_FHWC) if crops is None else crops
        self._check(clips_FHWC, crops)
        sized = all(
            min(clip.shape[1:3]) == self.short_side(crop)
            for clip, crop in zip(clips_FHWC, crops, strict=True)
        )
        graph = "sized_clip_graph" if sized else "clip_graph"
        frames = [np.ascontiguousarray(clip) for clip in clips_FHWC]
        return self._run(graph, {"frames": frames}, crops)

    def decode(self, clips: Sequence[EncodedClip], crops: Sequence[CropSpec]) -> Tensor:
        """Decode a batch of encoded files in DALI and preprocess their frames.

        On the CPU, DALI can decode only VP8, VP9 and MJPEG.

        Raises:
            ShapeError: the batch is empty or too large.
            MediaError: DALI cannot decode one of the files; DALI does not report which one.
        """
        self._check_count(len(clips), len(crops))
        inputs = {
            "encoded": [clip.data for clip in clips],
            "places": [clip.places for clip in clips],
        }
        try:
            clips_BTHWC = self._run("encoded_clip_graph", inputs, crops)
        except RuntimeError as error:
            if "out of memory" in str(error).lower():
                raise
            del self._pipelines[
                "encoded_clip_graph"
            ]  # after an error, the graph cannot be used again
            raise MediaError(
                f"DALI cannot decode one of {len(clips)} videos: {str(error).splitlines()[0]}"
            ) from None
        for clip_THWC, clip in zip(clips_BTHWC, clips, strict=True):
            if clip.correction is not None:
                correction = torch.from_numpy(clip.correction).to(clip_THWC.device)
                corrected = clip_THWC.float() @ correction.T
                clip_THWC.copy_(corrected.round_().clamp_(0, 255))
        return clips_BTHWC

    def short_side(self, crop: CropSpec) -> int:
        """Return the length of the shorter side after resizing, in pixels."""
        return crop.short_side or self.config.short_side

    def _run(self, graph: str, inputs: dict[str, Any], crops: Sequence[CropSpec]) -> Tensor:
        if graph not in self._pipelines:
            self._pipelines[graph] = self._build(graph)
        pipeline = self._pipelines[graph]
        if graph != "sized_clip_graph":
            inputs["short_side"] = [np.float32(self.short_side(crop)) for crop in crops]
        inputs |= {
            "crop_x": [np.float32(crop.crop_x) for crop in crops],
            "crop_y": [np.float32(crop.crop_y) for crop in crops],
            "mirror": [np.int32(crop.mirror) for crop in crops],
        }
        for name, values in inputs.items():
            pipeline.feed_input(name, values)
        if self._device == "gpu":
            # DALI overwrites its last output. Wait until this stream has finished copying it.
            torch.cuda.current_stream(self._gpu).synchronize()
        (output,) = pipeline.run()
        frames: Tensor = torch.utils.dlpack.from_dlpack(output.as_tensor())
        return frames

    def _build(self, graph: str) -> Any:
        # DALI is imported here, so that the network and its kernels also run without it.
        from model.media import dali_graph

        pipeline = getattr(dali_graph, graph)(
            self._device,
            self.config.height,
            self.config.width,
            batch_size=self.max_batch,
            num_threads=self._threads,
            device_id=self._gpu if self._device == "gpu" else None,
            prefetch_queue_depth=1,
            exec_dynamic=False,
            exec_async=False,
            exec_pipelined=False,
        )
        pipeline.build()
        return pipeline

    def _check(self, clips_FHWC: Sequence[NDArray[np.uint8]], crops: Sequence[CropSpec]) -> None:
        self._check_count(len(clips_FHWC), len(crops))
        for clip in clips_FHWC:
            if clip.ndim != 4 or clip.shape[3] != 3 or clip.dtype != np.uint8 or 0 in clip.shape:
                raise ShapeError(f"clips must be uint8 F H W 3, got {clip.dtype} {clip.shape}")
            if len(clip) != len(clips_FHWC[0]):
                raise ShapeError(
                    "clips of one batch must have the same number of frames, got"
                    f" {len(clips_FHWC[0])} and {len(clip)}"
                )

    def _check_count(self, clips: int, crops: int) -> None:
        if not 0 < clips <= self.max_batch or crops != clips:
            raise ShapeError(
                f"a batch takes 1 to {self.max_batch} clips with one crop each, got {clips} clips"
                f" and {crops} crops"
            )


def normalise_clips(
    clips_BTHWC: Tensor, config: PreprocessConfig, *, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Normalise uint8 `B T H W C` to `B C T H W` in channels-last-3d memory.

    The order of pixels in memory does not change.

    Raises:
        ShapeError: the clips are not uint8 `B T H W 3`.
    """
    if clips_BTHWC.dim() != 5 or clips_BTHWC.shape[-1] != 3 or clips_BTHWC.dtype != torch.uint8:
        raise ShapeError(
            f"clips must be uint8 B T H W 3, got {clips_BTHWC.dtype} {tuple(clips_BTHWC.shape)}"
        )
    offset, scale = _statistics(config.mean_rgb, config.std_rgb, clips_BTHWC.device)
    return torch.addcmul(offset, clips_BTHWC.float(), scale).to(dtype).permute(0, 4, 1, 2, 3)


@functools.lru_cache(maxsize=32)
def _statistics(
    mean_rgb: tuple[float, ...], std_rgb: tuple[float, ...], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return offset and scale on the device; they stay there, because an upload waits for it."""
    with torch.inference_mode(False):
        scale = 1.0 / torch.tensor(std_rgb)
        offset = -torch.tensor(mean_rgb) * scale
        return offset.to(device), scale.to(device)
