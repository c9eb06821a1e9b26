"""One camera's threads: packets in, sampled frames out.

A file is read and decoded in one thread and waits for the analysis. A camera does not wait: its packets are taken in by
a thread of their own, and when decoding is behind, whole groups of pictures are dropped.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator

from model.video import PictureConverter
from stream.cameras import CameraStatus, Worker
from stream.decode import Decoder
from stream.frames import CameraState, CodedPacket, SampledFrame, StreamBreak
from stream.metrics import Metrics
from stream.packets import PacketQueue
from stream.sample import ClipConfig, Sampler
from stream.source import Source, SourceConfig

__all__ = ["CameraReader"]

_log = logging.getLogger(__name__)


class CameraReader:
    """Runs one worker of one camera.

    Args:
        hand_over: takes an item, waiting while there is no room; called from the decoding thread.
        short_side: to which pictures are scaled down while they are converted.
    """

    def __init__(
        self, status: CameraStatus, worker: Worker, *, source: SourceConfig, clip: ClipConfig, metrics: Metrics,
        hand_over: Callable[[SampledFrame | StreamBreak, CameraStatus, Worker], None], short_side: int,
    ) -> None:  # fmt: skip
        camera_id = status.camera.id
        self._status, self._worker, self._config, self._metrics = status, worker, source, metrics
        self._hand_over = hand_over
        self._source = Source(status.camera, source, worker.stop, self._set_state, metrics.reconnects.labels(camera_id).inc, self._rest)
        self._decoder = Decoder(metrics.corrupt.labels(camera_id).inc)
        self._sampler = Sampler(
            camera_id, clip, PictureConverter(short_side), metrics.repeated.labels(camera_id).inc, metrics.corrupt.labels(camera_id).inc
        )
        self._last_picture = time.monotonic()

    def run(self) -> None:
        """Read until the camera ends or its worker is stopped; never raises."""
        camera, stop = self._status.camera, self._worker.stop
        if self._status.generation > 1:
            self._give(self._sampler.restart("stalled"))
        try:
            self._decode(self._source.packets() if camera.is_file else self._live_packets())
        except Exception:  # the edge of the stage: one camera must never take the others along
            _log.exception("camera %s: unexpected error; the camera is given up", camera.id, extra={"camera": camera.id})
            self._set_state("ended", "unexpected error, see the log")
            if not camera.is_file:
                stop.set()  # the receiving thread must not go on alone
        if not stop.is_set():
            self._explain_end()
            self._give(StreamBreak(camera.id, "ended"))

    def _decode(self, packets: Iterable[CodedPacket]) -> None:
        for coded in packets:
            if self._worker.stop.is_set():
                return
            self._status.touch(received=self._status.camera.is_file)
            frames = self._decoder.decode(coded)
            if coded.packet is None:
                self._give(self._sampler.restart(coded.lost))
            if frames:
                self._last_picture = time.monotonic()
            self._check_pictures()
            for frame in frames:
                if self._worker.stop.is_set():
                    return
                self._status.frame_decoded(frame.wall_seconds)
                for item in self._sampler.push(frame):
                    self._give(item)

    def _live_packets(self) -> Iterator[CodedPacket]:
        """What the reading thread receives, until it has ended."""
        queue = PacketQueue(
            most_seconds=self._config.queue_seconds, most_bytes=self._config.queue_megabytes * 1e6, on_dropped=self._count_dropped
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
            _log.exception("camera %s: unexpected error while receiving", self._status.camera.id, extra={"camera": self._status.camera.id})
            self._set_state("ended", "unexpected error, see the log")
        finally:
            queue.close()

    def _check_pictures(self) -> None:
        """A camera that runs and gives no picture for long is to be opened again."""
        longest = self._config.read_timeout_seconds + self._config.open_timeout_seconds
        if self._status.state == "running" and time.monotonic() - self._last_picture > longest:
            self._last_picture = time.monotonic()
            self._source.give_up("packets come, but no picture can be decoded")

    def _rest(self, resting: bool) -> None:
        self._worker.resting = resting
        self._status.touch(decoded=self._status.camera.is_file)

    def _set_state(self, state: CameraState, detail: str) -> None:
        if state == "running":
            self._last_picture = time.monotonic()
        if not self._worker.stop.is_set():  # an abandoned worker that comes back must not speak for its replacement
            self._status.set_state(state, detail)

    def _count_dropped(self, packets: int) -> None:
        self._metrics.dropped.labels(self._status.camera.id, "decoder").inc(packets)

    def _give(self, item: SampledFrame | StreamBreak) -> None:
        if not self._worker.stop.is_set():
            self._hand_over(item, self._status, self._worker)

    def _explain_end(self) -> None:
        """A file that gave no picture is said to have given none."""
        decoded = self._metrics.total(self._metrics.decoded, camera=self._status.camera.id)
        if self._status.state == "ended" and decoded == 0 and self._status.detail == "end of file":
            self._set_state("ended", "no frame could be decoded")
