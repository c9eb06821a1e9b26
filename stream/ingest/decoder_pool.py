"""The GPU's decoders of all cameras (NVDEC, packet by packet), in a few threads.

A GPU has two to seven engines. More threads than engines keep them busy while Python does
something else; with many more, they would only wait for each other.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, Literal

import torch

from configs import MediaError
from model.device_streams import DeviceStream
from model.media.nvdec import (
    DecoderCaps,
    NvdecSession,
    Surface,
    decoder_caps,
    nvdec_module,
    why_not_nvdec,
)
from stream.ingest.decoder_lane import CallAbandonedError, DecoderLane, LaneHungError, Result

__all__ = ["DecoderPool", "Seat", "open_pool"]

_MIN_LANES, _MAX_LANES = 7, 14
# A packet takes milliseconds, and a decoder is created within a second.
_PATIENCE_SECONDS = 10.0
# Creating a decoder allocates memory and stops the GPU for a moment: not for many at a time.
_MAX_CREATED_AT_ONCE = 2
_LOOK_SECONDS = 0.25
_log = logging.getLogger(__name__)


class DecoderPool:
    """Gives each camera a seat in the lane that has the fewest; it keeps it to its end.

    A lane that hangs is replaced, and its cameras go on in software. While as many as there are
    lanes hang, the driver is broken, and cameras that come then are refused.

    Args:
        module: PyNvVideoCodec.
        device: where the surfaces are; a CPU only in tests.
        lanes: number of threads; None: as many as the GPU has engines, but 7 to 14.
        patience_seconds: a call that takes longer hangs.
    """

    def __init__(
        self,
        module: Any,
        device: torch.device,
        *,
        lanes: int | None = None,
        patience_seconds: float = _PATIENCE_SECONDS,
    ) -> None:
        self._module = module
        self._device = device
        self._gpu = device.index or 0
        self._patience_seconds = patience_seconds
        self._lock = threading.Lock()
        self._creating = threading.BoundedSemaphore(_MAX_CREATED_AT_ONCE)
        self._made = 0
        self._is_closed = False
        self._given_up: list[DecoderLane] = []
        count = lanes or min(max(self.caps("h264", 8).engines, _MIN_LANES), _MAX_LANES)
        self._lanes = [self._new_lane() for _ in range(count)]

    def caps(self, codec: str, bit_depth: int) -> DecoderCaps:
        """Return what the GPU decodes.

        Raises:
            MediaError: the driver does not answer.
        """
        return decoder_caps(self._module, gpu=self._gpu, codec=codec, bit_depth=bit_depth)

    @staticmethod
    def suits(choice: Literal["auto", "nvdec", "dali", "software"]) -> bool:
        """Whether cameras with this `source.decoder` are decoded here, if their video allows."""
        return choice in ("auto", "nvdec")

    def take_seat(self, is_stopped: Callable[[], bool] = lambda: False) -> Seat:
        """Give a camera a place in a lane.

        Args:
            is_stopped: whether the camera should end; asked while it waits.

        Raises:
            LaneHungError: too many lanes hang.
            MediaError: the pool is closed.
        """
        with self._lock:
            if self._is_closed:
                raise MediaError("the GPU's decoders are closed")
            self._replace_hung()
            if len(self._given_up) >= len(self._lanes):
                raise LaneHungError(
                    f"{len(self._given_up)} threads hang in the GPU's decoder; check the driver's"
                    " log and restart"
                )
            lane = min(self._lanes, key=lambda lane: lane.seats)
            lane.seats += 1
        return Seat(self, lane, is_stopped)

    @property
    def open_decoders(self) -> int:
        """Number of decoders that exist now."""
        with self._lock:
            lanes = [*self._lanes, *self._given_up]
        return sum(lane.open_decoders for lane in lanes)

    def busy_seconds(self) -> float:
        """Seconds for which the threads made calls, divided by the number of threads."""
        with self._lock:
            lanes = [*self._lanes, *self._given_up]
            return sum(lane.busy_seconds for lane in lanes) / len(self._lanes)

    @property
    def abandoned(self) -> int:
        """Number of threads that were given up and still hang in the decoder's library."""
        with self._lock:
            self._replace_hung()
            return len(self._given_up)

    def close(self) -> None:
        """End the threads and close the decoders; a thread that hangs is left."""
        with self._lock:
            self._is_closed = True
            lanes = list(self._lanes)
        for lane in lanes:
            lane.stop()
        for lane in lanes:
            while not lane.join(min(_LOOK_SECONDS, self._patience_seconds)):
                if lane.hangs():
                    _log.error("a call of the GPU's decoder hangs; its thread is left")
                    break

    # For seats ------------------------------------------------------------------------------------

    def leave(self, lane: DecoderLane) -> None:
        """Note that a camera has left its seat."""
        with self._lock:
            lane.seats -= 1

    def create(
        self, lane: DecoderLane, work: Callable[[], Result], is_stopped: Callable[[], bool]
    ) -> Result:
        """Create a decoder in a lane; wait while others are being created.

        Raises:
            CallAbandonedError, LaneHungError, CidcError: see `DecoderLane.call`.
        """
        while not self._creating.acquire(timeout=_LOOK_SECONDS):
            if is_stopped():
                raise CallAbandonedError
        try:
            return lane.call(work, is_stopped)
        finally:
            self._creating.release()

    def new_session(self, lane: DecoderLane, **settings: Any) -> NvdecSession:
        """Create a decoder; called in the lane's thread. For the settings see `NvdecSession`."""
        return NvdecSession(self._module, gpu=self._gpu, stream=lane.stream, **settings)

    def _new_lane(self) -> DecoderLane:
        self._made += 1
        return DecoderLane(self._made, self._device, self._patience_seconds)

    def _replace_hung(self) -> None:
        """Put new lanes in the place of those that hang, and forget those that came back.

        Called with the lock held.
        """
        self._given_up = [lane for lane in self._given_up if not lane.join(0.0)]
        for index, lane in enumerate(self._lanes):
            if not self._is_closed and lane.hangs():
                _log.error("a call of the GPU's decoder hangs; a new thread takes its place")
                self._given_up.append(lane)
                self._lanes[index] = self._new_lane()


