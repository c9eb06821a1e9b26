"""Who decodes clips ahead of the batches: this process, worker processes, or DALI's own decoder.

A reader takes requests for clips and gives, in their order, what DALI's graph starts from: frames,
or a file that is still encoded.
"""

from __future__ import annotations

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
from train.data.clip_store import ClipRequest, ClipStore, Frames
from train.data.dataloader_workers import running_workers, stop_workers

__all__ = ["ClipReader", "EncodedReader", "InProcessReader", "WorkerReader", "read_clip"]

_PREFETCHED_CLIPS = 3  # of each worker
_SHARED_MEMORY = Path("/dev/shm")
_CLIP_BYTES = 32 * 640 * 360 * 3
_MAX_ENCODED_BYTES = 64 << 20


class ClipReader(Protocol):
    """Gives the clips that are asked for; a video that does not decode gives its error instead.

    `store` decodes in this process.
    """

    store: ClipStore

    def read(self, requests: Sequence[ClipRequest]) -> Iterator[Frames | EncodedClip | MediaError]:
        """Yield one item for each request, in order."""
        ...

    def close(self) -> None:
        """End what runs in the background."""
        ...


class InProcessReader:
    """Decodes when asked, in the calling thread."""

    def __init__(self, store: ClipStore) -> None:
        self.store = store

    def read(self, requests: Sequence[ClipRequest]) -> Iterator[Frames | EncodedClip | MediaError]:
        """Yield one item for each request, in order."""
        return (read_clip(self.store, request) for request in requests)

    def close(self) -> None:
        """Do nothing: nothing runs in the background."""


class WorkerReader:
    """Decodes in worker processes, some clips ahead; frames come back through shared memory.

    Args:
        workers: number of processes; they live until `close`.
    """

    def __init__(self, store: ClipStore, workers: int) -> None:
        self.store = store
        self._order = _RequestOrder()
        self._loader: DataLoader[Any] = DataLoader(
            _ClipDataset(store),
            sampler=self._order,
            batch_size=None,
            num_workers=workers,
            prefetch_factor=_PREFETCHED_CLIPS,
            persistent_workers=True,
            multiprocessing_context="spawn",
            worker_init_fn=_start_worker,
        )

    def read(self, requests: Sequence[ClipRequest]) -> Iterator[Frames | EncodedClip | MediaError]:
        """Yield one item for each request, in order.

        Raises:
            TrainingError: a worker process ended.
        """
        self._order.requests = requests
        try:
            for item in self._loader:
                # The copy gives the shared memory back at once.
                yield item if isinstance(item, MediaError) else item.numpy().copy()
        except RuntimeError as error:
            raise TrainingError(
                f"a decoding worker ended ({str(error).splitlines()[0]}); if memory is short, lower"
                " data.workers"
            ) from None

    @property
    def process_ids(self) -> list[int]:
        """The workers' process ids; none before the first clip is read."""
        return [worker.pid for worker in running_workers(self._loader) if worker.pid is not None]

    def close(self) -> None:
        """End the workers."""
        stop_workers(self._loader)

    @staticmethod
    def fits(workers: int) -> bool:
        """Tell whether shared memory holds the clips decoded ahead; in containers it is small."""
        if not _SHARED_MEMORY.is_dir():
            return True
        needed = workers * _PREFETCHED_CLIPS * _CLIP_BYTES
        return shutil.disk_usage(_SHARED_MEMORY).free >= needed


class EncodedReader:
    """Gives encoded files to DALI's decoder, with the numbers of the frames that make the clip.

    What DALI's decoder would show differently is decoded in software: rotated videos, files whose
    frames have no times, files too large to hold in memory.
    """

    def __init__(self, store: ClipStore) -> None:
        self.store = store
        self._suits_dali: dict[Path, bool] = {}

    def read(self, requests: Sequence[ClipRequest]) -> Iterator[Frames | EncodedClip | MediaError]:
        """Yield one item for each request, in order."""
        return (self._encoded(request) or read_clip(self.store, request) for request in requests)

    def close(self) -> None:
        """Do nothing: nothing runs in the background."""

    def leave_to_software(self, path: Path) -> None:
        """Remember that DALI cannot decode this file."""
        self._suits_dali[path] = False

    def _encoded(self, request: ClipRequest) -> EncodedClip | None:
        path = request.entry.path
        try:
            if path not in self._suits_dali:
                is_small = path.stat().st_size <= _MAX_ENCODED_BYTES
                self._suits_dali[path] = is_small and self.store.is_upright(request.entry)
            if not self._suits_dali[path]:
                return None
            places = self.store.frame_places(request)
            if places is None:
                return None
            return EncodedClip(np.fromfile(path, np.uint8), np.array(places, np.int32))
        except (MediaError, OSError):
            return None  # software decoding will say what is wrong


class _ClipDataset(Dataset[Any]):
    """Clips by request, as a DataLoader's workers read them."""

    def __init__(self, store: ClipStore) -> None:
        self.store = store

    def __getitem__(self, request: ClipRequest) -> torch.Tensor | MediaError:
        found = read_clip(self.store, request)
        if isinstance(found, MediaError):
            return found
        return torch.from_numpy(np.ascontiguousarray(found))


class _RequestOrder(Sampler[ClipRequest]):
    """Hands the requests of a pass to the DataLoader's workers."""

    requests: Sequence[ClipRequest] = ()

    def __init__(self) -> None:
        """Take no data source: the requests are set before each pass."""

    def __iter__(self) -> Iterator[ClipRequest]:
        return iter(self.requests)

    def __len__(self) -> int:
        return len(self.requests)


def read_clip(store: ClipStore, request: ClipRequest) -> Frames | MediaError:
    """Return the clip, or the error that says why there is none."""
    try:
        return store.clip(request)
    except MediaError as error:
        return error


def _start_worker(_: int) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        # Both signals reach the whole process group; the run decides when its workers end.
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
