"""Batches of augmented clips: a plan is read, then DALI carries it out, in a background thread.

Letters: B clips, T frames, H and W space, C channels.
"""

from __future__ import annotations

import csv
import dataclasses
import logging
import os
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from torch import Tensor

from configs import ConfigError, DataError, MediaError
from model.media.preprocess import EncodedClip, PreprocessConfig, Preprocessor
from train.config import DataConfig
from train.data.clip_plan import PlannedClip
from train.data.clip_store import ClipStore, Frames, PlannedPart
from train.data.manifest import Manifest, ManifestEntry
from train.data.readers import ClipReader, EncodedReader, InProcessReader, WorkerReader, read_clip
from train.data.video_check import read_report, report_path
from train.distributed import Group

__all__ = [
    "Batch",
    "Quarantine",
    "batches",
    "open_reader",
    "open_store",
    "readable_entries",
]

_log = logging.getLogger(__name__)
_PREFETCHED_BATCHES = 3


@dataclasses.dataclass(frozen=True)
class Batch:
    """uint8 `clips_BTHWC` with `labels_B`; `planned` says where each came from."""

    clips_BTHWC: Tensor
    labels_B: Tensor
    planned: tuple[PlannedClip, ...]


def readable_entries(
    manifest: Manifest,
    data: DataConfig,
    store: ClipStore,
    *,
    threads: int = 2,
    group: Group | None = None,
    reported: bool = True,
) -> list[ManifestEntry]:
    """Entries whose videos decode; the others are logged and left out. What is decoded fills the
    store's cache.

    Whole files that `python -m train validate` has reported on, and that have not changed since,
    are not decoded again, unless `reported` is False. Each rank of a group reads its share, and all
    know the result.

    Raises:
        DataError: a label is unknown, or more than `max_bad_share` of the videos are unreadable.
    """
    group = group or Group()
    unknown = sorted(set(manifest.counts) - set(data.labels))
    if unknown:
        raise DataError(
            f"manifest {manifest.path} has labels {unknown} that data.labels does not name"
        )
    known = read_report(report_path(manifest.path)) if reported else {}
    if known:
        _log.info(
            "%s: %d of %d entries are known from its report",
            manifest.path,
            sum(_is_known(e, known) for e in manifest.entries),
            len(manifest.entries),
        )
    with ThreadPoolExecutor(threads) as pool:
        mine = group.share(manifest.entries)
        results = pool.map(lambda entry: _problem(store, entry, known), mine)
        problems = group.gather(
            list(
                track(
                    results,
                    description=f"reading {manifest.path.name}",
                    total=len(mine),
                    disable=not group.first,
                )
            )
        )
    for problem in filter(None, problems):
        _log.warning("left out: %s", problem)
    if any(problems):
        _log.warning(
            "%d of %d videos of %s left out", sum(map(bool, problems)), len(problems), manifest.path
        )
    good = [
        entry for entry, problem in zip(manifest.entries, problems, strict=True) if problem is None
    ]
    bad = len(problems) - len(good)
    if not good or bad > data.max_bad_share * len(problems):
        first = next(problem for problem in problems if problem)
        where = (
            f"{bad} of {len(problems)} videos of {manifest.path} are unreadable (first: {first})"
        )
        raise DataError(f"{where}; see data.max_bad_share, and --allow-missing to evaluate")
    return good


class Quarantine:
    """Videos that went bad in the middle of a run: left out from then on, written down, replaced by
    others of the same label.

    Args:
        path: CSV file `path,problem` that remembers them, read again when the run is resumed.
        most: how many there may be.
    """

    def __init__(self, path: Path, most: int) -> None:
        self._path = path
        self._most = most
        self._bad: set[str] = set()
        # of the other processes too
        for each in path.parent.glob("quarantine*.csv") if path.parent.is_dir() else ():
            with each.open(newline="", encoding="utf-8") as file:
                self._bad |= {row[0] for row in csv.reader(file) if row}

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
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow([str(entry.path), problem])
        _log.warning("left out from now on: %s", problem)
        if len(self._bad) > self._most:
            raise DataError(
                f"{len(self._bad)} videos went bad during the run (last: {problem}); see"
                f" data.max_bad_share and {self._path}"
            )


