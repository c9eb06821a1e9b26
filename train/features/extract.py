"""Computes the maps of clips with the frozen backbone, and keeps them in the cache."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence

import torch
from rich.progress import Progress
from torch import Tensor

from configs import DataError, MediaError
from model.media.preprocess import normalise_clips
from model.network import ActionNetwork
from train.config import TrainConfig
from train.data.clip_plan import PlannedClip
from train.data.loader import batches
from train.data.manifest import ManifestEntry
from train.data.readers import ClipReader
from train.engine.run import StoppedError
from train.features.cache import FeatureCache, map_count

__all__ = ["Extractor"]

_log = logging.getLogger(__name__)


class Extractor:
    """Computes maps with the backbone of a network.

    Args:
        network: the network, whose backbone is in evaluation mode.
        config: the configuration of the run.
        device, dtype: device and number format of the computation.
    """

    def __init__(
        self,
        network: ActionNetwork,
        config: TrainConfig,
        *,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self._network = network
        self._config = config
        self._device = device
        self._dtype = dtype

    def fill(
        self,
        cache: FeatureCache,
        clips: Sequence[PlannedClip],
        *,
        reader: ClipReader,
        stop: threading.Event,
        progress: Progress,
    ) -> list[PlannedClip]:
        """Compute the maps that the cache does not have; return the clips whose maps are there.

        Unreadable videos are logged and left out.

        Raises:
            StoppedError: `stop` was set; what was computed is kept.
            DataError: more than `max_bad_fraction` of the videos are unreadable.
        """
        missing = [clip for clip in clips if not cache.has(clip)]
        _log.info(
            "features: %d clips are cached, %d to compute", len(clips) - len(missing), len(missing)
        )
        task = progress.add_task("features", total=len(missing), facts="")
        left_out: dict[ManifestEntry, MediaError] = {}
        for found in self.compute(missing, reader=reader, left_out=left_out):
            for clip, maps in found:
                cache.write(clip, maps)
            progress.advance(task, len(found))
            if stop.is_set():
                raise StoppedError
        progress.remove_task(task)
        _check_left_out(left_out, clips, self._config.data.max_bad_fraction)
        return [clip for clip in clips if clip.entry not in left_out]

    @torch.no_grad()
    def compute(
        self,
        clips: Sequence[PlannedClip],
        *,
        reader: ClipReader,
        left_out: dict[ManifestEntry, MediaError] | None = None,
    ) -> Iterator[list[tuple[PlannedClip, list[Tensor]]]]:
        """Yield the maps of each batch of clips, `C T H W`, highest resolution first."""
        assert self._config.features is not None
        if not clips:
            return
        feed = batches(
            clips,
            self._config.features.batch,
            reader=reader,
            preprocess=self._config.preprocess,
            device=self._device,
            left_out=left_out,
        )
        count = map_count(self._network)
        with contextlib.closing(feed):
            for batch in feed:
                clips_BCTHW = normalise_clips(
                    batch.clips_BTHWC.to(self._device), self._config.preprocess, dtype=self._dtype
                )
                enabled = self._dtype is torch.bfloat16
                with torch.autocast(self._device.type, self._dtype, enabled=enabled):
                    maps = self._network.backbone(clips_BCTHW)[-count:]
                yield [
                    (clip, [map_BCTHW[index] for map_BCTHW in maps])
                    for index, clip in enumerate(batch.planned)
                    if left_out is None or clip.entry not in left_out
                ]


def _check_left_out(
    left_out: Mapping[ManifestEntry, MediaError],
    clips: Sequence[PlannedClip],
    max_bad_fraction: float,
) -> None:
    for error in left_out.values():
        _log.warning("left out: %s", error)
    videos = len({clip.entry for clip in clips})
    if len(left_out) == videos or len(left_out) > max_bad_fraction * videos:
        first = next(iter(left_out.values()))
        raise DataError(
            f"{len(left_out)} of {videos} videos are unreadable (first: {first}); see"
            " data.max_bad_fraction"
        )
