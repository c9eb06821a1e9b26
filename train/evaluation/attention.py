"""Measures where a network looks: its maps beside the boxes of the person who acts.

Letters: S sub-clips, T frames, H and W space.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from model.activation import NetworkMaps, network_maps
from model.activation.maps import stretched
from model.media.preprocess import PreprocessConfig, Preprocessor, normalise_clips
from model.network import ActionNetwork
from model.spec import ModelSpec
from train.evaluation.channel_facts import ChannelFacts, channel_facts, mean_facts
from train.synthetic.attention_clips import AttentionClip
from train.synthetic.boxes import Box

__all__ = [
    "MAP_NAMES",
    "AttentionFigures",
    "AttentionResult",
    "ClipFigures",
    "MapsOfClips",
    "cidc_part",
    "map_figures",
    "measure_attention",
]

_Map = NDArray[np.float32]
_Mask = NDArray[np.bool_]

# The measured maps, in the order of the table.
MAP_NAMES = (
    "att(F)",
    "att(F_CIDC), the paper's formula",
    "mean |F_CIDC|",
    "class activation",
    "the same everywhere",
)


@dataclasses.dataclass(frozen=True)
class AttentionFigures:
    """Figures of one map over many clips, each from 0 to 1.

    Attributes:
        pointing: fraction of clips whose maximum is in the box of the person who acts; the box is
            enlarged by half a cell of the map on each side.
        energy: mean fraction of the map's sum that is in the box.
        above_other: fraction of clips in which the mean in the box is above the mean in the box of
            the distractor; None without a distractor.
        clips: number of clips.
    """

    pointing: float
    energy: float
    above_other: float | None
    clips: int


@dataclasses.dataclass(frozen=True)
class ClipFigures:
    """The figures of one map of one clip; see `AttentionFigures`."""

    pointing: float
    energy: float
    above_other: bool | None


@dataclasses.dataclass(frozen=True)
class AttentionResult:
    """The figures of every map, by the names in `MAP_NAMES`.

    Attributes:
        maps: the figures.
        channels: facts about the channels of the backbone's and of the CIDC network's map.
        correct: fraction of clips that were classified correctly.
        cidc_part: mean part of the CIDC network's map in the logit of the class that is found,
            above the mean logit; None for a network without CIDC.
    """

    maps: dict[str, AttentionFigures]
    channels: dict[str, ChannelFacts]
    correct: float
    cidc_part: float | None


def measure_attention(network: ActionNetwork, clips: Iterable[AttentionClip]) -> AttentionResult:
    """Measure the maps of a network on clips.

    The class activation is that of the class that the network finds, as in the picture of an event.
    """
    maps_of = MapsOfClips(network)
    rows: dict[str, list[ClipFigures]] = {}
    channels: dict[str, list[ChannelFacts]] = {}
    correct, parts = [], []
    framing = maps_of.spec.preprocess
    for clip in clips:
        found = maps_of.network_maps(clip)
        correct.append(maps_of.label(found) == clip.label)
        part = cidc_part(found, int(found.logits_K.argmax()))
        parts += [] if part is None else [part]
        for name, map_SHW in maps_of.named(found).items():
            rows.setdefault(name, []).append(map_figures(map_SHW, clip, framing))
        person = _mask(clip.actor, clip, framing, margin=0.0)
        for name, map_CTHW in (("F", found.last_CTHW), ("F_CIDC", found.cidc_CTHW)):
            facts = None if map_CTHW is None else channel_facts(map_CTHW, person)
            if facts is not None:
                channels.setdefault(name, []).append(facts)
    return AttentionResult(
        {name: _summary(figures) for name, figures in rows.items()},
        {name: mean_facts(facts) for name, facts in channels.items()},
        float(np.mean(correct)),
        round(float(np.mean(parts)), 4) if parts else None,
    )


def cidc_part(found: NetworkMaps, action: int) -> float | None:
    """Return the part of the CIDC network's map in an action's logit above the mean logit."""
    if found.cidc_CTHW is None:
        return None
    without = dataclasses.replace(found, cidc_CTHW=torch.zeros_like(found.cidc_CTHW))
    total = float(found.activation(action).sum())
    return 1 - float(without.activation(action).sum()) / total


def map_figures(map_SHW: _Map, clip: AttentionClip, framing: PreprocessConfig) -> ClipFigures:
    """Return the figures of one map of one clip.

    The maps of the sub-clips are added, enlarged to the network's input and compared with the union
    of the boxes of all frames: a class activation is a sum over the whole clip too.
    """
    size = (framing.width, framing.height)
    cell = max(framing.height / map_SHW.shape[1], framing.width / map_SHW.shape[2])
    whole_HW = cv2.resize(map_SHW.sum(axis=0), size, interpolation=cv2.INTER_LINEAR)
    actor = _mask(clip.actor, clip, framing, margin=0.0)
    near = _mask(clip.actor, clip, framing, margin=cell / 2)
    total = float(whole_HW.sum())
    # A map that is the same everywhere points at a random place.
    is_flat = bool(np.ptp(whole_HW) <= 1e-6 * max(total, 1e-12))
    pointing = float(near.mean() if is_flat else near.flat[int(whole_HW.argmax())])
    energy = float(whole_HW[actor].sum()) / total if total > 0 else 0.0
    if clip.other is None:
        return ClipFigures(pointing, energy, None)
    other = _mask([clip.other], clip, framing, margin=0.0) & ~actor
    if not other.any() or not actor.any():
        return ClipFigures(pointing, energy, None)
    is_above = bool(whole_HW[actor].mean() > whole_HW[other].mean())
    return ClipFigures(pointing, energy, is_above)


class MapsOfClips:
    """Computes the maps of clips.

    Args:
        network: a network from `load_model`, on the CPU.
    """

    def __init__(self, network: ActionNetwork) -> None:
        assert isinstance(network.spec, ModelSpec)
        self.spec = network.spec
        self._network = network
        self._preprocess = Preprocessor(self.spec.preprocess, max_batch=1)

    def network_maps(self, clip: AttentionClip) -> NetworkMaps:
        """Run the network on a clip."""
        clip_BCTHW = normalise_clips(self._preprocess([clip.frames_THWC]), self.spec.preprocess)
        return network_maps(self._network, clip_BCTHW)

    def label(self, found: NetworkMaps) -> str:
        """Return the class that the network finds."""
        return self.spec.labels[int(found.logits_K.argmax())]

    def named(self, found: NetworkMaps) -> dict[str, _Map]:
        """Return the maps by the names in `MAP_NAMES`, `S H W` from 0 to 1."""
        maps = [found.attention(), found.cidc_attention(), found.cidc_magnitude()]
        scaled = [None if map_SHW is None else stretched(map_SHW) for map_SHW in maps]
        scaled.append(found.evidence(int(found.logits_K.argmax())))
        scaled.append(np.ones_like(found.attention()))
        named = zip(MAP_NAMES, scaled, strict=True)
        return {name: map_SHW for name, map_SHW in named if map_SHW is not None}


def _mask(
    boxes: Iterable[Box], clip: AttentionClip, framing: PreprocessConfig, *, margin: float
) -> _Mask:
    """Return the pixels of the network's input that lie in one of the boxes."""
    height, width = clip.frames_THWC.shape[1:3]
    scale = framing.short_side / min(height, width)
    # The network sees the middle of the scaled frame.
    left = (width * scale - framing.width) / 2
    top = (height * scale - framing.height) / 2
    rows, columns = np.mgrid[: framing.height, : framing.width] + 0.5
    mask = np.zeros((framing.height, framing.width), np.bool_)
    for box in boxes:
        in_rows = (rows > box.top * scale - top - margin) & (
            rows < box.bottom * scale - top + margin
        )
        in_columns = (columns > box.left * scale - left - margin) & (
            columns < box.right * scale - left + margin
        )
        mask |= in_rows & in_columns
    return mask


def _summary(rows: list[ClipFigures]) -> AttentionFigures:
    above = [row.above_other for row in rows if row.above_other is not None]
    return AttentionFigures(
        pointing=round(float(np.mean([row.pointing for row in rows])), 4),
        energy=round(float(np.mean([row.energy for row in rows])), 4),
        above_other=round(float(np.mean(above)), 4) if above else None,
        clips=len(rows),
    )
