"""Clip plans: a plan lists the clips of an epoch or of an evaluation.

All random choices are made here, before any video is decoded.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from model.media.preprocess import CropSpec
from train.config import DataConfig
from train.data.manifest import ManifestEntry

__all__ = ["EvaluationViews", "PlannedClip", "TrainingClipPlan"]


@dataclasses.dataclass(frozen=True)
class PlannedClip:
    """A clip that will be read and preprocessed.

    `start` is the clip's position in the video, from 0 (first possible clip) to 1 (last possible
    clip). `view` is the size and crop of the frames. `label` is the index of the class. At `speed`
    2 the clip shows twice as much of the video, in as many frames.
    """

    entry: ManifestEntry
    start: float
    view: CropSpec
    label: int
    speed: float = 1.0


class TrainingClipPlan:
    """Draws the random clips of each training epoch (paper, section 3.3).

    It draws the order of the videos, and each clip's start, size, crop, mirroring and
    speed.

    Args:
        entries: the training videos; an epoch has one clip of each.
        data: ranges of random sizes and speeds, and labels that mirroring changes.
        seed: seed of the random choices; the same seed and epoch give the same clips.
    """

    def __init__(self, entries: Sequence[ManifestEntry], data: DataConfig, seed: int) -> None:
        self._entries = entries
        self._data = data
        self._seed = seed
        self._index = {label: index for index, label in enumerate(data.labels)}

    def __len__(self) -> int:
        """Return the number of clips in an epoch."""
        return len(self._entries)

    def epoch(self, epoch: int) -> list[PlannedClip]:
        """Return the clips of one epoch, in order."""
        rng = np.random.default_rng([self._seed, epoch])
        order = rng.permutation(len(self._entries))
        return [self._clip(self._entries[index], rng) for index in order]

    def _clip(self, entry: ManifestEntry, rng: np.random.Generator) -> PlannedClip:
        data = self._data
        start, crop_x, crop_y = (float(value) for value in rng.random(3))
        short_side = int(rng.integers(data.short_side_min, data.short_side_max + 1))
        mirror = bool(rng.random() < 0.5) and data.flip and entry.label not in data.no_flip_labels
        label = data.flip_labels.get(entry.label, entry.label) if mirror else entry.label
        crop = CropSpec(short_side, crop_x, crop_y, mirror)
        return PlannedClip(entry, start, crop, self._index[label], self._speed(rng))

    def _speed(self, rng: np.random.Generator) -> float:
        """Draw a speed; slower and faster are equally likely. At a fixed speed, draw nothing."""
        low, high = self._data.speed_min, self._data.speed_max
        if low == high:
            return low
        return math.exp(rng.uniform(math.log(low), math.log(high)))


@dataclasses.dataclass(frozen=True)
class EvaluationViews:
    """The views of each video in an evaluation: `clips` x `crops`, evenly spaced.

    The paper uses 10 x 3.
    """

    clips: int = 1
    crops: int = 1

    def clip_plan(
        self, entries: Sequence[ManifestEntry], labels: Sequence[str]
    ) -> list[PlannedClip]:
        """Return all views of all entries; the views of one entry follow each other."""
        index = {label: position for position, label in enumerate(labels)}
        return [
            PlannedClip(entry, start, CropSpec(0, place, place), index[entry.label])
            for entry in entries
            for start in _spread(self.clips)
            for place in _spread(self.crops)
        ]


def _spread(count: int) -> list[float]:
    """Return `count` evenly spaced numbers from 0 to 1; a single number is 0.5."""
    return [0.5] if count == 1 else [index / (count - 1) for index in range(count)]
