"""The life of a run: cameras -> inbox -> clips -> backlog -> network -> events -> outbox -> Kafka.

`stream/assembly.py` makes the parts; here they are connected, started, watched and stopped.

Threads: one or two per camera; `decoder-1`, ... (NVDEC); `decoding` (DALI); `analysis` (frames to
clips); `inference` (network and events); `verify` (second looks); `writer` (outbox); `publisher`;
`http`; `snapshots`; `gpu` (its use); `disks` (their room). Every hand-over between them is bounded:
when one is full, the side before it waits or drops, counted.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any, Self

from model.runtime import MemoryRelease
from stream import assembly
from stream.analysis.backlog import Backlog
from stream.analysis.config import InferConfig
from stream.analysis.inbox import Inbox
from stream.analysis.inference_stage import InferenceStage
from stream.analysis.recogniser import Recogniser
from stream.camera_assembly import CameraDecoders, build_manager, build_supervisor
from stream.cameras.config import CameraConfig
from stream.cameras.overrides import CameraOverrides
from stream.cameras.worker_threads import WorkerThreads
from stream.config import StreamConfig, check_settings, overrides_path
from stream.console.summary import LatencyLog
from stream.draining import end_stages, end_writer
from stream.events.announcer import Announcement, Subscriber
from stream.events.counter import EventCounter
from stream.events.writer import EventWriter
from stream.file_locks import locked_files
from stream.fleet_assembly import Fleet
from stream.frame_entry import FrameEntry
from stream.gpu_watch import GpuWatch
from stream.health import HANGS_SECONDS, Health
from stream.ingest.pushed_frames import PushedFrames
from stream.metrics import Metrics
from stream.pipeline_report import PipelineReport
from stream.runtime_report import describe_runtime
from stream.sink_assembly import Sinks
from stream.sinks.config import KAFKA
from stream.stage import close_quietly
from stream.tracing_assembly import open_tracing
from stream.verify_assembly import VerifyPart

__all__ = ["Pipeline"]

_TICK_SECONDS = 0.1


class Pipeline(PipelineReport, FrameEntry):
    """Everything that `python -m stream run` runs.

    Construction checks the configuration and claims the outbox and the address. Entering it as a
    context manager serves HTTP and loads the network; `run` starts the cameras. Leaving it flushes
    and closes everything.

    Args:
        open_recogniser: loads the network.
        max_silence_seconds: a run that ends does not wait longer for a stage without a heartbeat.
        worker: name of this worker, for its events, if it is one of several on this machine.

    Attributes:
        supervisor, manager, inbox, ring, decoding, decoders, clips, inference, announcer, writer,
            load: once it is entered.
        latency: from the arrival of a clip's newest frame to its result.

    Raises:
        CidcError: the configuration cannot be used as it is.
    """

    def __init__(
        self,
        config: StreamConfig,
        *,
        open_recogniser: Callable[[InferConfig], Recogniser] = Recogniser,
        max_silence_seconds: float = HANGS_SECONDS,
        worker: str | None = None,
    ) -> None:
        self.config = config
        self._open_recogniser = open_recogniser
        self._max_silence_seconds = max_silence_seconds
        self.metrics = Metrics()
        self.failed = False
        self.latency = LatencyLog(self.metrics.observe_latency)
        self.health = Health()
        self._counter = EventCounter(self.metrics)
        self._subscribers: list[Subscriber] = [self._counter.take]
        self._overrides = CameraOverrides(overrides_path(config))
        self._cameras = self._overrides.apply(config.cameras)
        self._fleet = Fleet(config, self.metrics, worker)
        self._configured = self._overrides.unchanged(self._cameras)
        self.spec = check_settings(config, self._configured)
        is_over = self.health.draining.is_set
        self._pushed = PushedFrames(self._find_camera, config.source, self.metrics, is_over)
        with contextlib.ExitStack() as stack:
            stack.enter_context(locked_files(config))
            # Before the outbox: if pictures fill the disk, they make room for it.
            self._snapshots = assembly.open_snapshots(config, self.metrics, stack)
            self._sinks = Sinks(config, self.metrics)
            stack.callback(self._sinks.close)
            sinks = self._sinks.in_outbox
            self.outbox = assembly.open_outbox(config, self.metrics, stack, sinks)
            self.http = assembly.open_http(
                config,
                metrics=self.metrics,
                cameras=lambda: self.manager if self.health.started.is_set() else None,
                statuses=self.cameras,
                load=lambda: self.load.parts if self.health.started.is_set() else {},
                checks=self.health.checks,
                topic=self._fleet.open_topic(self.spec),
                worker=self._fleet.report,
                sinks=self._sinks.report,
            )
            if self.http is not None:
                stack.callback(close_quietly, self.http.close)
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        try:
            self._load()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Flush and close everything; the last to be opened first."""
        self._stack.close()

    def subscribe(self, subscriber: Subscriber) -> None:
        """Tell somebody of every announcement from now on; called by the inference thread."""
        self._subscribers.append(subscriber)

    def run(
        self,
        stop: threading.Event,
        *,
        duration_seconds: float | None = None,
        until_ended: bool = True,
        on_tick: Callable[[], None] = lambda: None,
    ) -> dict[str, Any]:
        """Run until every source has ended, `stop` is set or the time is over; return the summary.

        Args:
            until_ended: whether the end of every source ends the run.
            on_tick: called about ten times a second.
        """
        started_at, release = time.monotonic(), MemoryRelease()
        # A process that died left these open; new events get later numbers.
        self._tell(Announcement(tuple(self.outbox.close_open_events())))
        for stage in self._stages:
            stage.start()
        self.manager.start()
        self._fleet.start(self.manager, self.writer, self._counter, lambda: self.load.load)
        self.health.started.set()
        try:
            while not stop.is_set() and not any(stage.failure for stage in self._stages):
                if until_ended and self.manager.all_ended():
                    break
                seconds = time.monotonic() - started_at
                if duration_seconds is not None and seconds >= duration_seconds:
                    break
                on_tick()
                self._fleet.tick()
                self.supervisor.supervise()
                self.load.update()
                release.tick()
                stop.wait(_TICK_SECONDS)
        finally:
            self._drain()
        on_tick()
        seconds = time.monotonic() - started_at
        self._sinks.send_last_events()
        return self._summary(seconds)

    def _load(self) -> None:
        for part in (self.http, self._snapshots):
            if part is not None:
                part.start()
        self._recogniser = self._open_recogniser(self.config.infer)
        device = self._recogniser.device
        self._gpu = GpuWatch.on(device, self.metrics, self._stack)
        of_decoders = (self.config, self._configured, device, self.metrics, self._stack)
        self.decoders = CameraDecoders(*of_decoders)
        max_batch = self.config.batch.sizes(device).max_batch
        self._recogniser.warm_up(max_batch)
        self._build_stages(max_batch)
        self.supervisor = build_supervisor(self.config, self.metrics, self.run_camera, self.inbox)
        of = (self.config, self.spec, self.metrics, self.supervisor)
        self.manager = build_manager(
            *of, self._overrides, self._cameras, check_decoder=self.decoders.check
        )
        self.metrics.before_scrape.append(self._refresh)
        for_kafka = self._fleet.events_to_publish(self.outbox.of(KAFKA), self._stack)
        self._sinks.start(self.outbox, for_kafka, self._stack, self._tracing.acknowledged)

    def _build_stages(self, max_batch: int) -> None:
        self.inbox = Inbox(self.config.batch.camera_queue)
        self._backlog = Backlog(max_batches=self.config.batch.ready_batches, max_batch=max_batch)
        worker, device = self._fleet.worker, self._recogniser.device
        self._tracing = open_tracing(self.config, self.metrics, self._stack, worker, str(device))
        self.writer = EventWriter(self.outbox, self.metrics, self.latency.add, self._tracing.stored)
        self.verify = VerifyPart(self.config, self.spec, self.metrics, self._stack)
        self.announcer = assembly.build_announcer(
            self.config,
            self.spec,
            self.metrics,
            self._recogniser,
            snapshots=self._snapshots,
            worker=worker,
            next_sequence=self.writer.next_sequence,
            subscribers=(self._store, self._tell),
            looks=self.verify.looks,
            begin_trace=self._tracing.begin,
        )
        self.ring = assembly.build_ring(self.config, self.spec, device)
        self.clips = assembly.build_clip_stage(
            self.config,
            self.spec,
            self.metrics,
            self._recogniser,
            inbox=self.inbox,
            backlog=self._backlog,
            ring=self.ring,
        )
        self._stack.callback(close_quietly, self.clips.preprocessor.close)
        self.inference = InferenceStage(
            self._recogniser, backlog=self._backlog, consumer=self.announcer, metrics=self.metrics
        )
        self.decoding = self.decoders.dali
        self._stages = (self.decoding, self.clips, self.inference, self.writer)
        self.load = assembly.build_load_meter(self.metrics, self._stages[:3], self.decoders.pool)
        self.health.watch(self._stages[:3], self.writer, lambda: self.outbox.is_recovering)
        self.runtime = describe_runtime(self.spec, self._recogniser, self.clips.preprocessor.upload)
        self.metrics.runtime.labels(**self.runtime).set(1)

    def run_camera(self, threads: WorkerThreads) -> None:
        """Run one opening of a camera, in a thread of its own; called by the supervisor."""
        self.decoders.worker(self.spec, threads, self.inbox, self._pushed).run()

    def _find_camera(self, camera_id: str) -> CameraConfig | None:
        if self.health.started.is_set():
            status = self.supervisor.status(camera_id)
            return None if status is None else status.camera
        return next((camera for camera in self._cameras if camera.id == camera_id), None)

    def _store(self, announcement: Announcement) -> None:
        self.writer.put(announcement.events, announcement.arrived_monotonic, announcement.trace_ids)

    def _tell(self, announcement: Announcement) -> None:
        for subscriber in self._subscribers:
            subscriber(announcement)

    def _drain(self) -> None:
        """Stop the cameras and let everything they delivered become events in the outbox."""
        self.health.draining.set()
        for part in (self.manager, self.supervisor, self._fleet, self.decoding):
            part.stop()
        self.inbox.close()
        working = (self.clips, self.inference, self.decoding)
        is_complete = end_stages(working, self._backlog, self.writer, self._max_silence_seconds)
        self.verify.finish(self.announcer, self.inference)
        is_stored = end_writer(self.writer, self._max_silence_seconds)
        self.failed = self.failed or not (is_complete and is_stored)
