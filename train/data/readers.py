"""Who decodes clips ahead of the batches: this process, worker processes, or DALI's own video
decoder.

A reader takes planned clips and gives, in their order, what DALI's graph starts from: frames, or a
file still encoded.
"""

from __future__ import annotations

import logging
import shutil
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from configs import MediaError, TrainingError
from model.media.preprocess import EncodedClip
from train.data.clip_store import ClipStore, Frames, PlannedPart

__all__ = ["ClipReader", "EncodedReader", "InProcessReader", "WorkerReader", "read_clip"]

_log = logging.getLogger(__name__)
_AHEAD = 3  # clips that each worker decodes ahead
_SHARED_MEMORY = Path("/dev/shm")
_CLIP_BYTES = 32 * 640 * 360 * 3
_MOST_ENCODED_BYTES = 64 << 20


class ClipReader(Protocol):
    """Gives what the plan asks for; a video that does not decode gives its error instead.
    `store` decodes in this process.
    """

    store: ClipStore

    def read(self, parts: Sequence[PlannedPart]) -> Iterator[Frames | EncodedClip | MediaError]:
        """One item for each part, in order."""
        ...

    def close(self) -> None:
        """End what runs in the background."""
        ...


class InProcessReader:
    """Decodes when asked, in the calling thread."""

    def __init__(self, store: ClipStore) -> None:
        self.store = store

    def read(self, parts: Sequence[PlannedPart]) -> Iterator[Frames | EncodedClip | MediaError]:
        """One item for each part, in order."""
        return (read_clip(self.store, part) for part in parts)

    def close(self) -> None:
        """Nothing to end."""


class WorkerReader:
    """Decodes in worker processes, some clips ahead; frames come back through shared memory.

    Args:
        workers: processes; they live until `close`.
    """

    def __init__(self, store: ClipStore, workers: int) -> None:
        self.store = store
        self._order = _Order()
        self._loader: DataLoader[Any] = DataLoader(
            _Clips(store),
            sampler=self._order,
            batch_size=None,
            num_workers=workers,
            prefetch_factor=_AHEAD,
            persistent_workers=True,
            multiprocessing_context="spawn",
            worker_init_fn=_start_worker,
        )

    def read(self, parts: Sequence[PlannedPart]) -> Iterator[Frames | EncodedClip | MediaError]:
        """One item for each part, in order."""
        self._order.parts = parts
        try:
            for item in self._loader:
                # shared memory is given back at once
                yield item if isinstance(item, MediaError) else item.numpy().copy()
        except RuntimeError as error:
            raise TrainingError(
                f"a decoding worker ended ({str(error).splitlines()[0]}); if memory is short, lower"
                " data.workers"
            ) from None

    def close(self) -> None:
        """End the workers."""
        iterator, self._loader._iterator = self._loader._iterator, None
        if iterator is not None:
            iterator._shutdown_workers()  # type: ignore[attr-defined]
            for worker in iterator._workers:  # type: ignore[attr-defined]
                if worker.is_alive():
                    worker.kill()

    @staticmethod
    def fits(workers: int) -> bool:
        """Whether shared memory holds what the workers decode ahead; containers often have 64
        MiB.
        """
        return (
            not _SHARED_MEMORY.is_dir()
            or shutil.disk_usage(_SHARED_MEMORY).free >= workers * _AHEAD * _CLIP_BYTES
        )


class EncodedReader:
    """Reads files as they are, for DALI's decoder, and which of their frames make the clip.

    What that decoder would show differently (turned pictures, files whose frames have no times,
    files that are cut out of memory) is decoded in software.
    """

    def __init__(self, store: ClipStore) -> None:
        self.store = store
        self._plain: dict[Path, bool] = {}

    def read(self, parts: Sequence[PlannedPart]) -> Iterator[Frames | EncodedClip | MediaError]:
        """One item for each part, in order."""
        return (self._encoded(part) or read_clip(self.store, part) for part in parts)

    def close(self) -> None:
        """Nothing to end."""

    def leave_to_software(self, path: Path) -> None:
        """DALI cannot decode this file."""
        self._plain[path] = False

    def _encoded(self, part: PlannedPart) -> EncodedClip | None:
        path = part.entry.path
        try:
            if path not in self._plain:
                self._plain[path] = (
                    path.stat().st_size <= _MOST_ENCODED_BYTES and self.store.is_upright(part.entry)
                )
            places = self.store.frame_places(part) if self._plain[path] else None
            if places is None:
                return None
            return EncodedClip(np.fromfile(path, np.uint8), np.array(places, np.int32))
        except (MediaError, OSError):
            return None  # software decoding tells what is wrong


class _Clips(Dataset[Any]):
    def __init__(self, store: ClipStore) -> None:
        self.store = store

    def __getitem__(self, part: PlannedPart) -> torch.Tensor | MediaError:
        found = read_clip(self.store, part)
        return (
            found
            if isinstance(found, MediaError)
            else torch.from_numpy(np.ascontiguousarray(found))
        )


class _Order(Sampler[PlannedPart]):
    parts: Sequence[PlannedPart] = ()

    def __init__(self) -> None:
        """No data source: the parts are set before each pass."""

    def __iter__(self) -> Iterator[PlannedPart]:
        return iter(self.parts)

    def __len__(self) -> int:
        return len(self.parts)


def read_clip(store: ClipStore, part: PlannedPart) -> Frames | MediaError:
    """The clip, or why there is none."""
    try:
        return store.clip(part)
    except MediaError as error:
        return error


def _start_worker(_: int) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        # both reach the whole process group; the run decides when its workers end
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
