"""Batches of augmented clips: a plan of every random choice, then DALI carries it out in a background thread.

The plan depends only on (seed, epoch), so a resumed run sees the clips that an uninterrupted one would have seen.
Letters: B clips, T frames, H and W space, C channels.
"""

from __future__ import annotations

import dataclasses
import logging
import queue
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from configs import DataError, MediaError
from model.preprocess import PreprocessConfig, Preprocessor, View
from train.clips import ClipStore, Frames
from train.manifests import Manifest, ManifestEntry
from train.recipe import DataConfig

__all__ = ["Batch", "EvaluationViews", "PlannedClip", "TrainingPlan", "batches", "readable_entries"]

_log = logging.getLogger(__name__)
_PREFETCHED_BATCHES = 3


@dataclasses.dataclass(frozen=True)
class PlannedClip:
    """One clip to make: the entry, where in its spare time to start (0 to 1), which view, which label."""

    entry: ManifestEntry
    start: float
    view: View
    label: int


@dataclasses.dataclass(frozen=True)
class Batch:
    """uint8 `clips_BTHWC` with `labels_B`; `planned` says where each came from."""

    clips_BTHWC: Tensor
    labels_B: Tensor
    planned: tuple[PlannedClip, ...]


class TrainingPlan:
    """Random order, time, size, place and mirror for each epoch (paper, section 3.3, training details)."""

    def __init__(self, entries: Sequence[ManifestEntry], data: DataConfig, seed: int) -> None:
        self._entries, self._data, self._seed = entries, data, seed
        self._index = {label: index for index, label in enumerate(data.labels)}

    def epoch(self, epoch: int) -> list[PlannedClip]:
        """The clips of one epoch, in order."""
        rng = np.random.default_rng([self._seed, epoch])
        return [self._clip(self._entries[index], rng) for index in rng.permutation(len(self._entries))]

    def _clip(self, entry: ManifestEntry, rng: np.random.Generator) -> PlannedClip:
        data = self._data
        start, crop_x, crop_y = (float(value) for value in rng.random(3))
        short_side = int(rng.integers(data.short_side_min, data.short_side_max + 1))
        mirror = bool(rng.random() < 0.5) and data.flip and entry.label not in data.no_flip_labels
        label = data.flip_labels.get(entry.label, entry.label) if mirror else entry.label
        return PlannedClip(entry, start, View(short_side, crop_x, crop_y, mirror), self._index[label])


@dataclasses.dataclass(frozen=True)
class EvaluationViews:
    """Evenly spaced clips by evenly spaced crops; 10 x 3 in the paper."""

    clips: int = 1
    crops: int = 1

    def plan(self, entries: Sequence[ManifestEntry], labels: Sequence[str]) -> list[PlannedClip]:
        """All views of all entries, the views of one entry together."""
        index = {label: position for position, label in enumerate(labels)}
        starts, places = (_spread(self.clips), _spread(self.crops))
        return [
            PlannedClip(entry, start, View(0, place, place), index[entry.label])
            for entry in entries
            for start in starts
            for place in places
        ]


def readable_entries(manifest: Manifest, data: DataConfig, store: ClipStore, *, threads: int = 2) -> list[ManifestEntry]:
    """Entries whose videos decode; the others are logged and left out. Fills the store's cache on the way.

    Raises:
        DataError: a label is unknown, or more than `max_bad_share` of the videos are unreadable.
    """
    unknown = sorted(set(manifest.counts) - set(data.labels))
    if unknown:
        raise DataError(f"manifest {manifest.path} has labels {unknown} that data.labels does not name")
    with ThreadPoolExecutor(threads) as pool:
        results = pool.map(lambda entry: _problem(store, entry), manifest.entries)
        problems = list(track(results, description=f"reading {manifest.path.name}", total=len(manifest.entries)))
    for problem in filter(None, problems):
        _log.warning("left out: %s", problem)
    good = [entry for entry, problem in zip(manifest.entries, problems, strict=True) if problem is None]
    bad = len(problems) - len(good)
    if not good or bad > data.max_bad_share * len(problems):
        first = next(problem for problem in problems if problem)
        raise DataError(f"{bad} of {len(problems)} videos of {manifest.path} are unreadable (first: {first}); see data.max_bad_share")
    return good


def batches(
    planned: Sequence[PlannedClip], size: int, *, store: ClipStore, preprocess: PreprocessConfig, frames: int, drop_last: bool
) -> Iterator[Batch]:
    """Carry a plan out, a few batches ahead of the consumer."""
    ready: queue.Queue[Any] = queue.Queue(_PREFETCHED_BATCHES)
    stop = threading.Event()
    parts = [planned[i : i + size] for i in range(0, len(planned), size)]
    if drop_last and len(parts) > 1 and len(parts[-1]) < size:
        parts.pop()

    def produce() -> None:
        try:
            graph = Preprocessor(preprocess, max_batch=size, threads=2)
            for part in parts:
                _offer(ready, _make_batch(part, store, graph, frames), stop)
                if stop.is_set():
                    return
            _offer(ready, None, stop)
        except BaseException as error:  # handed to the consumer, which raises it
            _offer(ready, error, stop)

    thread = threading.Thread(target=produce, name="loader", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()


def _make_batch(part: Sequence[PlannedClip], store: ClipStore, graph: Preprocessor, frames: int) -> Batch:
    clips = [_cut(store(item.entry), item.start, frames) for item in part]
    pictures = graph(clips, [item.view for item in part]).clone()
    return Batch(pictures, torch.tensor([item.label for item in part]), tuple(part))


def _cut(frames_FHWC: Frames, start: float, frames: int) -> Frames:
    first = round(start * (len(frames_FHWC) - frames))
    return frames_FHWC[first : first + frames]


def _problem(store: ClipStore, entry: ManifestEntry) -> str | None:
    try:
        store(entry)
    except MediaError as error:
        return str(error)
    return None


def _offer(ready: queue.Queue[Any], item: Any, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            ready.put(item, timeout=0.2)
            return
        except queue.Full:
            continue


def _spread(count: int) -> list[float]:
    return [0.5] if count == 1 else [index / (count - 1) for index in range(count)]
