"""Readers: they read clips in this process, in worker processes, or for DALI's own decoder.

A reader receives requests for clips. For each request, in order, it returns the input of DALI's
graph: decoded frames or an encoded file.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from configs import MediaError, TrainingError
from model.media.colour import choose_colours, correction_of_bt601
from model.media.container import naming_file
from model.media.conversion import quarter_turns, rgb_frame
from model.media.preprocess import EncodedClip
from model.media.video import decode_frames
from train.data.clip_store import ClipRequest, ClipStore, Frames
from train.data.dataloader_workers import running_workers, stop_workers
from train.data.read_ahead import read_ahead
from train.data.uncropped import uncropped

__all__ = [
    "ClipReader",
    "EncodedReader",
    "InProcessReader",
    "WorkerReader",
    "dali_facts",
    "read_clip",
]

_PREFETCHED_CLIPS = 3  # clips that each worker decodes in advance
_SHARED_MEMORY = Path("/dev/shm")
_CLIP_BYTES = 32 * 640 * 360 * 3
_MAX_ENCODED_BYTES = 64 << 20
_CLIPS_AHEAD = 64  # clips that the threads of an `EncodedReader` read in advance
_BYTES_AHEAD = 512 << 20


class DaliFacts(NamedTuple):
    """Whether DALI may decode a file, and the matrix that corrects its colours (`EncodedClip`)."""

    suits: bool
    correction: NDArray[np.float32] | None = None


class ClipReader(Protocol):
    """Reads requested clips; for a video that does not decode, it returns the error as the item.

    Its `store` can decode further clips in this process.
    """

    store: ClipStore

    def read(self, requests: Sequence[ClipRequest]) -> Iterator[Frames | EncodedClip | MediaError]:
        """Yield one item for each request, in order."""
        ...

    def close(self) -> None:
        """Stop all background processes of the reader."""
        ...


class InProcessReader:
    """Decodes each clip in the calling thread, when the clip is needed."""

    def __init__(self, store: ClipStore) -> None:
        self.store = store

    def read(self, requests: Sequence[ClipRequest]) -> Iterator[Frames | EncodedClip | MediaError]:
        """Yield one item for each request, in order."""
        return (read_clip(self.store, request) for request in requests)

    def close(self) -> None:
        """Do nothing: nothing runs in the background."""


class WorkerReader:
    """Decodes clips in advance in worker processes, which return frames through shared memory.

    Args:
        workers: number of worker processes; they run until `close`.
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
            TrainingError: a worker process ended unexpectedly.
        """
        self._order.requests = requests
        count = 0
        try:
            for item in self._loader:
                count += 1
                # After the copy, the shared memory can be freed immediately.
                yield item if isinstance(item, MediaError) else item.numpy().copy()
        except RuntimeError as error:
            # Each worker reads some clips in advance, so the file is one of these.
            ahead = requests[count : count + _PREFETCHED_CLIPS * max(1, self._loader.num_workers)]
            names = ", ".join(dict.fromkeys(str(request.entry.path) for request in ahead))
            raise TrainingError(
                f"a decoding worker ended ({str(error).splitlines()[0]}) while it read one of these"
                f" files: {names}; if memory is short, lower data.workers, otherwise check the"
                " files with `python -m train validate`"
            ) from None

    @property
    def process_ids(self) -> list[int]:
        """The workers' process ids; the list is empty before the first clip is read."""
        return [worker.pid for worker in running_workers(self._loader) if worker.pid is not None]

    def close(self) -> None:
        """Stop the worker processes."""
        stop_workers(self._loader)

    @staticmethod
    def fits(workers: int) -> bool:
        """Tell whether /dev/shm has space for the prefetched clips; in containers it is small."""
        if not _SHARED_MEMORY.is_dir():
            return True
        needed = workers * _PREFETCHED_CLIPS * _CLIP_BYTES
        return shutil.disk_usage(_SHARED_MEMORY).free >= needed