def open_store(data: DataConfig, frames: int) -> ClipStore:
    """Where a configuration's clips of `frames` frames come from; what is kept is kept at the
    largest size that training asks for.
    """
    return ClipStore(
        fps=data.fps,
        frames=frames,
        short_side=data.short_side_max if data.cached else None,
        cache=data.cache,
        in_memory=data.cache_in_memory,
        scale_early=True,
    )


def open_reader(
    data: DataConfig, store: ClipStore, device: torch.device, *, processes: int = 1
) -> ClipReader:
    """The reader that a configuration asks for, or the one that suits.

    Args:
        processes: how many share this machine's cores.

    Raises:
        ConfigError: DALI shall decode what is kept decoded in a cache.
    """
    if data.decoder == "dali" and data.cached:
        raise ConfigError(
            "data.decoder: dali decodes anew every time; set data.cache to null and"
            " data.cache_in_memory to false"
        )
    if data.decoder == "dali" or (
        data.decoder == "auto" and device.type == "cuda" and not data.cached
    ):
        return EncodedReader(store)
    workers = (
        (0 if data.cached else max(1, len(os.sched_getaffinity(0)) // processes))
        if data.workers is None
        else data.workers
    )
    if workers and not WorkerReader.fits(workers):
        _log.warning(
            "/dev/shm is too small for %d decoding workers (docker: --shm-size 2g): decoding in"
            " this process",
            workers,
        )
        workers = 0
    return WorkerReader(store, workers) if workers else InProcessReader(store)


def batches(
    planned: Sequence[PlannedClip],
    size: int,
    *,
    reader: ClipReader,
    preprocess: PreprocessConfig,
    device: torch.device | str = "cpu",
    quarantine: Quarantine | None = None,
) -> Iterator[Batch]:
    """Carry a plan out, a few batches ahead of the consumer.

    Args:
        device: where the graph runs and the clips come out.
        quarantine: takes videos that have gone bad, whose clips are then replaced; without one the
            first ends the iteration.

    Raises:
        MediaError: a video has gone bad, and there is no quarantine.
        DataError: too many have.
    """
    ready: queue.Queue[Any] = queue.Queue(_PREFETCHED_BATCHES)
    stop = threading.Event()
    device = torch.device(device)
    gpu = (
        None
        if device.type == "cpu"
        else torch.cuda.current_device()
        if device.index is None
        else device.index
    )

    def produce() -> None:
        try:
            if gpu is not None:
                torch.cuda.set_device(gpu)  # a setting of each thread's own
            graph = Preprocessor(
                preprocess,
                max_batch=size,
                device="cpu" if gpu is None else "gpu",
                threads=2,
                gpu=gpu,
            )
            stream = None if gpu is None else torch.cuda.Stream(gpu)  # type: ignore[no-untyped-call]
            maker = _BatchMaker(graph, planned, reader, quarantine, stream)
            found = reader.read([maker.part(item) for item in planned])
            for first in range(0, len(planned), size):
                part = planned[first : first + size]
                _offer(ready, maker(part, [next(found) for _ in part]), stop)
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


_Taken = Sequence[tuple[PlannedClip, Frames | EncodedClip]]


@dataclasses.dataclass
class _BatchMaker:
    graph: Preprocessor
    planned: Sequence[PlannedClip]
    reader: ClipReader
    quarantine: Quarantine | None
    # of its own: copies must not queue behind the network's work
    stream: torch.cuda.Stream | None = None

    def __call__(
        self, part: Sequence[PlannedClip], found: Sequence[Frames | EncodedClip | MediaError]
    ) -> Batch:
        taken: _Taken = [self._replaced(item, clip) for item, clip in zip(part, found, strict=True)]
        if self.stream is None:
            clips, taken = self._tried(taken)
        else:
            with torch.cuda.stream(self.stream):
                clips, taken = self._tried(taken)
            self.stream.synchronize()
            clips.record_stream(torch.cuda.default_stream(clips.device))
        return Batch(
            clips, torch.tensor([item.label for item, _ in taken]), tuple(item for item, _ in taken)
        )

    def part(self, item: PlannedClip) -> PlannedPart:
        """What a reader needs to know of a clip."""
        return PlannedPart(item.entry, item.start, self.graph.short_side(item.view))

    def _replaced(
        self, item: PlannedClip, found: Frames | EncodedClip | MediaError
    ) -> tuple[PlannedClip, Frames | EncodedClip]:
        """The clip itself, or the next one with its label, or the next one at all."""
        if not isinstance(found, MediaError) and (
            self.quarantine is None or item.entry not in self.quarantine
        ):
            return item, found
        if self.quarantine is None:
            assert isinstance(found, MediaError)
            raise found
        if isinstance(found, MediaError) and item.entry not in self.quarantine:
            self.quarantine.add(item.entry, str(found))
        for other in _others(item, self.planned):
            if other.entry not in self.quarantine:
                clip = read_clip(self.reader.store, self.part(other))
                if not isinstance(clip, MediaError):
                    return other, clip
                self.quarantine.add(other.entry, str(clip))
        raise DataError("every video of this epoch has gone bad")

    def _tried(self, taken: _Taken) -> tuple[Tensor, _Taken]:
        """The pictures; clips that DALI cannot decode are found, decoded in software, and their
        files remembered.
        """
        try:
            return self._pictures(taken), taken
        except MediaError:
            taken = [
                (item, clip) if self._decodes(item, clip) else self._in_software(item)
                for item, clip in taken
            ]
            return self._pictures(taken), taken

    def _decodes(self, item: PlannedClip, clip: Frames | EncodedClip) -> bool:
        if isinstance(clip, EncodedClip):
            try:
                self.graph.decode([clip], [item.view])
            except MediaError as error:
                _log.warning("%s: %s; decoded in software from now on", item.entry.path, error)
                if isinstance(self.reader, EncodedReader):
                    self.reader.leave_to_software(item.entry.path)
                return False
        return True

    def _pictures(self, taken: _Taken) -> Tensor:
        """The graph's output for clips of both kinds, in their order.

        Raises:
            MediaError: DALI cannot decode one of the encoded ones.
        """
        outputs: dict[int, Tensor] = {}
        encoded = [
            (index, clip) for index, (_, clip) in enumerate(taken) if isinstance(clip, EncodedClip)
        ]
        decoded = [
            (index, clip)
            for index, (_, clip) in enumerate(taken)
            if not isinstance(clip, EncodedClip)
        ]
        views = [item.view for item, _ in taken]
        if encoded:
            pictures = self.graph.decode(
                [clip for _, clip in encoded], [views[index] for index, _ in encoded]
            ).clone()
            outputs |= dict(zip((index for index, _ in encoded), pictures, strict=True))
        if decoded:
            pictures = self.graph(
                [clip for _, clip in decoded], [views[index] for index, _ in decoded]
            ).clone()
            outputs |= dict(zip((index for index, _ in decoded), pictures, strict=True))
        return (
            pictures
            if len(pictures) == len(taken)
            else torch.stack([outputs[index] for index in range(len(taken))])
        )

    def _in_software(self, item: PlannedClip) -> tuple[PlannedClip, Frames | EncodedClip]:
        return self._replaced(item, read_clip(self.reader.store, self.part(item)))


def _others(item: PlannedClip, planned: Sequence[PlannedClip]) -> Iterator[PlannedClip]:
    """The clips that may stand in for one: those of its label that follow, then the others."""
    place = next(index for index, other in enumerate(planned) if other is item)
    following = [*planned[place + 1 :], *planned[:place]]
    yield from (other for other in following if other.label == item.label)
    yield from (other for other in following if other.label != item.label)


def _is_known(entry: ManifestEntry, known: Mapping[Path, str | None]) -> bool:
    """Reports are about whole files; whether a part has frames is another question."""
    return entry.start_seconds is None and entry.path.resolve() in known


def _problem(
    store: ClipStore, entry: ManifestEntry, known: Mapping[Path, str | None]
) -> str | None:
    if _is_known(entry, known):
        problem = known[entry.path.resolve()]
        return None if problem is None else f"{entry.path}: {problem}"
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
