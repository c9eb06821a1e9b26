"""Makes batches of augmented clips: a reader reads the planned clips, and DALI augments them.

Letters: B clips, T frames, H and W space, C channels.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Generator, MutableMapping, Sequence

import torch

from configs import ConfigError, MediaError
from model.media.preprocess import PreprocessConfig
from train.config import DataConfig
from train.data.batch_maker import Batch, BatchMaker
from train.data.clip_plan import PlannedClip
from train.data.clip_store import ClipStore
from train.data.manifest import ManifestEntry
from train.data.prefetch import prefetched
from train.data.quarantine import Quarantine
from train.data.readers import ClipReader, EncodedReader, InProcessReader, WorkerReader

__all__ = ["batches", "open_reader", "open_store"]

_log = logging.getLogger(__name__)
_PREFETCHED_BATCHES = 3
_MAX_READING_THREADS = 8


def batches(
    planned: Sequence[PlannedClip],
    size: int,
    *,
    reader: ClipReader,
    preprocess: PreprocessConfig,
    device: torch.device | str = "cpu",
    quarantine: Quarantine | None = None,
    left_out: MutableMapping[ManifestEntry, MediaError] | None = None,
) -> Generator[Batch, None, None]:
    """Yield batches of the planned clips; a background thread makes a few batches in advance.

    Args:
        size: number of clips in a batch; the last batch may have fewer.
        device: device that runs DALI's graph and holds the finished clips.
        quarantine: collects videos that became unreadable; other clips replace their clips.
        left_out: without a quarantine, collects these videos and their errors; black frames replace
            their clips. Without either, the first unreadable video ends the iteration.

    Raises:
        MediaError: a video became unreadable, and neither `quarantine` nor `left_out` was given.
        DataError: too many videos became unreadable.
    """
    device = torch.device(device)
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", torch.cuda.current_device())

    def make() -> Generator[Batch, None, None]:
        if device.type == "cuda":
            torch.cuda.set_device(device)  # every thread has its own current device
        maker = BatchMaker(
            planned,
            reader=reader,
            preprocess=preprocess,
            max_batch=size,
            device=device,
            quarantine=quarantine,
            left_out=left_out,
        )
        found = reader.read([maker.request(clip) for clip in planned])
        for first in range(0, len(planned), size):
            part = planned[first : first + size]
            yield maker.make(part, [next(found) for _ in part])

    return prefetched(make, capacity=_PREFETCHED_BATCHES)


def open_store(data: DataConfig, frames: int) -> ClipStore:
    """Return the clip store of a data configuration; clips have `frames` frames.

    Cached frames are stored at the largest size that training uses.
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
    """Return the reader that `data.decoder` selects; `auto` chooses one for the device.

    Args:
        processes: number of training processes that share this machine's cores.

    Raises:
        ConfigError: `data.decoder` is dali, but decoded frames are cached.
    """
    if data.decoder == "dali" and data.cached:
        raise ConfigError(
            "data.decoder: dali cannot be used with a cache of decoded frames; set data.cache to"
            " null and data.cache_in_memory to false"
        )
    cores = max(1, len(os.sched_getaffinity(0)) // processes)
    suits_dali = data.decoder == "auto" and device.type == "cuda" and not data.cached
    if data.decoder == "dali" or suits_dali:
        threads = min(_MAX_READING_THREADS, cores)
        return EncodedReader(
            store,
            threads=threads,
            decoder_threads=data.decoder_threads,
            uncrops=device.type == "cuda",
        )
    workers = data.workers
    if workers is None:
        workers = 0 if data.cached else cores
    if workers and not WorkerReader.fits(workers):
        _log.warning(
            "/dev/shm is too small for %d decoding workers, so this process decodes the videos;"
            " to use workers, make /dev/shm larger (docker: --shm-size 2g)",
            workers,
        )
        workers = 0
    return WorkerReader(store, workers) if workers else InProcessReader(store)
