"""The only wiring: cameras -> inbox -> preprocessing -> ring -> batches -> network -> events -> outbox -> Kafka.

Threads: one per camera (source, decode, sample); `analysis` (preprocess, ring, batch); `inference` (network, events,
outbox); publisher; HTTP. Every hand-over between them is bounded, and a full one makes the side before it wait.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from av.error import FFmpegError
from torch import Tensor

from configs import OutboxError
from model.preprocess import Preprocessor
from model.runtime import keep_freed_memory
from model.video import frame_picture
from stream.batch import Inbox, WindowBatch
from stream.cameras import CameraStatus, Fleet
from stream.decode import Decoder
from stream.events import ActionEvent, EventDetector
from stream.frames import CodedPacket, SampledFrame, StreamBreak, Window
from stream.http import HttpServer
from stream.infer import Recogniser
from stream.metrics import Metrics
from stream.outbox import Outbox
from stream.publish import Publisher
from stream.ring import ClipRing
from stream.sample import Sampler
from stream.settings import StreamConfig, check_settings
from stream.source import Source
from stream.summary import LatencyLog, build_summary

__all__ = ["Pipeline"]

_log = logging.getLogger(__name__)
_MOST_FRAMES_AT_ONCE = 16
_MOST_UNSAVED = 100_000


@dataclasses.dataclass(frozen=True)
class _Clips:
    """A batch on its way to the network: uint8 `clips_BTHWC` and which clip is whose."""

    clips_BTHWC: Tensor
    windows: tuple[Window, ...]


class Pipeline:
    """Everything that `python -m stream run` runs. Construction checks and loads; `run` starts the cameras.

    Raises:
        CidcError: the configuration cannot be used as it is.
    """

    def __init__(self, config: StreamConfig) -> None:
        spec = check_settings(config)
        keep_freed_memory()
        self.config, self.spec, self.metrics, self.latency = config, spec, Metrics(), LatencyLog()
        self.recent_events: collections.deque[ActionEvent] = collections.deque(maxlen=8)
        self._outbox = Outbox(config.outbox, lambda kind: self.metrics.outbox_dropped.labels(kind).inc())
        self.metrics.outbox_events.set_function(self._outbox_size)
        self.metrics.outbox_age.set_function(self._outbox_age)
        self._unsaved: collections.deque[ActionEvent] = collections.deque(maxlen=_MOST_UNSAVED)
        self._started, self.failed = threading.Event(), False
        self._http = self._serve()
        try:
            self._recogniser = Recogniser(config.infer)
            self._recogniser.warm_up(config.batch.max_batch)
            self._publisher = self._connect()
            self._build_stages()
        except BaseException:
            self._close_quietly()
            raise

    def _build_stages(self) -> None:
        config, picture, device = self.config, self.spec.preprocess, self._recogniser.device
        self._preprocessor = Preprocessor(picture, max_batch=_MOST_FRAMES_AT_ONCE, device="gpu" if device.type == "cuda" else "cpu")
        self._ring = ClipRing(len(config.cameras), height=picture.height, width=picture.width, frames=self.spec.model.frames, device=device)
        self._slots = {camera.id: self._ring.acquire() for camera in config.cameras}
        self._inbox, self._batch = Inbox(config.batch), WindowBatch(config.batch)
        self._ready: queue.Queue[_Clips | StreamBreak | None] = queue.Queue(config.batch.ready_batches)
        self.detectors = {camera.id: self._detector(camera.id) for camera in config.cameras}
        self.fleet = Fleet(config.cameras, config.source, self.metrics, self._run_camera)
        self._cameras_done = threading.Event()
        self.runtime = {
            "device": str(device), "dtype": str(self._recogniser.dtype).removeprefix("torch."), "model": self.spec.name,
            "preprocess": "dali-gpu" if device.type == "cuda" else "dali-cpu",
        }  # fmt: skip
        self.metrics.runtime.labels(**self.runtime).set(1)

    def run(
        self, stop: threading.Event, *, duration_seconds: float | None = None, on_tick: Callable[[], None] = lambda: None
    ) -> dict[str, Any]:
        """Run until every source has ended, `stop` is set or the time is over; drain, flush, and return the summary."""
        begun = time.monotonic()
        self._save(self._outbox.close_open_events(_now()), stored=True)
        self._workers = [
            threading.Thread(target=self._edge, args=(work, stop), name=name, daemon=True)
            for name, work in (("analysis", self._analyse), ("inference", self._infer))
        ]
        for worker in self._workers:
            worker.start()
        self.fleet.start()
        self._started.set()
        while not stop.is_set() and not self.fleet.all_ended():
            if duration_seconds is not None and time.monotonic() - begun >= duration_seconds:
                break
            on_tick()
            self.fleet.supervise()
            stop.wait(0.1)
        self.fleet.stop()
        self._cameras_done.set()
        for worker in self._workers:
            worker.join()
        on_tick()
        return self._finish(time.monotonic() - begun)

    def _finish(self, seconds: float) -> dict[str, Any]:
        if self._publisher is not None:
            self._publisher.close()
        self._save([])
        if self._unsaved:
            _log.error("%d events could not be stored and are lost", len(self._unsaved))
        summary = build_summary(
            self.fleet.statuses.values(), self.metrics, self.latency,
            outbox_left=self._outbox_size(), seconds=seconds, runtime=self.runtime,
        )  # fmt: skip
        self._close_quietly()
        return summary

    # One camera's thread -------------------------------------------------------------------------------------------

    def _run_camera(self, status: CameraStatus, stop: threading.Event) -> None:
        camera = status.camera
        metrics, camera_id = self.metrics, camera.id
        source = Source(camera, self.config.source, stop, status.set_state, lambda: metrics.reconnects.labels(camera_id).inc())
        decoder = Decoder(lambda: metrics.corrupt.labels(camera_id).inc())
        sampler = Sampler(camera_id, self.config.clip, frame_picture, lambda: metrics.repeated.labels(camera_id).inc())
        try:
            for number, coded in enumerate(source.packets()):
                if coded.packet is None and number:
                    self._hand_over(sampler.restart("reconnect"), status, stop)
                self._take_packet(coded, decoder, sampler, status, stop)
        except Exception:  # the edge of the stage: one camera must never take the others along
            _log.exception("camera %s: unexpected error; the camera is given up", camera_id)
            status.set_state("ended", "unexpected error, see the log")
        if not stop.is_set():
            self._explain_end(status)
            self._hand_over(StreamBreak(camera_id, "ended"), status, stop)

    def _take_packet(self, coded: CodedPacket, decoder: Decoder, sampler: Sampler, status: CameraStatus, stop: threading.Event) -> None:
        for frame in decoder.decode(coded):
            status.frame_decoded(frame.wall_seconds)
            try:
                items = sampler.push(frame)
            except (FFmpegError, ValueError, MemoryError) as error:
                self.metrics.corrupt.labels(status.camera.id).inc()
                _log.debug("camera %s: a frame could not be converted: %s", status.camera.id, error)
                continue
            for item in items:
                self._hand_over(item, status, stop)

    def _hand_over(self, item: SampledFrame | StreamBreak, status: CameraStatus, stop: threading.Event) -> None:
        if stop.is_set():
            return
        kept = self._inbox.put(item, stop, lambda blocked: status.set_state("blocked" if blocked else "running"))
        if kept and isinstance(item, SampledFrame):
            self.metrics.sampled.labels(item.camera_id).inc()

    def _explain_end(self, status: CameraStatus) -> None:
        """A file too short or too broken to be analysed is said to be so, in one line."""
        decoded = self.metrics.total(self.metrics.decoded, camera=status.camera.id)
        sampled = self.metrics.total(self.metrics.sampled, camera=status.camera.id)
        needed = self.spec.model.frames
        if status.state == "ended" and decoded == 0 and status.detail == "end of file":
            status.set_state("ended", "no frame could be decoded")
        elif status.state == "ended" and 0 < sampled < needed:
            status.set_state("ended", f"{status.detail}; {sampled} sampled frames are fewer than one clip ({needed}): not analysed")

    # The analysis thread -------------------------------------------------------------------------------------------

    def _analyse(self) -> None:
        while True:
            done = self._cameras_done.is_set()
            items = self._inbox.take(_MOST_FRAMES_AT_ONCE, min(self._batch.seconds_left(), 0.05))
            self._take_in(items)
            if self._batch.is_due():
                self._send_batch()
            if done and not items:
                break
        self._send_batch()
        self._ready.put(None)

    def _take_in(self, items: Sequence[SampledFrame | StreamBreak]) -> None:
        frames = [item for item in items if isinstance(item, SampledFrame)]
        pictures = iter(())
        if frames:
            with self.metrics.stage.labels("preprocess").time():
                pictures = iter(self._preprocessor([frame.picture_HWC[None] for frame in frames])[:, 0])
        for item in items:
            if isinstance(item, SampledFrame):
                self._write(item, next(pictures))
            else:
                self._break(item)

    def _write(self, frame: SampledFrame, picture_HWC: Tensor) -> None:
        slot, clip = self._slots[frame.camera_id], self.spec.model.frames
        if self._batch.holds(slot):
            self._send_batch()  # its oldest frame is about to be overwritten
        count = self._ring.push(slot, picture_HWC)
        if count >= clip and (count - clip) % self.config.clip.hop == 0:
            self._batch.add(slot, Window(frame.camera_id, frame.pts_seconds, frame.arrived_monotonic, frame.wall_seconds))
            if self._batch.is_due():
                self._send_batch()

    def _break(self, broken: StreamBreak) -> None:
        self._send_batch()
        self._ring.clear(self._slots[broken.camera_id])
        self.metrics.resets.labels(broken.camera_id, broken.reason).inc()
        self._ready.put(broken)

    def _send_batch(self) -> None:
        due = self._batch.take()
        if due:
            with self.metrics.stage.labels("gather").time():
                clips = self._ring.gather([slot for slot, _ in due])
            self._ready.put(_Clips(clips, tuple(window for _, window in due)))

    # The inference thread ------------------------------------------------------------------------------------------

    def _infer(self) -> None:
        while (work := self._ready.get()) is not None:
            if isinstance(work, StreamBreak):
                self._save(self.detectors[work.camera_id].finish(work.reason))
            else:
                self._recognise(work)
        for detector in self.detectors.values():
            self._save(detector.finish("shutdown"))

    def _recognise(self, work: _Clips) -> None:
        self.metrics.batch.observe(len(work.windows))
        with self.metrics.stage.labels("infer").time():
            probabilities_BK = self._recogniser.probabilities(work.clips_BTHWC).tolist()
        for window, probabilities in zip(work.windows, probabilities_BK, strict=True):
            events = self.detectors[window.camera_id].push(
                probabilities, pts_end_seconds=window.pts_end_seconds, wall_end_seconds=window.wall_seconds
            )
            self._save(events)
            self.metrics.windows.labels(window.camera_id).inc()
            seconds = time.monotonic() - window.arrived_monotonic
            self.metrics.latency.observe(seconds)
            self.latency.add(seconds)

    def _save(self, events: Sequence[ActionEvent], *, stored: bool = False) -> None:
        """Store events; while the outbox cannot be written they wait in memory and are tried again with the next."""
        stamped = [event if stored else dataclasses.replace(event, produced_at=_now()) for event in events]
        for event in stamped:
            self.metrics.events.labels(event.camera_id, event.action, event.kind).inc()
            self.recent_events.append(event)
            if len(self._unsaved) == _MOST_UNSAVED:
                self.metrics.outbox_dropped.labels(event.kind).inc()
        if not stored:
            self._unsaved.extend(stamped)
        if not self._unsaved:
            return
        try:
            self._outbox.append(list(self._unsaved))
            self._unsaved.clear()
        except OutboxError as error:
            _log.error("%d events wait in memory: %s", len(self._unsaved), error)

    # Parts ---------------------------------------------------------------------------------------------------------

    def _edge(self, work: Callable[[], None], stop: threading.Event) -> None:
        """Run a thread's work; if it fails unexpectedly, the pipeline ends instead of standing still."""
        try:
            work()
        except Exception:  # the edge of the stage
            _log.exception("the %s thread failed; the pipeline stops", threading.current_thread().name)
            self.failed = True
            stop.set()
            self._ready.put(None)

    def _detector(self, camera_id: str) -> EventDetector:
        return EventDetector(
            self.config.events, labels=self.spec.labels, camera_id=camera_id,
            clip_seconds=(self.spec.model.frames - 1) / self.spec.fps, model=self.spec.name,
            first_sequence=self._outbox.next_sequence(camera_id),
        )  # fmt: skip

    def _serve(self) -> HttpServer | None:
        if not self.config.http.enabled:
            return None
        return HttpServer(
            self.config.http, metrics=self.metrics.exposition, cameras=self._camera_list,
            checks={"startup": self._not_started, "ready": self._not_ready, "live": self._not_alive},
        )  # fmt: skip

    def _not_started(self) -> str | None:
        return None if self._started.is_set() else "still loading and warming up the network"

    def _not_ready(self) -> str | None:
        if not self._started.is_set() or self._cameras_done.is_set():
            return "not analysing: starting or stopping"
        return self._not_alive()

    def _not_alive(self) -> str | None:
        if not self._started.is_set() or self._cameras_done.is_set():
            return None  # busy starting or stopping, which is no reason to be restarted
        dead = [thread.name for thread in self._workers if not thread.is_alive()]
        return f"the thread {dead[0]} has ended" if dead else None

    def _connect(self) -> Publisher | None:
        if not self.config.kafka.bootstrap:
            return None
        return Publisher(
            self.config.kafka, self._outbox, self.metrics.published.inc, lambda error: self.metrics.publish_failures.labels(error).inc()
        )

    def _camera_list(self) -> list[dict[str, Any]]:
        statuses = self.fleet.statuses.values() if self._started.is_set() else ()
        return [{"id": s.camera.id, "state": s.state, "detail": s.detail, "fps": round(s.fps(), 2)} for s in statuses]

    def _outbox_size(self) -> int:
        try:
            return len(self._outbox)
        except OutboxError:
            return -1

    def _outbox_age(self) -> float:
        try:
            return self._outbox.oldest_age_seconds()
        except OutboxError:
            return -1.0

    def _close_quietly(self) -> None:
        if self._http is not None:
            self._http.close()
        try:
            self._outbox.close()
        except OutboxError as error:
            _log.warning("%s", error)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
