"""One camera's threads: packets in, sampled frames out.

A file is read and decoded in one thread and waits for the analysis. A camera does not wait: its
packets are received by a thread of their own, and when decoding is behind, whole groups of pictures
are dropped.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from model.media.conversion import FrameConverter
from stream.ingest.config import ClipConfig, SourceConfig
from stream.ingest.decoder import Decoder
from stream.ingest.handle import Outlet, Threads
from stream.ingest.packet_queue import PacketQueue
from stream.ingest.sampler import Sampler
from stream.ingest.source import Source
from stream.metrics import Metrics
from stream.types import (
    BreakReason,
    CameraOpened,
    CameraState,
    CodedPacket,
    EndReason,
    SampledFrame,
    StreamBreak,
    StreamItem,
)

__all__ = ["CameraWorker"]

_log = logging.getLogger(__name__)
_UNEXPECTED = "unexpected error, see the log"
_LOOK_SECONDS = 0.5
# A camera may send key frames so far apart; a new connection would not get one sooner.
_KEY_FRAME_SECONDS = 60.0


class CameraWorker:
    """Reads, decodes and samples one camera, from one opening to its end.

    Args:
        threads: of this opening; says when to end, and takes the camera's state.
        source: how the camera is opened.
        clip: how its frames are sampled.
        outlet: takes the items; called from the decoding thread.
        short_side: pixels to which frames are scaled down while they are converted to RGB.
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
    ) -> None:
        self._threads = threads
        self._status = threads.status
        self._camera = threads.status.camera
        self._config = source
        self._clip = clip
        self._metrics = metrics
        self._outlet = outlet
        self._log_context = {"camera": self._camera.id}
        corrupt = metrics.corrupt.labels(self._camera.id)
        self._source = Source(
            self._camera,
            source,
            threads.stop,
            on_state=self._set_state,
            on_end=self._end,
            on_reconnect=metrics.reconnects.labels(self._camera.id).inc,
            on_rest=self._rest,
        )
        self._decoder = Decoder(corrupt.inc)
        self._convert = FrameConverter(
            short_side, on_fallback=self._log_fallback, max_pixels=source.max_pixels
        )
        self._sampler: Sampler  # once it is known how the video comes
        self._is_found = self._camera.is_file  # whether it is known how its video comes
        self._has_key_frame = False  # whether one came on this connection
        self._last_pts_seconds: float | None = None
        self._unconverted = 0
        self._conversion_problem = ""
        self._converts = True  # whether the latest frame could be converted
        self._last_frame_monotonic = time.monotonic()
        self._decoded_before = metrics.total(metrics.decoded, camera=self._camera.id)
        self._corrupt_before = metrics.total(metrics.corrupt, camera=self._camera.id)

    def run(self) -> None:
        """Read until the camera ends or its threads are asked to end; never raises."""
        try:
            if not self._source.find():
                # It cannot be analysed; as a recording that has ended, it is not started again.
                self._status.set_source(is_recording=True, read_timeout_seconds=0.0)
            else:
                self._open()
                recording = self._source.facts.is_recording
                self._decode_all(self._source.packets() if recording else self._live_packets())
        except Exception:  # the edge of the stage: one camera must never take the others along
            self._log_exception("giving the camera up")
            self._end(EndReason.FAILED, _UNEXPECTED)
        self._emit(StreamBreak(self._camera.id, BreakReason.ENDED, self._threads.generation))
        if not self._source.facts.is_recording:
            self._threads.stop.set()  # the receiving thread must not go on alone

    def _open(self) -> None:
        facts = self._source.facts
        self._is_found = True
        self._status.set_source(
            is_recording=facts.is_recording, read_timeout_seconds=facts.read_timeout_seconds
        )
        self._sampler = self._new_sampler(is_live=not facts.is_recording)
        generation = self._threads.generation
        self._emit(CameraOpened(self._camera, generation, facts.is_recording))

    def _new_sampler(self, *, is_live: bool) -> Sampler:
        metrics = self._metrics
        return Sampler(
            self._camera.id,
            self._clip,
            self._timed_convert,
            generation=self._threads.generation,
            on_repeat=metrics.repeated.labels(self._camera.id).inc,
            on_skip=lambda frames, reason: metrics.dropped_frames.labels(
                self._camera.id, reason
            ).inc(frames),
            on_unconverted=self._count_unconverted,
            is_live=is_live,
        )

    # Packets --------------------------------------------------------------------------------------

    def _live_packets(self) -> Iterator[CodedPacket]:
        """What the receiving thread receives, until it has ended."""
        queue = PacketQueue(
            max_seconds=self._config.max_queue_seconds,
            max_bytes=self._config.max_queue_megabytes * 1e6,
            on_dropped=self._metrics.dropped_packets.labels(self._camera.id, "decoder").inc,
        )
        self._threads.spawn(lambda: self._receive(queue), "packets")
        while not queue.is_over and not self._threads.stop.is_set():
            coded = queue.take(_LOOK_SECONDS)
            self._status.touch(received=False)
            if coded is not None:
                yield coded
            else:
                self._check_frames()

    def _receive(self, queue: PacketQueue) -> None:
        try:
            for coded in self._source.packets():
                self._status.touch(decoded=False)
                if self._threads.stop.is_set():
                    return
                queue.put(coded)
        except Exception:  # the edge of the thread
            self._log_exception("receiving ended")
            self._end(EndReason.FAILED, _UNEXPECTED)
        finally:
            queue.close()

    # Frames ---------------------------------------------------------------------------------------

    def _decode_all(self, packets: Iterable[CodedPacket]) -> None:
        skipping = False  # until the next connection, after an error that nobody expected
        for coded in packets:
            if self._threads.stop.is_set():
                return
            skipping = skipping and coded.packet is not None
            if skipping:
                self._check_frames()
                continue
            try:
                self._decode(coded)
            except Exception:
                if self._source.facts.is_recording:
                    raise
                self._log_exception("reopening the camera")
                self._source.give_up(_UNEXPECTED)
                skipping = coded.packet is not None
        for item in self._sampler.finish():
            self._emit(item)

    def _decode(self, coded: CodedPacket) -> None:
        self._status.touch(received=self._source.facts.is_recording)
        with self._metrics.stage.labels("decode").time():
            frames = self._decoder.decode(coded)
        self._has_key_frame = coded.packet is not None and (self._has_key_frame or coded.is_key)
        if coded.packet is None:
            for item in self._sampler.restart(coded.lost):
                self._emit(item)
        if coded.repeated:
            return
        for frame in frames:
            if self._threads.stop.is_set():
                return
            self._status.count_decoded(frame.arrived_monotonic)
            for item in self._sampler.push(frame):
                self._emit(item)
            if self._converts and frame.pts_seconds != self._last_pts_seconds:
                self._last_pts_seconds = frame.pts_seconds
                # After the hand-over: if that took long, the camera is not to blame.
                self._last_frame_monotonic = time.monotonic()
        self._check_frames()

    def _timed_convert(self, native: object) -> NDArray[np.uint8]:
        with self._metrics.stage.labels("convert").time():
            rgb_HWC = self._convert(native)
        self._converts = True
        return rgb_HWC

    def _count_unconverted(self, problem: str) -> None:
        self._metrics.dropped_frames.labels(self._camera.id, "conversion").inc()
        if self._unconverted == 0:
            _log.warning("camera %s: %s", self._camera.id, problem, extra=self._log_context)
        self._unconverted += 1
        self._conversion_problem = problem
        self._converts = False

    def _log_fallback(self, message: str) -> None:
        _log.warning("camera %s: %s", self._camera.id, message, extra=self._log_context)

    def _check_frames(self) -> None:
        """Reopen a camera that runs and gives no new frame for long."""
        patience = self._source.facts.read_timeout_seconds + self._config.open_timeout_seconds
        if not self._has_key_frame:
            patience = max(patience, _KEY_FRAME_SECONDS)
        silent = time.monotonic() - self._last_frame_monotonic
        if self._status.state == "running" and silent > patience:
            self._last_frame_monotonic = time.monotonic()
            problem = "packets come, but no new frame"
            self._source.give_up(problem if self._converts else self._conversion_problem)

    def _emit(self, item: StreamItem) -> None:
        started_at = time.monotonic()
        taken = self._outlet.put(item, self._threads.stop, self._status.set_blocked)
        if taken and isinstance(item, SampledFrame):
            self._metrics.sampled.labels(item.camera_id).inc()
            self._metrics.blocked.labels(item.camera_id).inc(time.monotonic() - started_at)

    # States ---------------------------------------------------------------------------------------

    def _rest(self, resting: bool) -> None:
        self._threads.resting = resting
        # Until it is known how the video comes, one thread does everything.
        self._status.touch(decoded=self._source.facts.is_recording or not self._is_found)

    def _set_state(self, state: CameraState, detail: str) -> None:
        if state == "running":
            self._last_frame_monotonic = time.monotonic()
        # An abandoned worker that comes back must not speak for its replacement.
        if not self._threads.stop.is_set():
            self._status.set_state(state, detail)

    def _end(self, reason: EndReason, detail: str | None = None) -> None:
        if self._threads.stop.is_set():
            return
        if reason is EndReason.FINISHED and (problem := self._problem_of_file()) is not None:
            self._status.end(EndReason.FAILED, problem)
        else:
            self._status.end(reason, detail)

    def _problem_of_file(self) -> str | None:
        """What was wrong with a file that was read to its end; None if nothing was."""
        metrics = self._metrics
        decoded = metrics.total(metrics.decoded, camera=self._camera.id) - self._decoded_before
        corrupt = metrics.total(metrics.corrupt, camera=self._camera.id) - self._corrupt_before
        if not decoded:
            return "no frame could be decoded"
        problems = []
        if corrupt:
            problems.append(f"{corrupt} packets could not be decoded")
        if self._unconverted:
            problems.append(
                f"{self._unconverted} frames could not be converted ({self._conversion_problem})"
            )
        return ", ".join([EndReason.FINISHED.value, *problems]) if problems else None

    def _log_exception(self, consequence: str) -> None:
        _log.exception(
            "camera %s: unexpected error; %s",
            self._camera.id,
            consequence,
            extra=self._log_context,
        )
