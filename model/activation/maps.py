"""Activation maps: `att(F)` of the backbone's and of the CIDC network's map, and class activation.

`att(F)` is the paper's attention map; figures 1 and 4 of the paper show examples. It shows where
maps are large, for whatever reason. Class activation shows which places speak for one action.

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
from model.activation.class_activation import (
    class_activation,
    evidence,
    has_class_activation,
    rows_of_sub_clips,
)
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
    "NetworkMaps",
    "analyse_video",
    "network_maps",
    "newest_map",
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


@dataclasses.dataclass(frozen=True)
class NetworkMaps:
    """The last maps that a network computed for one clip.

    Attributes:
        logits_K: the class logits.
        last_CTHW: the backbone's last map.
        cidc_CTHW: the CIDC network's map; None for a network without CIDC.
    """

    network: ActionNetwork
    logits_K: Tensor
    last_CTHW: Tensor
    cidc_CTHW: Tensor | None

    def attention(self) -> NDArray[np.float32]:
        """Return the backbone's `att(F)`, `S H W`."""
        return _array(attention_map(self.last_CTHW[None]))

    def cidc_attention(self) -> NDArray[np.float32] | None:
        """Return the CIDC network's `att(F)`, `S H W`; None for a network without CIDC."""
        return (
            None
            if self.cidc_CTHW is None
            else self._by_sub_clip(attention_map(self.cidc_CTHW[None]))
        )

    def cidc_magnitude(self) -> NDArray[np.float32] | None:
        """Return the mean of the CIDC map's absolute values, `S H W`; None without CIDC.

        Where no ReLU follows the map (`tail` is false), its values have both signs. Then their
        mean, and with it `att(F)`, can be lowest where the map is strongest.
        """
        if self.cidc_CTHW is None:
            return None
        return self._by_sub_clip(self.cidc_CTHW.abs().mean(dim=0, keepdim=True)[None])

    def activation(self, action: int) -> NDArray[np.float32]:
        """Return the class activation of an action, `S H W`; see `class_activation`."""
        return class_activation(self.network, self.last_CTHW, self.cidc_CTHW, action)

    def evidence(self, action: int) -> NDArray[np.float32] | None:
        """Return the class activation of an action, `S H W` from 0 to 1; None if it is not exact.

        It is exact unless the network has an LSTM or self-attention head.
        """
        if not has_class_activation(self.network):
            return None
        return evidence(self.activation(action))

    def _by_sub_clip(self, map_11THW: Tensor) -> NDArray[np.float32]:
        assert self.network.cidc is not None
        rows_ST = rows_of_sub_clips(self.network.cidc.config.direction, self.last_CTHW.shape[1])
        combined: NDArray[np.float32] = np.einsum("st,thw->shw", rows_ST, _array(map_11THW))
        return combined


@torch.no_grad()
def network_maps(network: ActionNetwork, clip_BCTHW: Tensor) -> NetworkMaps:
    """Run the network on one normalised clip and return its maps."""
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
    cidc = caught.get("cidc")
    return NetworkMaps(
        network, logits_BK[0], caught["backbone"][0], None if cidc is None else cidc[0]
    )


def newest_map(network: ActionNetwork, clip_BCTHW: Tensor, action: int) -> NDArray[np.float32]:
    """Return which places of the last sub-clip of one normalised clip speak for an action.

    The result is an `H W` map from 0 to 1, where 1 is the maximum of the whole clip. It is the
    class activation, or the backbone's `att(F)` for a network whose head does not average.
    """
    maps = network_maps(network, clip_BCTHW)
    found = maps.evidence(action)
    newest: NDArray[np.float32] = (stretched(maps.attention()) if found is None else found)[-1]
    return newest


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
        found = network_maps(self._network, clip_BCTHW)
        probabilities_K = probabilities_of(found.logits_K[None], spec.temperature)[0]
        best = int(probabilities_K.argmax())
        return ClipMaps(
            start_seconds=clip[0].pts_seconds,
            frames_THWC=self._shown(clips_1FHWC)[0].numpy().copy(),
            maps=_named_maps(found, spec, best),
            label=spec.labels[best],
            probability=float(probabilities_K[best]),
        )


def _named_maps(found: NetworkMaps, spec: ModelSpec, best: int) -> dict[str, NDArray[np.float32]]:
    maps = {f"without CIDC ({spec.model.backbone}): att(F)": found.attention()}
    cidc_SHW = found.cidc_magnitude()
    if cidc_SHW is not None:
        maps["with CIDC: mean |F_CIDC|"] = cidc_SHW
    evidence_SHW = found.evidence(best)
    if evidence_SHW is not None:
        maps[f"what speaks for {spec.labels[best]}"] = evidence_SHW
    return maps


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
