"""One camera whose frames a program pushes: RGB frames in, sampled frames out."""

from __future__ import annotations

import collections
import logging
import math
import threading
import time
from collections.abc import Callable, Iterable

import av
import numpy as np
from numpy.typing import NDArray

from model.media.conversion import FrameConverter
from stream.ingest.config import ClipConfig, SourceConfig
from stream.ingest.handle import Outlet, Threads
from stream.ingest.sampler import Sampler
from stream.metrics import Metrics
from stream.types import (
    BreakReason,
    CameraOpened,
    DecodedFrame,
    EndReason,
    SampledFrame,
    StreamBreak,
    StreamItem,
)

__all__ = ["PushedCamera"]

_log = logging.getLogger(__name__)
_LOOK_SECONDS = 0.25
# A push waits this much longer for another thread that pushes a frame of the same camera.
_TURN_SECONDS = 1.0


class PushedCamera:
    """Samples the frames that a program pushes, from one opening of a camera to its end.

    The program's threads do the work in `push`. The camera's own thread only opens and ends it, and
    notices that nothing is pushed any more.

    Args:
        threads: of this opening; says when to end, and takes the camera's state.
        source: `read_timeout_seconds` and `max_pixels` are used.
        clip: how the frames are sampled.
        outlet: takes the items.
        short_side: pixels to which larger frames are scaled down.
        on_open: called with this object when frames can be pushed.
        on_close: called with this object when no more can be pushed.
    """

    def __init__(
        self,
        threads: Threads,
        *,
        source: SourceConfig,
        clip: ClipConfig,
        metrics: Metrics,
        outlet: Outlet,
        short_side: int,
        on_open: Callable[[PushedCamera], None],
        on_close: Callable[[PushedCamera], None],
    ) -> None:
        self._threads = threads
        self._status = threads.status
        self.camera = threads.status.camera
        self._is_recording = self.camera.pace == "fast"
        self._patience = math.inf if self._is_recording else source.read_timeout_seconds
        self._metrics = metrics
        self._outlet = outlet
        self._on_open = on_open
        self._on_close = on_close
        self._log_context = {"camera": self.camera.id}
        self._converter = FrameConverter(short_side, max_pixels=source.max_pixels)
        dropped = metrics.dropped_frames
        self._sampler = Sampler(
            self.camera.id,
            clip,
            self._convert,
            generation=threads.generation,
            on_repeat=metrics.repeated.labels(self.camera.id).inc,
            on_skip=lambda frames, reason: dropped.labels(self.camera.id, reason).inc(frames),
            is_live=not self._is_recording,
            on_unconverted=self._note_unconverted,
        )
        # Items of the latest frame for which there was no room; they go before all others.
        self._waiting: collections.deque[StreamItem] = collections.deque()
        self._latest_monotonic: float | None = None  # the last frame; None after a silence
        self._ended = threading.Event()
        self._turn = threading.Lock()  # one thread at a time uses the sampler

    def run(self) -> None:
        """Take frames until `end` is called or the threads are asked to end; never raises."""
        try:
            self._threads.resting = True  # nobody is to blame if a program pushes nothing
            self._set_recording(self._is_recording)
            opened = CameraOpened(self.camera, self._threads.generation, self._is_recording)
            self._outlet.put(opened, self._threads.stop)
            self._on_open(self)
            while not self._threads.stop.is_set() and not self._ended.wait(_LOOK_SECONDS):
                self._status.touch()
                self._look()
            self._on_close(self)
            self._finish()
        except Exception:  # the edge of the stage: one camera must never take the others along
            _log.exception(
                "camera %s: unexpected error; giving the camera up",
                self.camera.id,
                extra=self._log_context,
            )
            self._on_close(self)
            self._set_recording(False)  # it is started again
            self._status.end(EndReason.FAILED, "unexpected error, see the log")

    def push(
        self,
        frame_HWC: NDArray[np.uint8],
        pts_seconds: float,
        *,
        wall_seconds: float,
        timeout_seconds: float,
    ) -> bool:
        """Sample a frame; return False, and count it as dropped, if there was no room in time.

        Any thread may call this. The frame is copied.

        Args:
            frame_HWC: RGB, uint8 `H W 3`, C-contiguous.
            pts_seconds: its presentation time.
            wall_seconds: when it was taken, in seconds since 1970.
            timeout_seconds: maximum time to wait for room.
        """
        deadline = time.monotonic() + timeout_seconds
        seconds = min(timeout_seconds + _TURN_SECONDS, threading.TIMEOUT_MAX)
        if not self._turn.acquire(timeout=seconds):
            return self._drop("behind")
        try:
            if self._ended.is_set() or self._threads.stop.is_set():
                return self._drop("not_open")
            if not self._hand_over(deadline):
                return self._drop("behind")
            self._sample(frame_HWC, pts_seconds, wall_seconds)
            self._hand_over(deadline)
        finally:
            self._turn.release()
        return True

    def end(self) -> None:
        """Say that no more frames come; those that were pushed are analysed."""
        self._ended.set()

    # The methods below are called by the thread that has the turn.

    def _sample(
        self, frame_HWC: NDArray[np.uint8], pts_seconds: float, wall_seconds: float
    ) -> None:
        now = time.monotonic()
        height, width = frame_HWC.shape[:2]
        native = av.VideoFrame.from_ndarray(frame_HWC, format="rgb24")
        frame = DecodedFrame(native, pts_seconds, now, wall_seconds, width, height)
        self._status.count_decoded(now)
        self._waiting.extend(self._sampler.push(frame))
        if self._latest_monotonic is None:
            self._status.set_state("running")
        self._latest_monotonic = now

    def _hand_over(self, deadline: float) -> bool:
        """Put what waits into the outlet; return whether nothing is left."""
        while self._waiting:
            item = self._waiting[0]
            started_at = time.monotonic()
            seconds = deadline - started_at
            on_blocked = self._status.set_blocked if seconds > 0 else lambda blocked: None
            taken = self._outlet.put(
                item, self._threads.stop, on_blocked, max_wait_seconds=max(seconds, 0.0)
            )
            if not taken:
                return False
            self._waiting.popleft()
            if isinstance(item, SampledFrame):
                self._metrics.sampled.labels(item.camera_id).inc()
                waited = time.monotonic() - started_at
                self._metrics.blocked.labels(item.camera_id).inc(waited)
        return True

    def _drop(self, reason: str) -> bool:
        self._metrics.dropped_frames.labels(self.camera.id, reason).inc()
        return False

    def _convert(self, native: object) -> NDArray[np.uint8]:
        with self._metrics.stage.labels("convert").time():
            return self._converter(native)

    def _note_unconverted(self, problem: str) -> None:
        self._metrics.dropped_frames.labels(self.camera.id, "conversion").inc()
        _log.warning("camera %s: %s", self.camera.id, problem, extra=self._log_context)

    # The camera's own thread ----------------------------------------------------------------------

    def _look(self) -> None:
        """Hand over what waits, and notice a silence; a thread that pushes goes first."""
        if not self._turn.acquire(blocking=False):
            return
        try:
            self._hand_over(time.monotonic())
            latest = self._latest_monotonic
            if latest is not None and time.monotonic() - latest > self._patience:
                self._latest_monotonic = None
                self._interrupt(self._sampler.restart(BreakReason.STALLED))
                detail = f"no frame was pushed for {self._patience:g} s"
                self._status.set_state("stalled", detail)
        finally:
            self._turn.release()

    def _interrupt(self, items: Iterable[StreamItem]) -> None:
        self._waiting.extend(items)
        self._hand_over(time.monotonic())

    def _finish(self) -> None:
        """Hand over the last frames and the end; not if the threads were asked to end."""
        with self._turn:
            self._waiting.extend(self._sampler.finish())
            ended = StreamBreak(self.camera.id, BreakReason.ENDED, self._threads.generation)
            self._waiting.append(ended)
            if self._hand_over(math.inf):
                self._set_recording(True)  # it has ended and is not started again
                self._status.end(EndReason.FINISHED, "ended by its program")

    def _set_recording(self, is_recording: bool) -> None:
        self._status.set_source(is_recording=is_recording, read_timeout_seconds=0.0)