class EncodedReader:
    """Returns encoded files for DALI's decoder, with the indices of the frames of the clip.

    Some files are decoded in software instead: rotated videos, files whose frames have no times,
    and files that are too large to load into memory.

    Args:
        threads: number of threads that read files in advance, while DALI and the network work; 0:
            the calling thread reads each file when it is needed.
        decoder_threads: number of threads of DALI's decoder; None: it follows the device.
        uncrops: whether cropping is taken out of videos, as suits the decoder on a GPU.
    """

    def __init__(
        self,
        store: ClipStore,
        *,
        threads: int = 0,
        decoder_threads: int | None = None,
        uncrops: bool = False,
    ) -> None:
        self.store = store
        self._uncrops = uncrops
        self.decoder_threads = decoder_threads
        self._facts: dict[Path, DaliFacts] = {}
        self._pool: ThreadPoolExecutor | None = None
        if threads:
            self._pool = ThreadPoolExecutor(threads, thread_name_prefix="read-ahead")

    def read(self, requests: Sequence[ClipRequest]) -> Iterator[Frames | EncodedClip | MediaError]:
        """Yield one item for each request, in order."""
        if self._pool is None:
            yield from map(self._item, requests)
            return
        items = read_ahead(
            self._item,
            requests,
            pool=self._pool,
            capacity=_CLIPS_AHEAD,
            size_of=_bytes_of,
            max_bytes=_BYTES_AHEAD,
        )
        with contextlib.closing(items):
            for request, item in zip(requests, items, strict=True):
                # DALI may have failed on this file since a thread read it.
                is_for_dali = isinstance(item, EncodedClip)
                if is_for_dali and not self._facts[request.entry.path].suits:
                    yield read_clip(self.store, request)
                else:
                    yield item

    def close(self) -> None:
        """Stop the threads."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def leave_to_software(self, path: Path) -> None:
        """Decode this file in software from now on, because DALI cannot decode it."""
        self._facts[path] = DaliFacts(False)

    def _item(self, request: ClipRequest) -> Frames | EncodedClip | MediaError:
        found = self._encoded(request)
        return read_clip(self.store, request) if found is None else found

    def _encoded(self, request: ClipRequest) -> EncodedClip | None:
        path = request.entry.path
        try:
            if path not in self._facts:
                # A folder of images is always decoded in software.
                is_small = path.is_file() and path.stat().st_size <= _MAX_ENCODED_BYTES
                # `leave_to_software` may have been called meanwhile, and is not overruled.
                self._facts.setdefault(path, dali_facts(path) if is_small else DaliFacts(False))
            facts = self._facts[path]
            if not facts.suits:
                return None
            places = self.store.frame_places(request)
            if places is None:
                return None
            found = uncropped(path) if self._uncrops else None
            data, rows = found or (np.fromfile(path, np.uint8), None)
            return EncodedClip(data, np.array(places, np.int32), facts.correction, rows)
        except (MediaError, OSError, ValueError):
            return None  # software decoding follows, and reports the error


class _ClipDataset(Dataset[Any]):
    """A dataset for a DataLoader: its index is a clip request, its item the decoded clip."""

    def __init__(self, store: ClipStore) -> None:
        self.store = store

    def __getitem__(self, request: ClipRequest) -> torch.Tensor | MediaError:
        found = read_clip(self.store, request)
        if isinstance(found, MediaError):
            return found
        return torch.from_numpy(np.ascontiguousarray(found))


class _RequestOrder(Sampler[ClipRequest]):
    """A sampler that gives the requests of one `read` call to the DataLoader's workers."""

    requests: Sequence[ClipRequest] = ()

    def __init__(self) -> None:
        """Create an empty sampler; `read` sets its requests before each pass."""

    def __iter__(self) -> Iterator[ClipRequest]:
        return iter(self.requests)

    def __len__(self) -> int:
        return len(self.requests)


def read_clip(store: ClipStore, request: ClipRequest) -> Frames | MediaError:
    """Return the clip, or the error if the video does not decode."""
    try:
        return store.clip(request)
    except MediaError as error:
        return error


def dali_facts(path: Path) -> DaliFacts:
    """Return whether DALI may decode a file, and how its colours must be corrected.

    Raises:
        MediaError: the file does not decode, or its first frame cannot be converted.
    """
    with naming_file(path), contextlib.closing(decode_frames(path)) as frames:  # type: ignore[type-var]
        first = next(frames)
        rgb_frame(first)  # raises an error if it cannot be converted
        suits = quarter_turns(first) == 0 and choose_colours(first).colour_range is None
        return DaliFacts(suits, correction_of_bt601(first))


def _bytes_of(item: Frames | EncodedClip | MediaError) -> int:
    data = item.data if isinstance(item, EncodedClip) else item
    return 0 if isinstance(data, MediaError) else data.nbytes


def _start_worker(_: int) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        # Both signals reach the workers too, but only the training run may stop its workers.
        signal.signal(number, signal.SIG_IGN)
    # The main process has already named the videos whose colour matrix is replaced.
    logging.getLogger("model.media.colour").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
