"""The one preprocessing graph: resize, crop, flip in DALI, then normalise. Training, evaluation and
live use it.

Letters: B clips, T or F frames, H and W space, C channels (RGB).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
import torch.utils.dlpack
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor

from configs import MediaError, ShapeError, StrictModel

__all__ = ["CENTRE", "EncodedClip", "PreprocessConfig", "Preprocessor", "View", "normalise_clips"]

Positive = Annotated[float, Field(gt=0)]
# Channel statistics of ImageNet, in grey levels: what most public backbones expect.
MEAN_RGB = (123.675, 116.28, 103.53)
STD_RGB = (58.395, 57.12, 57.375)


class PreprocessConfig(StrictModel):
    """The picture the network sees."""

    short_side: int = Field(
        256, ge=32, le=2048, description="the shorter side after resizing, pixels"
    )
    height: int = Field(256, ge=32, le=2048, description="height of the crop, pixels")
    width: int = Field(
        256,
        ge=32,
        le=2048,
        description="width of the crop, pixels; narrower pictures get black borders",
    )
    mean_rgb: tuple[float, float, float] = Field(
        MEAN_RGB, description="channel means to subtract, grey levels"
    )
    std_rgb: tuple[Positive, Positive, Positive] = Field(
        STD_RGB, description="channel deviations to divide by, grey levels"
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
        """To which shorter side live pictures may be scaled down while they are converted to RGB:
        twice what the network sees.

        Converting and scaling in one step costs half of converting alone and resizing in the graph.
        """
        return 2 * self.short_side


@dataclasses.dataclass(frozen=True)
class View:
    """Which part of a picture to take: shorter side in pixels, crop place from 0 (left, top) to
    1, mirrored or not.
    """

    short_side: int
    crop_x: float = 0.5
    crop_y: float = 0.5
    mirror: bool = False


CENTRE = View(short_side=0)  # short_side 0 stands for the configured one


@dataclasses.dataclass(frozen=True)
class EncodedClip:
    """A whole video file as `data` (uint8), and which of its frames make the clip: `places`
    (int32) in presentation order.
    """

    data: NDArray[np.uint8]
    places: NDArray[np.int32]


class Preprocessor:
    """Runs the graph on batches of clips or single frames of any sizes.

    Args:
        config: the picture the network sees.
        max_batch: most items in one call.
        device: `cpu` or `gpu`; on the GPU the frames are copied up once and everything stays there.
        threads: CPU threads of the graph.
        gpu: which GPU, by its number; None for the calling thread's current one.
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
        self._pipelines = {"clip_graph": self._built("clip_graph")}

    def __call__(
        self, clips_FHWC: Sequence[NDArray[np.uint8]], views: Sequence[View] | None = None
    ) -> Tensor:
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
        sized = all(
            min(clip.shape[1:3]) == self.short_side(view)
            for clip, view in zip(clips_FHWC, views, strict=True)
        )
        graph = "sized_clip_graph" if sized else "clip_graph"
        return self._run(
            graph, {"frames": [np.ascontiguousarray(clip) for clip in clips_FHWC]}, views
        )

    def decode(self, clips: Sequence[EncodedClip], views: Sequence[View]) -> Tensor:
        """As a call, from encoded files: DALI decodes them too (on the CPU only VP8, VP9 and
        MJPEG).

        Raises:
            ShapeError: an empty or too large batch.
            MediaError: DALI cannot decode one of them; it does not say which.
        """
        self._check_count(len(clips), len(views))
        inputs = {
            "encoded": [clip.data for clip in clips],
            "places": [clip.places for clip in clips],
        }
        try:
            return self._run("encoded_clip_graph", inputs, views)
        except RuntimeError as error:
            if "out of memory" in str(error).lower():
                raise
            del self._pipelines["encoded_clip_graph"]  # it is not usable after an error
            raise MediaError(
                f"DALI cannot decode one of {len(clips)} videos: {str(error).splitlines()[0]}"
            ) from None

    def _run(self, graph: str, inputs: dict[str, Any], views: Sequence[View]) -> Tensor:
        if graph not in self._pipelines:
            self._pipelines[graph] = self._built(graph)
        pipeline = self._pipelines[graph]
        if graph != "sized_clip_graph":
            inputs["short_side"] = [np.float32(self.short_side(view)) for view in views]
        inputs |= {
            "crop_x": [np.float32(view.crop_x) for view in views],
            "crop_y": [np.float32(view.crop_y) for view in views],
            "mirror": [np.int32(view.mirror) for view in views],
        }
        for name, values in inputs.items():
            pipeline.feed_input(name, values)
        if self._device == "gpu":
            # DALI reuses the memory of the last output: whoever copies it on this stream must have
            # done so.
            torch.cuda.current_stream(self._gpu).synchronize()
        (output,) = pipeline.run()
        pictures: Tensor = torch.utils.dlpack.from_dlpack(output.as_tensor())
        return pictures

    def short_side(self, view: View) -> int:
        """The shorter side after resizing, pixels."""
        return view.short_side or self.config.short_side

    def _built(self, graph: str) -> Any:
        # DALI is loaded by those who decode; the network and its kernels run without
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

    def _check(self, clips_FHWC: Sequence[NDArray[np.uint8]], views: Sequence[View]) -> None:
        self._check_count(len(clips_FHWC), len(views))
        for clip in clips_FHWC:
            if clip.ndim != 4 or clip.shape[3] != 3 or clip.dtype != np.uint8 or 0 in clip.shape:
                raise ShapeError(f"clips must be uint8 F H W 3, got {clip.dtype} {clip.shape}")
            if len(clip) != len(clips_FHWC[0]):
                raise ShapeError(
                    "clips of one batch must have the same number of frames, got"
                    f" {len(clips_FHWC[0])} and {len(clip)}"
                )

    def _check_count(self, clips: int, views: int) -> None:
        if not 0 < clips <= self.max_batch or views != clips:
            raise ShapeError(
                f"a batch takes 1 to {self.max_batch} clips with one view each, got {clips} and"
                f" {views}"
            )


def normalise_clips(
    clips_BTHWC: Tensor, config: PreprocessConfig, *, dtype: torch.dtype = torch.float32
) -> Tensor:
    """uint8 `B T H W C` to normalised `B C T H W`, laid out channels-last-3d without moving a
    byte.
    """
    if clips_BTHWC.dim() != 5 or clips_BTHWC.shape[-1] != 3 or clips_BTHWC.dtype != torch.uint8:
        raise ShapeError(
            f"clips must be uint8 B T H W 3, got {clips_BTHWC.dtype} {tuple(clips_BTHWC.shape)}"
        )
    mean = torch.tensor(config.mean_rgb, device=clips_BTHWC.device)
    scale = 1.0 / torch.tensor(config.std_rgb, device=clips_BTHWC.device)
    return torch.addcmul(-mean * scale, clips_BTHWC.float(), scale).to(dtype).permute(0, 4, 1, 2, 3)
