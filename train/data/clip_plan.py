"""Which clips an epoch or an evaluation consists of: every random choice, drawn before anything
is decoded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from model.media.preprocess import CropSpec
from train.config import DataConfig
from train.data.manifest import ManifestEntry

__all__ = ["EvaluationViews", "PlannedClip", "TrainingPlan"]


@dataclasses.dataclass(frozen=True)
class PlannedClip:
    """One clip to make: the entry, where in its spare time to start (0 to 1), which view, which
    label.
    """

    entry: ManifestEntry
    start: float
    view: CropSpec
    label: int


class TrainingPlan:
    """Random order, time, size, place and mirror for each epoch (paper, section 3.3, training
    details).
    """

    def __init__(self, entries: Sequence[ManifestEntry], data: DataConfig, seed: int) -> None:
        self._entries = entries
        self._data = data
        self._seed = seed
        self._index = {label: index for index, label in enumerate(data.labels)}

    def __len__(self) -> int:
        """Clips in an epoch."""
        return len(self._entries)

    def epoch(self, epoch: int) -> list[PlannedClip]:
        """The clips of one epoch, in order."""
        rng = np.random.default_rng([self._seed, epoch])
        return [
            self._clip(self._entries[index], rng) for index in rng.permutation(len(self._entries))
        ]

    def _clip(self, entry: ManifestEntry, rng: np.random.Generator) -> PlannedClip:
        data = self._data
        start, crop_x, crop_y = (float(value) for value in rng.random(3))
        short_side = int(rng.integers(data.short_side_min, data.short_side_max + 1))
        mirror = bool(rng.random() < 0.5) and data.flip and entry.label not in data.no_flip_labels
        label = data.flip_labels.get(entry.label, entry.label) if mirror else entry.label
        return PlannedClip(
            entry, start, CropSpec(short_side, crop_x, crop_y, mirror), self._index[label]
        )


@dataclasses.dataclass(frozen=True)
class EvaluationViews:
    """Evenly spaced clips by evenly spaced crops; 10 x 3 in the paper."""

    clips: int = 1
    crops: int = 1

    def plan(self, entries: Sequence[ManifestEntry], labels: Sequence[str]) -> list[PlannedClip]:
        """All views of all entries, the views of one entry together."""
        index = {label: position for position, label in enumerate(labels)}
        starts = _spread(self.clips)
        places = _spread(self.crops)
        return [
            PlannedClip(entry, start, CropSpec(0, place, place), index[entry.label])
            for entry in entries
            for start in starts
            for place in places
        ]


def _spread(count: int) -> list[float]:
    return [0.5] if count == 1 else [index / (count - 1) for index in range(count)]
