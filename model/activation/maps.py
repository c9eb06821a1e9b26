"""Activation maps: `att(F)` of the backbone's last map and of the CIDC network's map.

`att(F)` is the paper's attention map; figures 1 and 4 of the paper show examples.

Letters: B clips, S sub-clips, T time, H and W space, C channels (RGB), K classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from configs import MediaError
from model.calibration import probabilities_of
from model.cidc_network import attention_map
from model.media.clip_cutter import ClipCutter
from model.media.container import naming_file
from model.media.conversion import RGBFrame
from model.media.preprocess import PreprocessConfig, Preprocessor, normalise_clips
from model.media.video import GridFrame, grid_frames, no_frame
from model.network import ActionNetwork
from model.spec import ModelSpec

__all__ = [
    "BestClip",
    "ClipMaps",
    "analyse_video",
    "newest_map",
    "rows_of_sub_clips",
    "stretched",
]

_SHOWN_HEIGHT = 240  # pixels; approximate height of the frames that are drawn


@dataclasses.dataclass(frozen=True)
class ClipMaps:
    """One clip of a video and its maps.

    Attributes:
        start_seconds: presentation time at which the clip starts.
        frames_THWC: the network's input frames in RGB, enlarged for viewing.
        maps: for the name of each map, its values `S H W`, one map per sub-clip.
        label, probability: the most probable action of the clip, and its probability.
    """

    start_seconds: float
    frames_THWC: NDArray[np.uint8]
    maps: dict[str, NDArray[np.float32]]
    label: str
    probability: float


def analyse_video(
    network: ActionNetwork, path: str | Path, *, start_seconds: float | None = None
) -> Iterator[ClipMaps]:
    """Yield the maps of every clip of a video, in order.

    Frames after the last full clip are ignored. If the video is shorter than one clip, its last
    frame is repeated until the clip is full.

    Args:
        network: a network from `load_model`, or its folded form in float32; its device computes.
        path: path of the video.
        start_seconds: start of the only clip to analyse; None for all clips.

    Raises:
        MediaError: no frame can be decoded; the message names the file.
    """
    spec = cast("ModelSpec", network.spec)
    analyse = _ClipAnalyser(network, spec)
    cutter: ClipCutter[GridFrame] = ClipCutter(spec.model.frames, stride=spec.model.frames)
    count = 0
    for frame in _grid_frames_of(path, spec.fps, start_seconds):
        if frame.restarted:
            cutter.restart()
        clip = cutter.push(frame)
        if clip is not None:
            yield analyse(clip)
            count += 1
            if start_seconds is not None:
                return
    if count == 0:
        remainder = cutter.finish()
        if remainder is None:
            raise MediaError(f"{path}: {no_frame(start_seconds, None)}")
        yield analyse(remainder)


def _grid_frames_of(
    path: str | Path, fps: float, start_seconds: float | None
) -> Iterator[GridFrame]:
    with naming_file(path):
        yield from grid_frames(path, fps, start_seconds=start_seconds)


class BestClip:
    """An iterator over clips that remembers the best clip.

    The best clip has the most probable action. A background clip is best only if every clip is
    background.

    Attributes:
        count: number of clips iterated over so far.
    """

    def __init__(self, clips: Iterable[ClipMaps], background: str | None) -> None:
        self._clips = iter(clips)
        self._background = background
        self._best: ClipMaps | None = None
        self.count = 0

    def __iter__(self) -> Iterator[ClipMaps]:
        for clip in self._clips:
            self.count += 1
            if self._best is None or self._rank(clip) > self._rank(self._best):
                self._best = clip
            yield clip

    def finish(self) -> ClipMaps:
        """Iterate over the remaining clips; return the best of all clips."""
        for _ in self:
            pass
        assert self._best is not None
        return self._best

    def _rank(self, clip: ClipMaps) -> tuple[bool, float]:
        return clip.label != self._background, clip.probability


@torch.no_grad()
def newest_map(network: ActionNetwork, clip_BCTHW: Tensor) -> NDArray[np.float32]:
    """Return the backbone's `att(F)` for the last sub-clip of one normalised clip.

    The result is an `H W` map, scaled so that the clip's minimum is 0 and its maximum is 1. The
    CIDC network's map is not used: its channels cancel each other, and their mean was low where
    people were in the frame.
    """
    newest: NDArray[np.float32] = stretched(_maps(network, clip_BCTHW)[1])[-1]
    return newest


def rows_of_sub_clips(direction: str, time: int) -> NDArray[np.float32]:
    """Return weights `S T` that combine the rows of a CIDC map into sub-clips; each row sums to 1.

    A `bi` map has its forward rows first and its backward rows after them. For each sub-clip, half
    of the weight is on the forward rows that use the frames up to the sub-clip's end. The other
    half is on the backward rows that use the frames from the sub-clip's start.
    """
    if direction != "bi":
        return np.eye(time, dtype=np.float32)
    half = time // 2
    weights = np.zeros((time, time), dtype=np.float32)
    for sub_clip in range(time):
        place = sub_clip * (half - 1) / max(time - 1, 1)
        for first, at in ((0, place), (half, half - 1 - place)):
            low = min(int(at), half - 1)
            high = min(low + 1, half - 1)
            weights[sub_clip, first + low] += 0.5 * (1 - (at - low))
            weights[sub_clip, first + high] += 0.5 * (at - low)
    return weights


def stretched(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale a clip's map to the range 0 to 1, so that strong and weak maps can be compared."""
    span = float(values.max() - values.min())
    return (values - values.min()) / span if span > 0 else np.zeros_like(values)


