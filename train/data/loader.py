"""Batches of augmented clips: a reader decodes what the clip plan asks for, DALI does the rest.

Letters: B clips, T frames, H and W space, C channels.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Generator, Sequence

import torch

from configs import ConfigError
from model.media.preprocess import PreprocessConfig
from train.config import DataConfig
from train.data.batch_maker import Batch, BatchMaker
from train.data.clip_plan import PlannedClip
from train.data.clip_store import ClipStore
from train.data.prefetch import prefetched
from train.data.quarantine import Quarantine
from train.data.readers import ClipReader, EncodedReader, InProcessReader, WorkerReader

__all__ = ["batches", "open_reader", "open_store"]

_log = logging.getLogger(__name__)
_PREFETCHED_BATCHES = 3


def batches(
    planned: Sequence[PlannedClip],
    size: int,
    *,
    reader: ClipReader,
    preprocess: PreprocessConfig,
    device: torch.device | str = "cpu",
    quarantine: Quarantine | None = None,
) -> Generator[Batch, None, None]:
    """Make the planned clips, a few batches ahead of the consumer.

    Args:
        size: clips of a batch; the last one may have fewer.
        device: where the graph runs and where the clips come out.
        quarantine: takes videos that became unreadable; other clips replace theirs. Without one the
            first such video ends the iteration.

    Raises:
        MediaError: a video became unreadable, and there is no quarantine.
        DataError: too many did.
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
        )
        found = reader.read([maker.request(clip) for clip in planned])
        for first in range(0, len(planned), size):
            part = planned[first : first + size]
            yield maker.make(part, [next(found) for _ in part])

    return prefetched(make, capacity=_PREFETCHED_BATCHES)


def open_store(data: DataConfig, frames: int) -> ClipStore:
    """Return the source of a configuration's clips of `frames` frames.

    Cached frames are kept at the largest size that training asks for.
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
    """Return the reader that a configuration asks for, or the one that suits the device.

    Args:
        processes: how many processes share this machine's cores.

    Raises:
        ConfigError: DALI is asked to decode although decoded frames are cached.
    """
    if data.decoder == "dali" and data.cached:
        raise ConfigError(
            "data.decoder: dali decodes each clip again and uses no cache; set data.cache to null"
            " and data.cache_in_memory to false"
        )
    suits_dali = data.decoder == "auto" and device.type == "cuda" and not data.cached
    if data.decoder == "dali" or suits_dali:
        return EncodedReader(store)
    workers = data.workers
    if workers is None:
        cores = len(os.sched_getaffinity(0))
        workers = 0 if data.cached else max(1, cores // processes)
    if workers and not WorkerReader.fits(workers):
        _log.warning(
            "/dev/shm is too small for %d decoding workers: decoding in this process; make it"
            " larger (docker: --shm-size 2g)",
            workers,
        )
        workers = 0
    return WorkerReader(store, workers) if workers else InProcessReader(store)
