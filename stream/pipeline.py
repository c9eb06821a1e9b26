"""The only wiring: cameras -> inbox -> preprocessing -> ring -> batches -> network -> events -> outbox -> Kafka.

Threads: one per camera (source, decode, sample); `analysis` (preprocess, ring, batch); `inference` (network, events,
outbox); publisher; HTTP. Every hand-over between them is bounded, and a full one makes the side before it wait.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import datetime
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from configs import CidcError, OutboxError
from model.preprocess import Preprocessor
from model.runtime import keep_freed_memory
from model.video import frame_picture
from stream.batch import Inbox, Schedule, WindowBatch
from stream.cameras import CameraStatus, Fleet
from stream.decode import Decoder
from stream.events import ActionEvent, EventDetector
from stream.frames import CameraState, SampledFrame, StreamBreak, Window
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
    """A batch on its way to the network: normalised `clips_BCTHW` and which clip is whose."""

    clips_BCTHW: Tensor
    windows: tuple[Window, ...]


class Pipeline:
    """Everything that `python -m stream run` runs. Construction checks and loads; `run` starts the cameras.

    Raises:
        CidcError: the configuration cannot be used as it is.
    """

    def __init__(self, config: StreamConfig) -> None:
        self.spec = check_settings(config)
        keep_freed_memory()
        self.config, self.metrics, self.latency = config, Metrics(), LatencyLog()
        self.recent_events: collections.deque[ActionEvent] = collections.deque(maxlen=8)
        self.new_events: collections.deque[ActionEvent] = collections.deque(maxlen=10_000)
        self.failed = False
        self._started, self._cameras_done, self._aborted = threading.Event(), threading.Event(), threading.Event()
        self._unsaved: collections.deque[ActionEvent] = collections.deque()
        self._retry_at = 0.0
        with contextlib.ExitStack() as opened:
            self._outbox = Outbox(config.outbox, lambda kind: self.metrics.outbox_dropped.labels(kind).inc())
            opened.callback(_quietly, self._outbox.close)
            self._http = self._serve()
            if self._http is not None:
                opened.callback(_quietly, self._http.close)
            self._recogniser = Recogniser(config.infer)
            self._recogniser.warm_up(config.batch.max_batch)
            self._build_stages()
            self._publisher = self._connect()
            if self._publisher is not None:
                opened.callback(_quietly, self._publisher.close)
            self._opened = opened.pop_all()
        self.metrics.outbox_events.set_function(lambda: len(self._outbox))
        self.metrics.outbox_age.set_function(self._outbox_age)

    def _build_stages(self) -> None:
        config, picture, device = self.config, self.spec.preprocess, self._recogniser.device
        self._preprocessor = Preprocessor(picture, max_batch=_MOST_FRAMES_AT_ONCE, device="gpu" if device.type == "cuda" else "cpu")
        self._ring = ClipRing(len(config.cameras), height=picture.height, width=picture.width, frames=self.spec.model.frames, device=device)
        self._slots = {camera.id: self._ring.acquire() for camera in config.cameras}
        self._can_wait = {camera.id: camera.is_file and camera.pace == "fast" for camera in config.cameras}
        self._inbox, self._batch = Inbox(config.batch), WindowBatch(config.batch)
        self._schedule = Schedule(self.spec.model.frames, config.clip.hop)
        self._ready: queue.Queue[_Clips | StreamBreak | None] = queue.Queue(config.batch.ready_batches)
        # What a process that died left open is closed before any number is given to a new event.
        self._count_events(self._outbox.close_open_events())
        self.detectors = {camera.id: self._detector(camera.id) for camera in config.cameras}
        self.fleet = Fleet(config.cameras, config.source, self.metrics, self._run_camera)
        self.runtime = {
            "device": str(device), "dtype": str(self._recogniser.dtype).removeprefix("torch."), "model": self.spec.name,
            "preprocess": "dali-gpu" if device.type == "cuda" else "dali-cpu",
            "mixing": self._recogniser.mixing, "mixing_reason": self._recogniser.mixing_reason,
        }  # fmt: skip
        self.metrics.runtime.labels(**self.runtime).set(1)

    def run(
        self, stop: threading.Event, *, duration_seconds: float | None = None, on_tick: Callable[[], None] = lambda: None
    ) -> dict[str, Any]:
        """Run until every source has ended, `stop` is set or the time is over; drain, flush, and return the summary."""
        begun = time.monotonic()
        self._workers = [
            threading.Thread(target=self._edge, args=(work, stop), name=name, daemon=True)
            for name, work in (("analysis", self._analyse), ("inference", self._infer))
        ]
        with self._opened:
            for worker in self._workers:
                worker.start()
            self.fleet.start()
            self._started.set()
            try:
                while not stop.is_set() and not self.fleet.all_ended():
                    if duration_seconds is not None and time.monotonic() - begun >= duration_seconds:
                        break
                    on_tick()
                    self.fleet.supervise()
                    stop.wait(0.1)
            finally:
                self._drain()
            on_tick()
            return self._finish(time.monotonic() - begun)

    def _drain(self) -> None:
        """Stop the cameras and let everything they have delivered become events in the outbox."""
        self.fleet.stop()
        self._cameras_done.set()
        for worker in self._workers:
            worker.join()
        for status in self.fleet.statuses.values():
            if status.state != "ended":
                status.set_state("ended", "stopped")
        self._retry_at = 0.0
        self._save([])
        if self._unsaved:
            _log.error("%d events could not be stored and are lost", len(self._unsaved))

    def _finish(self, seconds: float) -> dict[str, Any]:
        if self._publisher is not None:
            _quietly(self._publisher.close)
        return build_summary(
            self.fleet.statuses.values(), self.metrics, self.latency,
            outbox_left=len(self._outbox) + len(self._unsaved), seconds=seconds, runtime=self.runtime,
        )  # fmt: skip

    # One camera's thread -------------------------------------------------------------------------------------------

    def _run_camera(self, status: CameraStatus, stop: threading.Event) -> None:
        camera_id, metrics = status.camera.id, self.metrics

        def set_state(state: CameraState, detail: str) -> None:
            if not stop.is_set():  # an abandoned worker that comes back must not speak for its replacement
                status.set_state(state, detail)

        def corrupt() -> None:
            metrics.corrupt.labels(camera_id).inc()

        source = Source(status.camera, self.config.source, stop, set_state, metrics.reconnects.labels(camera_id).inc)
        decoder = Decoder(corrupt)
        sampler = Sampler(camera_id, self.config.clip, frame_picture, metrics.repeated.labels(camera_id).inc, corrupt)
        if status.generation > 1:
            self._hand_over(sampler.restart("reconnect"), status, stop)
        try:
            for coded in source.packets():
                status.touch()
                frames = decoder.decode(coded)
                if coded.packet is None:
                    self._hand_over(sampler.restart("reconnect"), status, stop)
                for frame in frames:
                    status.frame_decoded(frame.wall_seconds)
                    for item in sampler.push(frame):
                        self._hand_over(item, status, stop)
        except Exception:  # the edge of the stage: one camera must never take the others along
            _log.exception("camera %s: unexpected error; the camera is given up", camera_id)
            set_state("ended", "unexpected error, see the log")
        if not stop.is_set():
            self._explain_end(status)
            self._hand_over(StreamBreak(camera_id, "ended"), status, stop)

    def _hand_over(self, item: SampledFrame | StreamBreak, status: CameraStatus, stop: threading.Event) -> None:
        if stop.is_set():
            return
        begun = time.monotonic()
        kept = self._inbox.put(item, stop, lambda blocked: status.set_state("blocked" if blocked else "running"))
        if kept and isinstance(item, SampledFrame):
            self.metrics.sampled.labels(item.camera_id).inc()
            self.metrics.blocked.labels(item.camera_id).inc(time.monotonic() - begun)

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
            if self._aborted.is_set():
                return
            items = self._inbox.take(_MOST_FRAMES_AT_ONCE, min(self._batch.seconds_left(), 0.05))
            self._take_in(items)
            if self._batch.is_due():
                self._send_batch()
            if done and not items:
                break
        self._send_batch()
        self._offer(None)

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
        slot = self._slots[frame.camera_id]
        if self._batch.holds(slot):
            self._send_batch()  # its oldest frame is about to be overwritten
        count = self._ring.push(slot, picture_HWC)
        if not self._schedule.is_due(frame.camera_id, count):
            return
        if self._must_wait(frame.camera_id):
            if self._schedule.put_off(frame.camera_id, count):
                self.metrics.dropped.labels(frame.camera_id, "overload").inc()
            return
        self._schedule.went(frame.camera_id, count)
        self._batch.add(slot, Window(frame.camera_id, frame.pts_seconds, frame.arrived_monotonic, frame.wall_seconds))
        if self._batch.is_due():
            self._send_batch()

    def _must_wait(self, camera_id: str) -> bool:
        """When the network is behind, cameras that cannot wait take turns: their hops stretch, evenly and counted."""
        if self._can_wait[camera_id]:
            return False
        return self._ready.full() or not self._schedule.is_next(camera_id)

    def _break(self, broken: StreamBreak) -> None:
        self._send_batch()
        self._ring.clear(self._slots[broken.camera_id])
        self._schedule.forget(broken.camera_id)
        self.metrics.resets.labels(broken.camera_id, broken.reason).inc()
        self._offer(broken)

    def _send_batch(self) -> None:
        due = self._batch.take()
        if due:
            with self.metrics.stage.labels("gather").time():
                clips = self._recogniser.gather(self._ring.buffer_STHWC, self._ring.windows([slot for slot, _ in due]))
            self._offer(_Clips(clips, tuple(window for _, window in due)))

    def _offer(self, work: _Clips | StreamBreak | None) -> None:
        """Hand work to the inference thread, waiting for room for as long as that thread lives."""
        while not self._aborted.is_set():
            try:
                self._ready.put(work, timeout=0.2)
                return
            except queue.Full:
                continue

    # The inference thread ------------------------------------------------------------------------------------------

    def _infer(self) -> None:
        while (work := self._next_work()) is not None:
            if isinstance(work, StreamBreak):
                self._save(self.detectors[work.camera_id].finish(work.reason))
            else:
                self._recognise(work)
        for detector in self.detectors.values():
            self._save(detector.finish("shutdown"))

    def _next_work(self) -> _Clips | StreamBreak | None:
        while not self._aborted.is_set():
            try:
                return self._ready.get(timeout=0.2)
            except queue.Empty:
                continue
        return None

    def _recognise(self, work: _Clips) -> None:
        self.metrics.batch.observe(len(work.windows))
        with self.metrics.stage.labels("infer").time():
            probabilities_BK = self._recogniser.probabilities(work.clips_BCTHW).tolist()
        for window, probabilities in zip(work.windows, probabilities_BK, strict=True):
            events = self.detectors[window.camera_id].push(
                probabilities, pts_end_seconds=window.pts_end_seconds, wall_end_seconds=window.wall_seconds
            )
            self._save(events)
            self.metrics.windows.labels(window.camera_id).inc()
            seconds = time.monotonic() - window.arrived_monotonic
            self.metrics.latency.observe(seconds)
            self.latency.add(seconds)

    def _save(self, events: Sequence[ActionEvent]) -> None:
        """Store events; while the outbox cannot be written they wait in memory, and video goes on."""
        stamped = [dataclasses.replace(event, produced_at=_now()) for event in events]
        self._count_events(stamped)
        self._unsaved.extend(stamped)
        while len(self._unsaved) > _MOST_UNSAVED:
            self.metrics.outbox_dropped.labels(self._unsaved.popleft().kind).inc()
        if not self._unsaved or time.monotonic() < self._retry_at:
            return
        try:
            self._outbox.append(list(self._unsaved))
        except OutboxError as error:
            if self._retry_at == 0.0:
                _log.error("events wait in memory: %s", error)
            self._retry_at = time.monotonic() + 1.0
            return
        if self._retry_at:
            _log.warning("the outbox takes events again; %d were waiting", len(self._unsaved))
        self._unsaved.clear()
        self._retry_at = 0.0

    def _count_events(self, events: Sequence[ActionEvent]) -> None:
        for event in events:
            self.metrics.events.labels(event.camera_id, event.action, event.kind).inc()
            self.recent_events.append(event)
            self.new_events.append(event)

    # Parts ---------------------------------------------------------------------------------------------------------

    def _edge(self, work: Callable[[], None], stop: threading.Event) -> None:
        """Run a thread's work; if it fails unexpectedly, the pipeline ends instead of standing still."""
        try:
            work()
        except Exception:  # the edge of the stage
            _log.exception("the %s thread failed; the pipeline stops", threading.current_thread().name)
            self.failed = True
            self._aborted.set()
            stop.set()

    def _detector(self, camera_id: str) -> EventDetector:
        return EventDetector(
            self.config.events, labels=self.spec.labels, camera_id=camera_id,
            background=self.spec.background, clip_seconds=(self.spec.model.frames - 1) / self.spec.fps, model=self.spec.name,
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

    def _outbox_age(self) -> float:
        try:
            return self._outbox.oldest_age_seconds()
        except OutboxError:
            return float("nan")


def _quietly(close: Callable[[], object]) -> None:
    """Close something at the end of a run; what goes wrong is logged and stops nothing else from closing."""
    try:
        close()
    except CidcError as error:
        _log.warning("%s", error)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
