"""Batches of augmented clips: a plan of every random choice, then DALI carries it out in a background thread.

The plan depends only on (seed, epoch), so a resumed run sees the clips that an uninterrupted one would have seen.
Letters: B clips, T frames, H and W space, C channels.
"""

from __future__ import annotations

import csv
import dataclasses
import logging
import queue
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
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

__all__ = ["Batch", "EvaluationViews", "PlannedClip", "Quarantine", "TrainingPlan", "batches", "readable_entries"]

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
        where = f"{bad} of {len(problems)} videos of {manifest.path} are unreadable (first: {first})"
        raise DataError(f"{where}; see data.max_bad_share, and --allow-missing to evaluate")
    return good


class Quarantine:
    """Videos that went bad in the middle of a run: left out from then on, written down, replaced by others of the same label.

    Args:
        path: CSV file `path,problem` that remembers them, read again when the run is resumed.
        most: how many there may be.
    """

    def __init__(self, path: Path, most: int) -> None:
        self._path, self._most = path, most
        self._bad: set[str] = set()
        if path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                self._bad = {row[0] for row in csv.reader(file) if row}

    def __contains__(self, entry: ManifestEntry) -> bool:
        return str(entry.path) in self._bad

    def __len__(self) -> int:
        return len(self._bad)

    def add(self, entry: ManifestEntry, problem: str) -> None:
        """Leave a video out.

        Raises:
            DataError: there are too many.
        """
        self._bad.add(str(entry.path))
        with self._path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow([str(entry.path), problem])
        _log.warning("left out from now on: %s", problem)
        if len(self._bad) > self._most:
            raise DataError(f"{len(self._bad)} videos went bad during the run (last: {problem}); see data.max_bad_share and {self._path}")


def batches(
    planned: Sequence[PlannedClip],
    size: int,
    *,
    store: ClipStore,
    preprocess: PreprocessConfig,
    frames: int,
    drop_last: bool,
    quarantine: Quarantine | None = None,
) -> Iterator[Batch]:
    """Carry a plan out, a few batches ahead of the consumer.

    Args:
        quarantine: takes videos that have gone bad, whose clips are then replaced; without one the first ends the iteration.

    Raises:
        MediaError: a video has gone bad, and there is no quarantine.
        DataError: too many have.
    """
    ready: queue.Queue[Any] = queue.Queue(_PREFETCHED_BATCHES)
    stop = threading.Event()
    parts = [planned[i : i + size] for i in range(0, len(planned), size)]
    if drop_last and len(parts) > 1 and len(parts[-1]) < size:
        parts.pop()

    def produce() -> None:
        try:
            graph = Preprocessor(preprocess, max_batch=size, threads=2)
            for part in parts:
                _offer(ready, _make_batch(part, planned, store, graph, frames, quarantine), stop)
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


def _make_batch(
    part: Sequence[PlannedClip],
    planned: Sequence[PlannedClip],
    store: ClipStore,
    graph: Preprocessor,
    frames: int,
    quarantine: Quarantine | None,
) -> Batch:
    taken = [_frames_of(item, planned, store, quarantine) for item in part]
    pictures = graph([_cut(video, item.start, frames) for item, video in taken], [item.view for item, _ in taken]).clone()
    return Batch(pictures, torch.tensor([item.label for item, _ in taken]), tuple(item for item, _ in taken))


def _frames_of(
    item: PlannedClip, planned: Sequence[PlannedClip], store: ClipStore, quarantine: Quarantine | None
) -> tuple[PlannedClip, Frames]:
    """The clip's video, or that of the next one with its label, or of the next one at all."""
    if quarantine is None:
        return item, store(item.entry)
    for candidate in _item_then_others(item, planned):
        if candidate.entry in quarantine:
            continue
        try:
            return candidate, store(candidate.entry)
        except MediaError as error:
            quarantine.add(candidate.entry, str(error))
    raise DataError("every video of this epoch has gone bad")


def _item_then_others(item: PlannedClip, planned: Sequence[PlannedClip]) -> Iterator[PlannedClip]:
    yield item
    place = next(index for index, other in enumerate(planned) if other is item)
    following = [*planned[place + 1 :], *planned[:place]]
    yield from (other for other in following if other.label == item.label)
    yield from (other for other in following if other.label != item.label)


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
