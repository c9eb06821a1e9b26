"""Activation maps: `att(F)` of the backbone's last map and of the CIDC network's map.

The paper shows them in figures 1 and 4.

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
from model.cidc_network import attention_map
from model.media.clip_cutter import ClipCutter
from model.media.conversion import RGBFrame
from model.media.preprocess import PreprocessConfig, Preprocessor, normalise_clips
from model.media.video import GridFrame, grid_frames
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

_SHOWN_HEIGHT = 240  # about this high are frames that people look at, in pixels


@dataclasses.dataclass(frozen=True)
class ClipMaps:
    """One clip of a video and its maps.

    Attributes:
        start_seconds: where the clip starts, in presentation time.
        frames_THWC: what the network saw, enlarged to look at; RGB.
        maps: name of a map to `att(F)`, `S H W`: one for each sub-clip.
        label, probability: what the network recognised.
    """

    start_seconds: float
    frames_THWC: NDArray[np.uint8]
    maps: dict[str, NDArray[np.float32]]
    label: str
    probability: float


def analyse_video(
    network: ActionNetwork, path: str | Path, *, start_seconds: float | None = None
) -> Iterator[ClipMaps]:
    """Compute the maps of all clips of a video, one after the other.

    Frames left over at the end are ignored, unless there is no full clip: then the last frame is
    repeated to make one.

    Args:
        network: from `load_model`; it may be folded into float32.
        path: the video.
        start_seconds: analyse only the clip that starts there.

    Raises:
        MediaError: no frame decodes; the message names the file.
    """
    spec = cast("ModelSpec", network.spec)
    analyse = _ClipAnalyser(network, spec)
    cutter: ClipCutter[GridFrame] = ClipCutter(spec.model.frames, stride=spec.model.frames)
    count = 0
    try:
        for frame in grid_frames(path, spec.fps, start_seconds=start_seconds):
            if frame.restarted:
                cutter.restart()
            clip = cutter.push(frame)
            if clip is not None:
                yield analyse(clip)
                count += 1
                if start_seconds is not None:
                    return
    except MediaError as error:
        raise MediaError(f"{path}: {error}") from None
    if count == 0:
        remainder = cutter.finish()
        if remainder is None:
            raise MediaError(f"{path}: no frame from {start_seconds or 0:g} s on")
        yield analyse(remainder)


class BestClip:
    """Passes clips on and keeps the best: the most probable action, background only if alone.

    Attributes:
        count: clips passed on so far.
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
        """Read the clips that are left; return the best of all."""
        for _ in self:
            pass
        assert self._best is not None
        return self._best

    def _rank(self, clip: ClipMaps) -> tuple[bool, float]:
        return clip.label != self._background, clip.probability


@torch.no_grad()
def newest_map(network: ActionNetwork, clip_BCTHW: Tensor) -> NDArray[np.float32]:
    """`att(F)` of the backbone at the end of one normalised clip: `H W`, from 0 to 1 over the clip.

    The CIDC network's map is not used: its channels cancel each other, and their mean was observed
    to be low where people are.
    """
    newest: NDArray[np.float32] = stretched(_maps(network, clip_BCTHW)[1])[-1]
    return newest


def rows_of_sub_clips(direction: str, time: int) -> NDArray[np.float32]:
    """Weights `S T` that combine the rows of a CIDC map into sub-clips; each row sums to 1.

    A `bi` map holds forward rows, then backward rows. Half of a sub-clip's weight is on the forward
    rows that have seen the clip up to the sub-clip's end, half on the backward rows that have seen
    it from the sub-clip's beginning on.
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
    """A map stretched to 0 to 1 over its clip, so that strong and weak maps can be compared."""
    span = float(values.max() - values.min())
    return (values - values.min()) / span if span > 0 else np.zeros_like(values)


class _ClipAnalyser:
    def __init__(self, network: ActionNetwork, spec: ModelSpec) -> None:
        self._network = network
        self._spec = spec
        self._seen = Preprocessor(spec.preprocess, max_batch=1)
        self._shown = Preprocessor(_enlarged(spec.preprocess), max_batch=1)

    @torch.no_grad()
    def __call__(self, clip: list[GridFrame]) -> ClipMaps:
        spec = self._spec
        frames: list[RGBFrame] = [item.frame for item in clip]
        clips_1FHWC = [np.stack(frames)]
        clip_BCTHW = normalise_clips(self._seen(clips_1FHWC), spec.preprocess)
        logits_BK, backbone_SHW, cidc_SHW = _maps(self._network, clip_BCTHW)
        probabilities_K = torch.softmax(logits_BK, dim=1)[0]
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
    """Logits, `att(F)` and, with a CIDC network, `att(F_CIDC)` of one normalised clip.

    Both maps are `S H W`.
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
    """The same crop at a size to look at."""
    times = max(1, round(_SHOWN_HEIGHT / config.height))
    return config.model_copy(
        update={
            "short_side": times * config.short_side,
            "height": times * config.height,
            "width": times * config.width,
        }
    )
