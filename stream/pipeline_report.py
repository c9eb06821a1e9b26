"""What a pipeline tells of itself: the state of its cameras, its gauges, a summary of the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stream.analysis.engines import describe_engine
from stream.analysis.recogniser import Recogniser
from stream.analysis.ring import ClipRing
from stream.cameras.supervisor import Supervisor
from stream.config import StreamConfig
from stream.console.summary import LatencyLog, build_summary
from stream.events.announcer import Announcer
from stream.events.counter import EventCounter
from stream.events.outbox import Outbox
from stream.events.writer import EventWriter
from stream.fleet_assembly import Fleet
from stream.gauges import refresh_cameras, refresh_device, refresh_events
from stream.gpu_watch import GpuWatch
from stream.health import Health
from stream.load import LoadMeter
from stream.metrics import Metrics
from stream.serve.server import HttpServer
from stream.sink_assembly import Sinks
from stream.sinks.config import KAFKA
from stream.types import CameraSnapshot

__all__ = ["PipelineReport"]


class PipelineReport:
    """The part of a pipeline that reads its other parts and changes none."""

    config: StreamConfig
    metrics: Metrics
    health: Health
    latency: LatencyLog
    http: HttpServer | None
    runtime: dict[str, str]
    supervisor: Supervisor
    announcer: Announcer
    outbox: Outbox
    writer: EventWriter
    ring: ClipRing
    load: LoadMeter
    _recogniser: Recogniser
    _counter: EventCounter
    _fleet: Fleet
    _gpu: GpuWatch
    _sinks: Sinks

    def cameras(self) -> Sequence[CameraSnapshot]:
        """The status of every camera; none before they are started."""
        statuses = self.supervisor.statuses if self.health.started.is_set() else ()
        return [status.snapshot() for status in statuses]

    def active(self, camera_id: str) -> Mapping[str, float]:
        """Actions going on at a camera, with their confidence."""
        return self.announcer.active(camera_id)

    def _refresh(self) -> None:
        """Bring the gauges up to date."""
        refresh_cameras(self.metrics, self.cameras)
        sink = KAFKA if self.config.kafka.bootstrap else None
        refresh_events(self.metrics, self.outbox, self.writer.unsaved, sink)
        refresh_device(self.metrics, self._recogniser.device, self.ring.slots - self.ring.free)
        self._fleet.refresh()
        self._sinks.refresh()

    def _summary(self, seconds: float) -> dict[str, Any]:
        """Return the summary of a run that took so long."""
        return build_summary(
            self.cameras(),
            self.metrics,
            self.latency,
            self._counter.counts,
            outbox_left=len(self.outbox),
            lost=self.writer.lost,
            seconds=seconds,
            runtime=self.runtime,
            network=describe_engine(self._recogniser.engine, self.metrics),
            gpu=self._gpu.summary(),
            load=self.load.summary(),
            http=None if self.http is None else self.http.address,
            worker=self._fleet.report(),
            sinks=self._sinks.summary(),
        )
