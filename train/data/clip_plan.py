"""Clip plans: which clips an epoch or an evaluation consists of.

Every random choice is drawn here, before anything is decoded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from model.media.preprocess import View
from train.config import DataConfig
from train.data.manifest import ManifestEntry

__all__ = ["EvaluationViews", "PlannedClip", "TrainingClipPlan"]


@dataclasses.dataclass(frozen=True)
class PlannedClip:
    """One clip to make.

    `start` says where the clip begins: 0 is the first possible clip of the video, 1 the last.
    `label` is the position of the class.
    """

    entry: ManifestEntry
    start: float
    view: View
    label: int


class TrainingClipPlan:
    """Draws order, time, size, place and mirroring for each epoch (paper, section 3.3).

    Args:
        entries: the training videos; an epoch has one clip of each.
        data: ranges of sizes, and how mirroring changes labels.
        seed: the same seed and epoch give the same clips.
    """

    def __init__(self, entries: Sequence[ManifestEntry], data: DataConfig, seed: int) -> None:
        self._entries = entries
        self._data = data
        self._seed = seed
        self._index = {label: index for index, label in enumerate(data.labels)}

    def __len__(self) -> int:
        """Return how many clips an epoch has."""
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
        view = View(short_side, crop_x, crop_y, mirror)
        return PlannedClip(entry, start, view, self._index[label])


@dataclasses.dataclass(frozen=True)
class EvaluationViews:
    """Evenly spaced clips by evenly spaced crops of every video; 10 x 3 in the paper."""

    clips: int = 1
    crops: int = 1

    def clip_plan(
        self, entries: Sequence[ManifestEntry], labels: Sequence[str]
    ) -> list[PlannedClip]:
        """Return all views of all entries, the views of one entry together."""
        index = {label: position for position, label in enumerate(labels)}
        return [
            PlannedClip(entry, start, View(0, place, place), index[entry.label])
            for entry in entries
            for start in _spread(self.clips)
            for place in _spread(self.crops)
        ]


def _spread(count: int) -> list[float]:
    """Return evenly spaced numbers from 0 to 1; a single one is in the middle."""
    return [0.5] if count == 1 else [index / (count - 1) for index in range(count)]
