"""One camera's threads: packets in, sampled frames out.

A file is read and decoded in one thread and waits for the analysis. A camera does not wait: its
packets are taken in by a thread of their own, and when decoding is behind, whole groups of pictures
are dropped.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from model.media.conversion import FrameConverter
from stream.cameras.status import CameraStatus
from stream.cameras.supervisor import Worker
from stream.ingest.config import ClipConfig, SourceConfig
from stream.ingest.decoder import Decoder
from stream.ingest.packet_queue import PacketQueue
from stream.ingest.sampler import Sampler
from stream.ingest.source import Source
from stream.metrics import Metrics
from stream.types import CameraState, CodedPacket, SampledFrame, StreamBreak

__all__ = ["CameraReader"]

_log = logging.getLogger(__name__)
_UNEXPECTED = "unexpected error, see the log"


class CameraReader:
    """Runs one worker of one camera.

    Args:
        hand_over: takes an item, waiting while there is no room; called from the decoding thread.
        short_side: to which pictures are scaled down while they are converted.
    """

    def __init__(
        self,
        status: CameraStatus,
        worker: Worker,
        *,
        source: SourceConfig,
        clip: ClipConfig,
        metrics: Metrics,
        hand_over: Callable[[SampledFrame | StreamBreak, CameraStatus, Worker], None],
        short_side: int,
    ) -> None:
        camera_id = status.camera.id
        self._status = status
        self._worker = worker
        self._config = source
        self._metrics = metrics
        self._hand_over = hand_over
        self._source = Source(
            status.camera,
            source,
            worker.stop,
            self._set_state,
            metrics.reconnects.labels(camera_id).inc,
            self._rest,
        )
        self._decoder = Decoder(metrics.corrupt.labels(camera_id).inc)
        self._convert = FrameConverter(short_side)
        self._convert_time = metrics.stage.labels("convert")
        self._decode_time = metrics.stage.labels("decode")
        self._sampler = Sampler(
            camera_id,
            clip,
            self._timed_convert,
            metrics.repeated.labels(camera_id).inc,
            metrics.corrupt.labels(camera_id).inc,
        )
        self._last_picture = time.monotonic()
        self._about = {"camera": camera_id}
        self._before = (
            metrics.total(metrics.decoded, camera=camera_id),
            metrics.total(metrics.corrupt, camera=camera_id),
        )

    def run(self) -> None:
        """Read until the camera ends or its worker is stopped; never raises."""
        camera = self._status.camera
        stop = self._worker.stop
        try:
            self._decode(self._source.packets() if camera.is_file else self._live_packets())
        except Exception:  # the edge of the stage: one camera must never take the others along
            _log.exception(
                "camera %s: unexpected error; the camera is given up", camera.id, extra=self._about
            )
            self._set_state("ended", _UNEXPECTED)
        self._give(StreamBreak(camera.id, "ended"))
        if not camera.is_file:
            stop.set()  # the receiving thread must not go on alone

    def _decode(self, packets: Iterable[CodedPacket]) -> None:
        skipping = False
        for coded in packets:
            if self._worker.stop.is_set():
                return
            skipping = skipping and coded.packet is not None
            if skipping:
                self._check_pictures()
                continue
            try:
                self._take(coded)
            except Exception:
                if self._status.camera.is_file:
                    raise
                _log.exception(
                    "camera %s: unexpected error; it is opened again",
                    self._status.camera.id,
                    extra=self._about,
                )
                self._source.give_up(_UNEXPECTED)
                skipping = coded.packet is not None  # until the next connection

    def _take(self, coded: CodedPacket) -> None:
        self._status.touch(received=self._status.camera.is_file)
        with self._decode_time.time():
            frames = self._decoder.decode(coded)
        if coded.packet is None:
            self._give(self._sampler.restart(coded.lost))
        for frame in frames:
            if self._worker.stop.is_set():
                return
            self._status.frame_decoded(frame.arrived_monotonic)
            for item in self._sampler.push(frame):
                self._give(item)
                # after it was handed over: if that took long, the camera is not to blame
                self._last_picture = time.monotonic()
        self._check_pictures()

    def _timed_convert(self, native: object) -> NDArray[np.uint8]:
        with self._convert_time.time():
            return self._convert(native)

    def _live_packets(self) -> Iterator[CodedPacket]:
        """What the reading thread receives, until it has ended."""
        queue = PacketQueue(
            most_seconds=self._config.queue_seconds,
            most_bytes=self._config.queue_megabytes * 1e6,
            on_dropped=self._count_dropped,
        )
        self._worker.spawn(lambda: self._receive(queue), "packets")
        while not queue.is_over and not self._worker.stop.is_set():
            coded = queue.take(0.5)
            self._status.touch(received=False)
            if coded is not None:
                yield coded
            else:
                self._check_pictures()

    def _receive(self, queue: PacketQueue) -> None:
        try:
            for coded in self._source.packets():
                self._status.touch(decoded=False)
                if self._worker.stop.is_set():
                    return
                queue.put(coded)
        except Exception:  # the edge of the thread
            _log.exception(
                "camera %s: unexpected error while receiving",
                self._status.camera.id,
                extra=self._about,
            )
            self._set_state("ended", _UNEXPECTED)
        finally:
            queue.close()

    def _check_pictures(self) -> None:
        """A camera that runs and gives no new picture for long is to be opened again."""
        longest = self._config.read_timeout_seconds + self._config.open_timeout_seconds
        if self._status.state == "running" and time.monotonic() - self._last_picture > longest:
            self._last_picture = time.monotonic()
            self._source.give_up("packets come, but no new picture")

    def _rest(self, resting: bool) -> None:
        self._worker.resting = resting
        self._status.touch(decoded=self._status.camera.is_file)

    def _set_state(self, state: CameraState, detail: str) -> None:
        if state == "running":
            self._last_picture = time.monotonic()
        if state == "ended" and detail == "end of file":
            detail = self._file_end()
        # an abandoned worker that comes back must not speak for its replacement
        if not self._worker.stop.is_set():
            self._status.set_state(state, detail)

    def _count_dropped(self, packets: int) -> None:
        self._metrics.dropped.labels(self._status.camera.id, "decoder").inc(packets)

    def _give(self, item: SampledFrame | StreamBreak) -> None:
        if not self._worker.stop.is_set():
            self._hand_over(item, self._status, self._worker)

    def _file_end(self) -> str:
        """How a file ended: one that gave no picture, or had packets that did not decode, is
        said to have.
        """
        metrics = self._metrics
        camera_id = self._status.camera.id
        corrupt = metrics.total(metrics.corrupt, camera=camera_id) - self._before[1]
        if metrics.total(metrics.decoded, camera=camera_id) == self._before[0]:
            return "no frame could be decoded"
        return f"end of file, {corrupt} packets could not be decoded" if corrupt else "end of file"