class _ClipAnalyser:
    def __init__(self, network: ActionNetwork, spec: ModelSpec) -> None:
        self._network = network
        self._spec = spec
        device = next(network.parameters()).device
        self._seen = Preprocessor(
            spec.preprocess,
            max_batch=1,
            device="gpu" if device.type == "cuda" else "cpu",
            gpu=device.index,
        )
        self._shown = Preprocessor(_enlarged(spec.preprocess), max_batch=1)

    @torch.no_grad()
    def __call__(self, clip: list[GridFrame]) -> ClipMaps:
        spec = self._spec
        frames: list[RGBFrame] = [item.frame for item in clip]
        clips_1FHWC = [np.stack(frames)]
        clip_BCTHW = normalise_clips(self._seen(clips_1FHWC), spec.preprocess)
        logits_BK, backbone_SHW, cidc_SHW = _maps(self._network, clip_BCTHW)
        probabilities_K = probabilities_of(logits_BK, spec.temperature)[0]
        best = int(probabilities_K.argmax())
        maps = {f"without CIDC ({spec.model.backbone}): att(F)": backbone_SHW}
        if cidc_SHW is not None:
            maps["with CIDC: att(F_CIDC)"] = cidc_SHW
        return ClipMaps(
            start_seconds=clip[0].pts_seconds,
            frames_THWC=self._shown(clips_1FHWC)[0].numpy().copy(),
            maps=maps,
            label=spec.labels[best],
            probability=float(probabilities_K[best]),
        )


def _maps(
    network: ActionNetwork, clip_BCTHW: Tensor
) -> tuple[Tensor, NDArray[np.float32], NDArray[np.float32] | None]:
    """Compute logits, `att(F)` and `att(F_CIDC)` of one normalised clip.

    Both maps are `S H W`; `att(F_CIDC)` is None for a network without CIDC.
    """
    caught: dict[str, Tensor] = {}
    hooks = [
        network.backbone.register_forward_hook(
            lambda _m, _i, maps: caught.update(backbone=maps[-1])
        )
    ]
    if network.cidc is not None:
        hooks.append(network.cidc.register_forward_hook(lambda _m, _i, y: caught.update(cidc=y)))
    try:
        logits_BK = network(clip_BCTHW)
    finally:
        for hook in hooks:
            hook.remove()
    backbone_SHW = _array(attention_map(caught["backbone"]))
    if network.cidc is None:
        return logits_BK, backbone_SHW, None
    rows_ST = rows_of_sub_clips(network.cidc.config.direction, len(backbone_SHW))
    cidc_SHW = np.einsum("st,thw->shw", rows_ST, _array(attention_map(caught["cidc"])))
    return logits_BK, backbone_SHW, cidc_SHW


def _array(map_BCTHW: Tensor) -> NDArray[np.float32]:
    return cast("NDArray[np.float32]", map_BCTHW[0, 0].float().cpu().numpy())


def _enlarged(config: PreprocessConfig) -> PreprocessConfig:
    """Return a configuration with the same crop, enlarged for viewing."""
    times = max(1, round(_SHOWN_HEIGHT / config.height))
    return config.model_copy(
        update={
            "short_side": times * config.short_side,
            "height": times * config.height,
            "width": times * config.width,
        }
    )
