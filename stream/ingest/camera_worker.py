"""One camera's threads: packets in, sampled frames out.

A file is read and decoded in one thread and waits for the analysis. A camera does not wait: its
packets are received by a thread of their own, and when decoding is behind, whole groups of pictures
are dropped.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterable, Iterator

from stream.ingest.camera_frames import CameraFrames
from stream.ingest.config import ClipConfig, SourceConfig
from stream.ingest.decode_stage import DecodeStage
from stream.ingest.decoder_pool import DecoderPool
from stream.ingest.handle import Outlet, Threads
from stream.ingest.packet_queue import PacketQueue
from stream.ingest.source import Source
from stream.metrics import Metrics
from stream.types import (
    BreakReason,
    CameraOpened,
    CameraState,
    CodedPacket,
    DecodedFrame,
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
        short_side: pixels to which software scales frames down while it converts them to RGB.
        decoding: DALI's decoder of all cameras; None: it does not decode.
        pool: the GPU's decoders for packets; None: they do not decode.
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
        decoding: DecodeStage | None = None,
        pool: DecoderPool | None = None,
    ) -> None:
        self._threads = threads
        self._status = threads.status
        self._camera = threads.status.camera
        self._config = source
        self._clip = clip
        self._metrics = metrics
        self._outlet = outlet
        self._short_side = short_side
        self._decoding = decoding
        self._pool = pool
        self._log_context = {"camera": self._camera.id}
        self._source = Source(
            self._camera,
            source,
            threads.stop,
            on_state=self._set_state,
            on_end=self._end,
            on_reconnect=metrics.reconnects.labels(self._camera.id).inc,
            on_rest=self._rest,
        )
        self._frames: CameraFrames  # once it is known how the video comes
        self._note = ""  # how it is decoded, if it was to be decoded in another way
        self._is_found = self._camera.is_file  # whether it is known how its video comes
        self._has_key_frame = False  # whether one came on this connection
        self._last_pts_seconds: float | None = None
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
                packets = self._frames.prepared(self._source.packets())
                with contextlib.closing(self._frames):
                    self._decode_all(packets if recording else self._live_packets(packets))
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
        self._frames = self._new_frames(is_live=not facts.is_recording)
        generation = self._threads.generation
        opened = (self._camera, generation, facts.is_recording, self._status.epoch)
        self._emit(CameraOpened(*opened))

    def _new_frames(self, *, is_live: bool) -> CameraFrames:
        return CameraFrames(
            self._camera.id,
            generation=self._threads.generation,
            is_live=is_live,
            source=self._config,
            clip=self._clip,
            metrics=self._metrics,
            short_side=self._short_side,
            stage=self._decoding,
            pool=self._pool,
            stop=self._threads.stop,
            on_frame=self._note_frame,
            on_software=self._note_software,
            on_wait=self._touch,
        )

    # Packets --------------------------------------------------------------------------------------

    def _live_packets(self, packets: Iterable[CodedPacket]) -> Iterator[CodedPacket]:
        """What the receiving thread receives, until it has ended."""
        queue = PacketQueue(
            max_seconds=self._config.max_queue_seconds,
            max_bytes=self._config.max_queue_megabytes * 1e6,
            on_dropped=self._metrics.dropped_packets.labels(self._camera.id, "decoder").inc,
        )
        self._threads.spawn(lambda: self._receive(packets, queue), "packets")
        while not queue.is_over and not self._threads.stop.is_set():
            coded = queue.take(_LOOK_SECONDS)
            self._status.touch(received=False)
            if coded is not None:
                yield coded
            else:
                self._check_frames()

    def _receive(self, packets: Iterable[CodedPacket], queue: PacketQueue) -> None:
        try:
            for coded in packets:
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
        for item in self._frames.finish():
            self._emit(item)

    def _decode(self, coded: CodedPacket) -> None:
        self._touch()
        self._has_key_frame = coded.packet is not None and (self._has_key_frame or coded.is_key)
        for item in self._frames.take(coded):
            self._emit(item)
        if not coded.repeated:
            self._check_frames()

    def _touch(self) -> None:
        self._status.touch(received=self._source.facts.is_recording)

    def _note_frame(self, frame: DecodedFrame, converts: bool) -> None:
        self._status.count_decoded(frame.arrived_monotonic)
        self._converts = converts
        if converts and frame.pts_seconds != self._last_pts_seconds:
            self._last_pts_seconds = frame.pts_seconds
            # After the hand-over: if that took long, the camera is not to blame.
            self._last_frame_monotonic = time.monotonic()

    def _note_software(self, detail: str) -> None:
        """Show how a camera is decoded that was to be decoded in another way, by name."""
        if self._config.decoder in ("nvdec", "dali"):
            self._note = detail
            if self._status.state == "running":
                self._set_state("running", "")

    def _check_frames(self) -> None:
        """Reopen a camera that runs and gives no new frame for long."""
        patience = self._source.facts.read_timeout_seconds + self._config.open_timeout_seconds
        if not self._has_key_frame:
            patience = max(patience, _KEY_FRAME_SECONDS)
        silent = time.monotonic() - self._last_frame_monotonic
        if self._status.state == "running" and silent > patience:
            self._last_frame_monotonic = time.monotonic()
            problem = "packets come, but no new frame"
            self._source.give_up(problem if self._converts else self._frames.conversion_problem)

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
            note = self._note if state == "running" else ""
            self._status.set_state(state, detail or note)

    def _end(self, reason: EndReason, detail: str | None = None) -> None:
        if self._threads.stop.is_set():
            return
        if reason is EndReason.FINISHED and (problem := self._problem_of_file()) is not None:
            self._status.end(EndReason.FAILED, problem)
        else:
            self._status.end(reason, detail)

    def _problem_of_file(self) -> str | None:
        """What was wrong with a file that was read to its end; None if nothing was."""
        metrics, frames = self._metrics, self._frames
        decoded = metrics.total(metrics.decoded, camera=self._camera.id) - self._decoded_before
        corrupt = metrics.total(metrics.corrupt, camera=self._camera.id) - self._corrupt_before
        if not decoded:
            return "no frame could be decoded"
        problems = []
        if corrupt:
            problems.append(f"{corrupt} packets could not be decoded")
        if frames.unconverted:
            problems.append(
                f"{frames.unconverted} frames could not be converted ({frames.conversion_problem})"
            )
        return ", ".join([EndReason.FINISHED.value, *problems]) if problems else None

    def _log_exception(self, consequence: str) -> None:
        _log.exception(
            "camera %s: unexpected error; %s",
            self._camera.id,
            consequence,
            extra=self._log_context,
        )
