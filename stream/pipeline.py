"""The wiring: cameras -> inbox -> preprocessing -> ring -> batches -> network -> events -> outbox -> Kafka.

Threads: one or two per camera (source, decode, sample); `analysis` (preprocess, ring, batch); `inference` (network, events);
`writer` (outbox); publisher; HTTP; snapshots. Every hand-over between them is bounded, and a full one makes the side before it wait
or drop, counted.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from configs import CidcError, ConfigError, OutboxError
from model.preprocess import Preprocessor
from model.runtime import keep_freed_memory, release_freed_memory
from stream.analysis import MOST_FRAMES_AT_ONCE, Analysis
from stream.batch import Inbox
from stream.camera import CameraConfig
from stream.cameras import CameraStatus, Fleet, Worker
from stream.changes import CameraChanges
from stream.frames import SampledFrame, StreamBreak
from stream.infer import Recogniser
from stream.manager import CameraManager
from stream.metrics import Metrics
from stream.outbox import Outbox
from stream.publish import Publisher
from stream.reading import CameraReader
from stream.recognition import Recognition
from stream.ring import ClipRing
from stream.sample import ClipConfig
from stream.serve.server import HttpServer
from stream.settings import StreamConfig, changes_path, check_camera, check_room, check_settings, most_views
from stream.snapshots import SnapshotStore
from stream.summary import LatencyLog, build_summary
from stream.writer import EventWriter

__all__ = ["Pipeline"]

_log = logging.getLogger(__name__)
# A thread that has not come round for this long hangs; the slowest batch on a small machine takes a few seconds.
_HANGS_SECONDS = 60.0
_TIDY_SECONDS = 60.0


class Pipeline:
    """Everything that `python -m stream run` runs. Construction checks and loads; `run` starts the cameras.

    Raises:
        CidcError: the configuration cannot be used as it is.
    """

    def __init__(self, config: StreamConfig) -> None:
        changes = CameraChanges(changes_path(config))
        cameras = changes.apply(config.cameras)
        if (differs := changes.summary()) is not None:
            _log.warning("%s", differs)
        self.spec = check_settings(config, [camera for camera in cameras if not changes.changed(camera.id)])
        self.config, self.metrics, self.latency = config, Metrics(), LatencyLog()
        self._most_views = most_views(config)
        unusable = self._unusable(cameras, changes)
        keep_freed_memory()
        self.failed = False
        self._started, self._cameras_done, self._aborted = threading.Event(), threading.Event(), threading.Event()
        self.manager: CameraManager | None = None
        self._gone: collections.deque[str] = collections.deque()
        with contextlib.ExitStack() as opened:
            self._outbox = self._open_outbox()
            opened.callback(_quietly, self._outbox.close)
            self._snapshots = self._open_snapshots()
            if self._snapshots is not None:
                opened.callback(self._snapshots.close)
            self._http = self._serve()
            if self._http is not None:
                opened.callback(_quietly, self._http.close)
                self._http.start()
            self._recogniser = Recogniser(config.infer)
            self._recogniser.warm_up(config.batch.max_batch)
            self._build_stages()
            self.fleet = Fleet(config.source, self.metrics, self._run_camera, self._interrupt)
            self.manager = CameraManager(
                self.fleet, changes, self.metrics, most_views=self._most_views, common={"events": config.events, "source": config.source},
                check=lambda camera: check_camera(camera, self.spec), interrupt=self._interrupt,
            )  # fmt: skip
            self.manager.load(cameras, unusable)
            self._publisher = self._connect()
            if self._publisher is not None:
                opened.callback(_quietly, self._publisher.close)
            self._opened = opened.pop_all()
        self.metrics.before_scrape.append(self._refresh)

    def _unusable(self, cameras: Sequence[CameraConfig], changes: CameraChanges) -> dict[str, str]:
        """Cameras from over HTTP that cannot be started as they are, and why: no reason not to start the others."""
        usable = [camera for camera in cameras if not changes.changed(camera.id)]
        found: dict[str, str] = {}
        for camera in (camera for camera in cameras if changes.changed(camera.id)):
            try:
                check_camera(camera, self.spec)
                check_room(camera, usable, self._most_views)
            except ConfigError as error:
                found[camera.id] = str(error)
                _log.error("camera %s cannot be started: %s", camera.id, error, extra={"camera": camera.id})
            else:
                usable.append(camera)
        return found

    def _build_stages(self) -> None:
        config, picture, device = self.config, self.spec.preprocess, self._recogniser.device
        self._inbox = Inbox(config.batch)
        self.writer = EventWriter(self._outbox, self.metrics, self._note_latency)
        self.recognition = Recognition(
            self._recogniser, events=config.events, writer=self.writer, metrics=self.metrics, batch=config.batch,
            cameras=self._camera, forget=self._forget, snapshots=self._snapshots,
        )  # fmt: skip
        self.ring = ClipRing(self._most_views, height=picture.height, width=picture.width, frames=self.spec.model.frames, device=device)
        self._analysis = Analysis(
            config.batch, hop=config.clip.hop, metrics=self.metrics, inbox=self._inbox, cameras=self._camera, ring=self.ring,
            preprocessor=Preprocessor(picture, max_batch=MOST_FRAMES_AT_ONCE, device="gpu" if device.type == "cuda" else "cpu"),
            gather=lambda ring, windows: self._recogniser.gather(ring, windows),
            offer=lambda work: self.recognition.offer(work, self._aborted.is_set),
            is_behind=lambda extra: self.recognition.is_behind(config.batch.wait_seconds, extra),
            keeps_pictures=self._snapshots is not None,
        )  # fmt: skip
        # What a process that died left open is closed before any number is given to a new event.
        self.recognition.count(self._outbox.close_open_events())
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
        begun = tidied = time.monotonic()
        assert self.manager is not None
        self._workers = [
            threading.Thread(target=self._edge, args=(work, stop), name=name, daemon=True)
            for name, work in (
                ("analysis", lambda: self._analysis.run(self._cameras_done.is_set, self._aborted.is_set)),
                ("inference", lambda: self.recognition.run(self._aborted.is_set)),
                ("writer", self.writer.run),
            )
        ]
        with self._opened:
            for worker in self._workers:
                worker.start()
            self.manager.start()
            self._started.set()
            try:
                while not stop.is_set() and not self.manager.all_ended():
                    if duration_seconds is not None and time.monotonic() - begun >= duration_seconds:
                        break
                    on_tick()
                    self.fleet.supervise()
                    self._forget_gone()
                    if time.monotonic() - tidied >= _TIDY_SECONDS:
                        release_freed_memory()
                        tidied = time.monotonic()
                    stop.wait(0.1)
            finally:
                self._drain()
            on_tick()
            return self._finish(time.monotonic() - begun)

    def _drain(self) -> None:
        """Stop the cameras and let everything they have delivered become events in the outbox."""
        assert self.manager is not None
        self.manager.stop()
        self.fleet.stop()
        self._cameras_done.set()
        analysis, inference, writer = self._workers
        for worker, stage in ((analysis, self._analysis), (inference, self.recognition)):
            while worker.is_alive() and time.monotonic() - stage.beat_monotonic < _HANGS_SECONDS:
                worker.join(0.2)
            if worker.is_alive():
                self.failed = True
                self._aborted.set()
                _log.error("the thread %s hangs; what waits for it is lost", worker.name)
        self.writer.close()
        writer.join(_HANGS_SECONDS)
        self._forget_gone()
        for status in self.fleet.statuses:
            if status.state != "ended":
                status.set_state("ended", "stopped")
        if self.writer.lost:
            self.failed = True
            _log.error("%d events could not be stored and are lost", self.writer.lost)

    def _finish(self, seconds: float) -> dict[str, Any]:
        if self._publisher is not None:
            _quietly(self._publisher.close)
        return build_summary(
            self.fleet.statuses, self.metrics, self.latency, self.recognition.counts,
            outbox_left=len(self._outbox), lost=self.writer.lost, seconds=seconds, runtime=self.runtime,
            http=None if self._http is None else self._http.address,
        )  # fmt: skip

    def _note_latency(self, seconds: float) -> None:
        self.metrics.latency.observe(seconds)
        self.latency.add(seconds)

    # What the stages ask for ---------------------------------------------------------------------------------------

    def _camera(self, camera_id: str) -> CameraConfig | None:
        return self.manager.config(camera_id) if self.manager is not None else None

    def _forget(self, camera_id: str) -> None:
        self._gone.append(camera_id)  # the network must not wait while a change is being kept on disk

    def _forget_gone(self) -> None:
        assert self.manager is not None
        for camera_id in [self._gone.popleft() for _ in range(len(self._gone))]:
            if not self.manager.forget_counts(camera_id):
                self._gone.append(camera_id)  # the next time

    def _run_camera(self, status: CameraStatus, worker: Worker) -> None:
        CameraReader(
            status, worker, source=status.camera.source or self.config.source, clip=self._clip(status.camera), metrics=self.metrics,
            hand_over=self._hand_over, short_side=self._short_side(status.camera),
        ).run()  # fmt: skip

    def _clip(self, camera: CameraConfig) -> ClipConfig:
        gap = camera.max_gap_seconds
        return self.config.clip if gap is None else self.config.clip.model_copy(update={"max_gap_seconds": gap})

    def _short_side(self, camera: CameraConfig) -> int:
        """Enough for the smallest region, and for pictures of events."""
        share = min((min(region.right - region.left, region.bottom - region.top) for region in camera.regions), default=1.0)
        enough = math.ceil(self.spec.preprocess.live_short_side / share)
        return max(enough, self.config.snapshots.width) if self._snapshots is not None else enough

    def _hand_over(self, item: SampledFrame | StreamBreak, status: CameraStatus, worker: Worker) -> None:
        begun = time.monotonic()
        kept = self._inbox.put(item, worker.stop, status.set_blocked)
        if kept and isinstance(item, SampledFrame):
            self.metrics.sampled.labels(item.camera_id).inc()
            self.metrics.blocked.labels(item.camera_id).inc(time.monotonic() - begun)

    def _interrupt(self, broken: StreamBreak) -> None:
        if self._started.is_set() and not self._cameras_done.is_set():
            self._inbox.put(broken, threading.Event())

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

    def _open_outbox(self) -> Outbox:
        metrics = self.metrics
        return Outbox(self.config.outbox, lambda kind: metrics.outbox_dropped.labels(kind).inc(), metrics.outbox_damaged.inc)

    def _open_snapshots(self) -> SnapshotStore | None:
        if not self.config.snapshots.enabled:
            return None
        counts = self.metrics.snapshots
        return SnapshotStore(self.config.snapshots, on_written=counts.labels("written").inc, on_lost=counts.labels("lost").inc)

    def _serve(self) -> HttpServer | None:
        if not self.config.http.enabled:
            return None
        return HttpServer(
            self.config.http, metrics=self.metrics.exposition, cameras=lambda: self.manager if self._started.is_set() else None,
            checks={"startup": self._not_started, "ready": self._not_ready, "live": self._not_alive},
            snapshots=self.config.snapshots.path if self._snapshots is not None else None,
        )  # fmt: skip

    def _connect(self) -> Publisher | None:
        if not self.config.kafka.bootstrap:
            return None
        metrics = self.metrics
        return Publisher(
            self.config.kafka, self._outbox, metrics.published.inc, lambda error: metrics.publish_failures.labels(error).inc(),
            metrics.outbox_rejected.inc,
        )  # fmt: skip

    def _not_started(self) -> str | None:
        return None if self._started.is_set() else "still loading and warming up the network"

    def _not_ready(self) -> str | None:
        if not self._started.is_set() or self._cameras_done.is_set():
            return "not analysing: starting or stopping"
        if (silent := time.monotonic() - self.writer.beat_monotonic) > _HANGS_SECONDS and not self._outbox.is_rescuing:
            return f"no event could be stored or refused for {silent:.0f} s: the disk stands still; they wait in memory"
        return self._not_alive()

    def _not_alive(self) -> str | None:
        if not self._started.is_set() or self._cameras_done.is_set():
            return None  # busy starting or stopping, which is no reason to be restarted
        dead = [thread.name for thread in self._workers if not thread.is_alive()]
        if dead:
            return f"the thread {dead[0]} has ended"
        for name, beat in (("analysis", self._analysis.beat_monotonic), ("inference", self.recognition.beat_monotonic)):
            silent = time.monotonic() - beat
            if silent > _HANGS_SECONDS:
                return f"the thread {name} has not moved for {silent:.0f} s"
        return None  # a writer that waits for its disk: to be killed would lose what it holds

    def _refresh(self) -> None:
        """Bring gauges up to date that nobody sets as things happen."""
        metrics = self.metrics
        for status in self.fleet.statuses:
            metrics.camera_fps.labels(status.camera.id).set(status.fps())
            if status.state == "ended":
                with contextlib.suppress(KeyError):
                    metrics.last_frame_age.remove(status.camera.id)  # nobody waits for another
            elif (age := status.last_frame_age()) is not None:
                metrics.last_frame_age.labels(status.camera.id).set(age)
        metrics.outbox_events.set(len(self._outbox))
        metrics.outbox_unsaved.set(self.writer.unsaved)
        metrics.views.set(self._most_views - self.ring.free)
        if self._recogniser.device.type == "cuda":
            metrics.device_memory.set(torch.cuda.memory_reserved(self._recogniser.device))
        try:
            metrics.outbox_age.set(self._outbox.oldest_age_seconds())
        except OutboxError:
            metrics.outbox_age.set(float("nan"))


def _quietly(close: Callable[[], object]) -> None:
    """Close something at the end of a run; what goes wrong is logged and stops nothing else from closing."""
    try:
        close()
    except CidcError as error:
        _log.warning("%s", error)
