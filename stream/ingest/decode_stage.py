"""The decoding thread: groups of pictures of many cameras, together in one run of DALI.

A camera waits for its group before it hands over the next one. That keeps the order of each camera,
is fair between cameras, and bounds what waits: one group of each.
"""

from __future__ import annotations

import collections
import dataclasses
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

import torch

from configs import MediaError
from model.media.decoder_engines import decoder_engines
from model.media.gop_decoder import EncodedGop, GopDecoder
from stream.ingest.decodable import DecoderDevice
from stream.stage import Stage

__all__ = ["BatchDecoder", "DecodeStage"]

_LOOK_SECONDS = 0.5
_MAX_BATCH = 16
_ENDED = "the decoding thread has ended"


class BatchDecoder(Protocol):
    """What decodes a batch of groups; see `model.media.gop_decoder.GopDecoder`."""

    @property
    def max_batch(self) -> int:
        """Maximum number of groups in one call."""

    def decode(self, gops: Sequence[EncodedGop]) -> list[list[Any]]:
        """Decode the wanted frames of each group; raise `MediaError` if one cannot be decoded."""


@dataclasses.dataclass(eq=False)
class _Request:
    """One group on its way through the thread; afterwards its frames, or what was wrong."""

    gop: EncodedGop
    done: threading.Event = dataclasses.field(default_factory=threading.Event)
    frames: list[Any] = dataclasses.field(default_factory=list)
    problem: str | None = None
    is_abandoned: bool = False


class DecodeStage(Stage):
    """Decodes groups of pictures for all cameras.

    Args:
        decoder: used by this thread only.
        device: where it decodes.
        deadline_seconds: a group waits for no longer than this for groups of other cameras.
        max_bytes: decoded frames in one batch; a group that is larger goes alone.
    """

    def __init__(
        self,
        decoder: BatchDecoder,
        device: DecoderDevice,
        *,
        deadline_seconds: float = 0.01,
        max_bytes: int = 2_000_000_000,
    ) -> None:
        super().__init__("decoding")
        self.device = device
        self._decoder = decoder
        self._deadline_seconds = deadline_seconds
        self._max_bytes = max_bytes
        self._waiting: collections.deque[_Request] = collections.deque()
        self._changed = threading.Condition()
        self._has_ended = False

    @classmethod
    def on(cls, device: torch.device) -> DecodeStage:
        """Make one that decodes with DALI on the device of the network."""
        if device.type != "cuda":
            return cls(GopDecoder(max_batch=_MAX_BATCH), DecoderDevice("cpu"))
        gpu = torch.cuda.current_device() if device.index is None else device.index
        engines = decoder_engines(torch.device("cuda", gpu))  # more threads would wait for them
        decoder = GopDecoder(max_batch=_MAX_BATCH, device="gpu", threads=engines, gpu=gpu)
        return cls(decoder, DecoderDevice("gpu", torch.cuda.get_device_capability(gpu)))

    def suits(self, choice: Literal["auto", "nvdec", "dali", "software"]) -> bool:
        """Whether cameras with this `source.decoder` are decoded here, if their video allows."""
        return choice == "dali" or (choice == "auto" and self.device.kind == "gpu")

    def decode(
        self, gop: EncodedGop, is_stopped: Callable[[], bool] = lambda: False
    ) -> list[Any] | None:
        """Wait until a group is decoded; called by the camera's thread.

        Args:
            is_stopped: asked now and then; if it says yes, the group is abandoned.

        Returns:
            The wanted frames, uint8 `H W 3`; None if the camera was stopped.

        Raises:
            MediaError: it cannot be decoded.
        """
        request = _Request(gop)
        with self._changed:
            if self._has_ended:
                raise MediaError(_ENDED)
            self._waiting.append(request)
            self._changed.notify()
        while not request.done.wait(_LOOK_SECONDS):
            if is_stopped():
                request.is_abandoned = True
                return None
        if request.problem is not None:
            raise MediaError(request.problem)
        return request.frames

    def stop(self) -> None:
        """Ask the thread to end; groups that still wait are refused."""
        super().stop()
        with self._changed:
            self._changed.notify_all()

    def run(self) -> None:
        """Decode until `stop` is called."""
        try:
            while not self.stopping.is_set():
                self.beat()
                with self.waiting():
                    batch = self._take()
                self._decode_all(batch)
        finally:
            with self._changed:
                self._has_ended = True
                left = list(self._waiting)
                self._waiting.clear()
            for request in left:
                self._finish(request, problem=_ENDED)

    def _take(self) -> list[_Request]:
        """Wait for a group, then a moment for others."""
        with self._changed:
            if not self._waiting:
                self._changed.wait(_LOOK_SECONDS)
            if not self._waiting:
                return []
            deadline = time.monotonic() + self._deadline_seconds
            while len(self._waiting) < self._decoder.max_batch and not self.stopping.is_set():
                if not self._changed.wait(deadline - time.monotonic()):
                    break
            return self._batch()

    def _batch(self) -> list[_Request]:
        """Remove the groups that waited longest; called with the lock held."""
        batch: list[_Request] = []
        size = 0
        while self._waiting and len(batch) < self._decoder.max_batch:
            request = self._waiting[0]
            size += request.gop.decoded_bytes
            if batch and size > self._max_bytes:
                break
            self._waiting.popleft()
            if not request.is_abandoned:
                batch.append(request)
        return batch

    def _decode_all(self, batch: list[_Request]) -> None:
        try:
            if batch:
                self._decode(batch)
        finally:  # whatever happens, no camera waits for ever
            for request in batch:
                if not request.done.is_set():
                    self._finish(request, problem=_ENDED)

    def _decode(self, batch: list[_Request]) -> None:
        try:
            results = self._decoder.decode([request.gop for request in batch])
        except MediaError as error:
            if len(batch) == 1:
                self._finish(batch[0], problem=str(error))
                return
            for request in batch:  # one of them is bad: the others must not suffer for it
                self.beat()
                self._decode([request])
        else:
            for request, frames in zip(batch, results, strict=True):
                self._finish(request, frames=frames)

    @staticmethod
    def _finish(
        request: _Request, *, frames: Sequence[Any] = (), problem: str | None = None
    ) -> None:
        request.frames = list(frames)
        request.problem = problem
        request.done.set()
