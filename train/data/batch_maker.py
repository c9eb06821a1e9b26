"""Makes one batch: DALI's graph processes the clips; other clips replace unreadable ones.

Letters: B clips, T frames, H and W space, C channels.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, MutableMapping, Sequence

import numpy as np
import torch
from torch import Tensor

from configs import DataError, MediaError
from model.media.decoder_engines import decoder_engines
from model.media.preprocess import EncodedClip, PreprocessConfig, Preprocessor
from train.data.clip_plan import PlannedClip
from train.data.clip_store import ClipRequest, Frames
from train.data.manifest import ManifestEntry
from train.data.quarantine import Quarantine
from train.data.readers import ClipReader, EncodedReader, read_clip

__all__ = ["Batch", "BatchMaker"]

_log = logging.getLogger(__name__)
_CPU_THREADS = 2  # of DALI's graph


@dataclasses.dataclass(frozen=True)
class Batch:
    """A batch: uint8 `clips_BTHWC`, class indices `labels_B`, and the `planned` clip of each.

    Both tensors are on the device of the network.
    """

    clips_BTHWC: Tensor
    labels_B: Tensor
    planned: tuple[PlannedClip, ...]


_Source = tuple[PlannedClip, Frames | EncodedClip]


class BatchMaker:
    """Makes batches from a list of planned clips.

    Args:
        planned: all planned clips; replacements for unreadable clips are chosen from them.
        reader: its store decodes the replacements in this process.
        preprocess: preprocessing settings of the network.
        max_batch: maximum number of clips in a batch.
        device: device that runs DALI's graph and holds the finished clips.
        quarantine: collects the videos that became unreadable; other clips replace their clips.
        left_out: without a quarantine, collects these videos and their errors; black frames replace
            their clips. Without either, an unreadable video raises its error.
    """

    def __init__(
        self,
        planned: Sequence[PlannedClip],
        *,
        reader: ClipReader,
        preprocess: PreprocessConfig,
        max_batch: int,
        device: torch.device,
        quarantine: Quarantine | None,
        left_out: MutableMapping[ManifestEntry, MediaError] | None = None,
    ) -> None:
        self._left_out = left_out
        self._planned = planned
        self._reader = reader
        self._quarantine = quarantine
        self._device = device
        on_gpu = device.type == "cuda"
        self._graph = Preprocessor(
            preprocess,
            max_batch=max_batch,
            device="gpu" if on_gpu else "cpu",
            threads=_decoder_threads(reader, device),
            gpu=device.index if on_gpu else None,
        )
        # A separate CUDA stream, so that copies do not wait for the network's kernels.
        self._stream: torch.cuda.Stream | None = None
        if on_gpu:
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def request(self, clip: PlannedClip) -> ClipRequest:
        """Return the request that tells a reader which frames to read, and at which size."""
        return ClipRequest(clip.entry, clip.start, self._graph.short_side(clip.view), clip.speed)

    def make(
        self, part: Sequence[PlannedClip], found: Sequence[Frames | EncodedClip | MediaError]
    ) -> Batch:
        """Return the batch of the clips `part`; `found` holds the reader's result for each of them.

        Raises:
            MediaError: a video is unreadable, and neither `quarantine` nor `left_out` was given.
            DataError: too many videos are unreadable.
        """
        sources = [self._replaced(clip, item) for clip, item in zip(part, found, strict=True)]
        if self._stream is None:
            return self._batch(sources)
        with torch.cuda.stream(self._stream):
            batch = self._batch(sources)
        # The batch is complete when it leaves this thread, so that training need not wait for it.
        self._stream.synchronize()
        for tensor in (batch.clips_BTHWC, batch.labels_B):
            tensor.record_stream(torch.cuda.default_stream(tensor.device))
        return batch

    def _batch(self, sources: list[_Source]) -> Batch:
        clips_BTHWC, sources = self._run(sources)
        planned = tuple(clip for clip, _ in sources)
        labels = [clip.label for clip in planned]
        return Batch(clips_BTHWC, torch.tensor(labels, device=self._device), planned)

    def _replaced(self, clip: PlannedClip, found: Frames | EncodedClip | MediaError) -> _Source:
        """Return the clip; if it is unreadable, another clip, with the same label if possible."""
        quarantine = self._quarantine
        if quarantine is None:
            return clip, self._black_frames(clip, found) if isinstance(found, MediaError) else found
        if clip.entry not in quarantine:
            if not isinstance(found, MediaError):
                return clip, found
            quarantine.add(clip.entry, str(found))
        for other in _others(clip, self._planned):
            if other.entry not in quarantine:
                item = self._read_here(other)
                if not isinstance(item, MediaError):
                    return other, item
                quarantine.add(other.entry, str(item))
        raise DataError(
            "every video of this epoch has become unreadable; check that their disk is mounted"
        )

    def _black_frames(self, clip: PlannedClip, error: MediaError) -> Frames:
        if self._left_out is None:
            raise error
        self._left_out[clip.entry] = error
        side = self._graph.short_side(clip.view)
        return np.zeros((self._reader.store.frames, side, side, 3), np.uint8)

    def _run(self, sources: list[_Source]) -> tuple[Tensor, list[_Source]]:
        """Return the graph's output; clips that DALI cannot decode are decoded in software."""
        try:
            return self._graph_output(sources), sources
        except MediaError:
            decodable = [
                (clip, item)
                if self._decodes(clip, item)
                else self._replaced(clip, self._read_here(clip))
                for clip, item in sources
            ]
            return self._graph_output(decodable), decodable

    def _read_here(self, clip: PlannedClip) -> Frames | MediaError:
        return read_clip(self._reader.store, self.request(clip))

    def _decodes(self, clip: PlannedClip, item: Frames | EncodedClip) -> bool:
        if not isinstance(item, EncodedClip):
            return True
        try:
            self._graph.decode([item], [clip.view])
        except MediaError as error:
            path = clip.entry.path
            _log.warning("%s: %s; this file will be decoded in software from now on", path, error)
            if isinstance(self._reader, EncodedReader):
                self._reader.leave_to_software(path)
            return False
        return True

    def _graph_output(self, sources: Sequence[_Source]) -> Tensor:
        """Return `B T H W C` for encoded and decoded clips, in their order.

        Raises:
            MediaError: DALI cannot decode one of the encoded clips.
        """
        views = [clip.view for clip, _ in sources]
        encoded: dict[int, EncodedClip] = {}
        decoded: dict[int, Frames] = {}
        for index, (_, item) in enumerate(sources):
            if isinstance(item, EncodedClip):
                encoded[index] = item
            else:
                decoded[index] = item
        # The graph overwrites its output in the next call, so the output is cloned.
        if not decoded:
            return self._graph.decode(list(encoded.values()), views).clone()
        if not encoded:
            return self._graph(list(decoded.values()), views).clone()
        clips = self._graph.decode(list(encoded.values()), [views[i] for i in encoded]).clone()
        outputs = dict(zip(encoded, clips, strict=True))
        clips = self._graph(list(decoded.values()), [views[i] for i in decoded]).clone()
        outputs |= dict(zip(decoded, clips, strict=True))
        return torch.stack([outputs[index] for index in range(len(sources))])


def _decoder_threads(reader: ClipReader, device: torch.device) -> int:
    """Return the number of threads of DALI's graph, which are also those of its decoder."""
    wanted = reader.decoder_threads if isinstance(reader, EncodedReader) else None
    if wanted is not None:
        return wanted
    return decoder_engines(device) if device.type == "cuda" else _CPU_THREADS


def _others(clip: PlannedClip, planned: Sequence[PlannedClip]) -> Iterator[PlannedClip]:
    """Yield possible replacements of a clip: first clips with its label, then all others.

    Both start after the clip in the plan and continue from the beginning of the plan.
    """
    place = next(index for index, other in enumerate(planned) if other is clip)
    following = [*planned[place + 1 :], *planned[:place]]
    yield from (other for other in following if other.label == clip.label)
    yield from (other for other in following if other.label != clip.label)