class Seat:
    """One camera's place in a lane, with at most one decoder. One thread uses it.

    All methods but `close` wait for the lane, and raise:
        CallAbandonedError: the camera was stopped.
        LaneHungError: the lane hangs; the seat is lost.
        DeviceMemoryError, MediaError: see `NvdecSession`.
    """

    def __init__(
        self, pool: DecoderPool, lane: DecoderLane, is_stopped: Callable[[], bool]
    ) -> None:
        self.pool = pool
        self._lane = lane
        self._is_stopped = is_stopped
        self._session: NvdecSession | None = None
        self._is_left = False
        self._is_fresh = False

    @property
    def stream(self) -> DeviceStream:
        """The stream of the decoder and of its surfaces."""
        return self._lane.stream

    def open(self, *, codec: str, max_size: tuple[int, int], keeps_order: bool) -> None:
        """Create the decoder; it replaces the one before."""

        def create() -> None:
            self._close()  # first, so that the GPU never holds both
            settings: dict[str, Any] = {"max_size": max_size, "keeps_order": keeps_order}
            self._session = self.pool.new_session(self._lane, codec=codec, **settings)
            self._lane.keep(self._session)

        self.pool.create(self._lane, create, self._is_stopped)
        self._is_fresh = True

    def decode(self, data: bytes, tag: int) -> list[Surface]:
        """Decode a packet; the first one creates the decoder in hardware."""
        if self._is_fresh:
            surfaces = self.pool.create(
                self._lane, lambda: self._opened().decode(data, tag), self._is_stopped
            )
            self._is_fresh = False
            return surfaces
        return self._lane.call(lambda: self._opened().decode(data, tag), self._is_stopped)

    @property
    def is_fresh(self) -> bool:
        """Whether the decoder has not decoded a packet yet."""
        return self._is_fresh

    def flush(self) -> list[Surface]:
        """Return the frames that the decoder still holds; it then waits for a key frame."""
        return self._lane.call(lambda: self._opened().flush(), self._is_stopped)

    def resize(self, size: tuple[int, int]) -> bool:
        """Prepare the decoder for another size; return whether this is possible."""
        return self._lane.call(lambda: self._opened().resize(size), self._is_stopped)

    def close(self) -> None:
        """Close the decoder and leave the lane; does not wait."""
        if not self._is_left:
            self._is_left = True
            self.pool.leave(self._lane)
            self._lane.post(self._close)

    def _opened(self) -> NvdecSession:
        if self._session is None:
            raise MediaError("the camera has no decoder")
        return self._session

    def _close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            self._lane.close(session)


def open_pool(device: torch.device) -> DecoderPool | None:
    """Make the pool for the device of the network; None if NVDEC cannot be used there.

    Raises:
        MediaError: the driver does not answer.
    """
    if device.type != "cuda" or why_not_nvdec():
        return None
    gpu = torch.cuda.current_device() if device.index is None else device.index
    return DecoderPool(nvdec_module(), torch.device("cuda", gpu))
