"""The one preprocessing graph: resize, crop, flip in DALI, then normalise. Training, evaluation and live use it.

Letters: B clips, T or F frames, H and W space, C channels (RGB).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import torch
import torch.utils.dlpack
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor

from configs import ShapeError, StrictModel

__all__ = ["CENTRE", "PreprocessConfig", "Preprocessor", "View", "normalise_clips"]

Positive = Annotated[float, Field(gt=0)]
# Channel statistics of ImageNet, in grey levels: what most public backbones expect.
MEAN_RGB = (123.675, 116.28, 103.53)
STD_RGB = (58.395, 57.12, 57.375)


class PreprocessConfig(StrictModel):
    """The picture the network sees."""

    short_side: int = Field(256, ge=32, le=2048, description="the shorter side after resizing, pixels")
    height: int = Field(256, ge=32, le=2048, description="height of the crop, pixels")
    width: int = Field(256, ge=32, le=2048, description="width of the crop, pixels; narrower pictures get black borders")
    mean_rgb: tuple[float, float, float] = Field(MEAN_RGB, description="channel means to subtract, grey levels")
    std_rgb: tuple[Positive, Positive, Positive] = Field(STD_RGB, description="channel deviations to divide by, grey levels")

    @model_validator(mode="after")
    def _check(self) -> PreprocessConfig:
        if self.height > self.short_side:
            raise ValueError(f"height ({self.height}) must not be above short_side ({self.short_side})")
        return self


@dataclasses.dataclass(frozen=True)
class View:
    """Which part of a picture to take: shorter side in pixels, crop place from 0 (left, top) to 1, mirrored or not."""

    short_side: int
    crop_x: float = 0.5
    crop_y: float = 0.5
    mirror: bool = False


CENTRE = View(short_side=0)  # short_side 0 stands for the configured one


class Preprocessor:
    """Runs the graph on batches of clips or single frames of any sizes.

    Args:
        config: the picture the network sees.
        max_batch: most items in one call.
        device: `cpu` or `gpu`; on the GPU the frames are copied up once and everything stays there.
        threads: CPU threads of the graph.
    """

    def __init__(self, config: PreprocessConfig, *, max_batch: int, device: Literal["cpu", "gpu"] = "cpu", threads: int = 1) -> None:
        from model.dali_graph import clip_graph  # DALI is loaded by those who decode; the network and its kernels run without

        self.config, self.max_batch = config, max_batch
        self._pipeline = clip_graph(
            device, config.height, config.width,
            batch_size=max_batch, num_threads=threads, device_id=0 if device == "gpu" else None,
            prefetch_queue_depth=1, exec_dynamic=False, exec_async=False, exec_pipelined=False,
        )  # fmt: skip
        self._pipeline.build()

    def __call__(self, clips_FHWC: Sequence[NDArray[np.uint8]], views: Sequence[View] | None = None) -> Tensor:
        """Preprocess a batch.

        Args:
            clips_FHWC: uint8 RGB arrays `F H W 3`; F must be the same for all, H and W may differ.
            views: one per clip; by default the centre.

        Returns:
            uint8 `B F H W C` on the graph's device, valid until the next call: copy it to keep it.

        Raises:
            ShapeError: an empty or too large batch, or an array that is not `F H W 3` uint8.
        """
        views = [CENTRE] * len(clips_FHWC) if views is None else views
        self._check(clips_FHWC, views)
        feed = self._pipeline.feed_input
        feed("frames", [np.ascontiguousarray(clip) for clip in clips_FHWC])
        feed("short_side", [np.float32(view.short_side or self.config.short_side) for view in views])
        feed("crop_x", [np.float32(view.crop_x) for view in views])
        feed("crop_y", [np.float32(view.crop_y) for view in views])
        feed("mirror", [np.int32(view.mirror) for view in views])
        (output,) = self._pipeline.run()
        pictures: Tensor = torch.utils.dlpack.from_dlpack(output.as_tensor())
        return pictures

    def _check(self, clips_FHWC: Sequence[NDArray[np.uint8]], views: Sequence[View]) -> None:
        if not 0 < len(clips_FHWC) <= self.max_batch or len(views) != len(clips_FHWC):
            raise ShapeError(f"a batch takes 1 to {self.max_batch} clips with one view each, got {len(clips_FHWC)} and {len(views)}")
        for clip in clips_FHWC:
            if clip.ndim != 4 or clip.shape[3] != 3 or clip.dtype != np.uint8 or 0 in clip.shape:
                raise ShapeError(f"clips must be uint8 F H W 3, got {clip.dtype} {clip.shape}")
            if len(clip) != len(clips_FHWC[0]):
                raise ShapeError(f"clips of one batch must have the same number of frames, got {len(clips_FHWC[0])} and {len(clip)}")


def normalise_clips(clips_BTHWC: Tensor, config: PreprocessConfig, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """uint8 `B T H W C` to normalised `B C T H W`, laid out channels-last-3d without moving a byte."""
    if clips_BTHWC.dim() != 5 or clips_BTHWC.shape[-1] != 3 or clips_BTHWC.dtype != torch.uint8:
        raise ShapeError(f"clips must be uint8 B T H W 3, got {clips_BTHWC.dtype} {tuple(clips_BTHWC.shape)}")
    mean = torch.tensor(config.mean_rgb, device=clips_BTHWC.device)
    scale = 1.0 / torch.tensor(config.std_rgb, device=clips_BTHWC.device)
    return torch.addcmul(-mean * scale, clips_BTHWC.float(), scale).to(dtype).permute(0, 4, 1, 2, 3)
