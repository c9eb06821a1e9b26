"""Every metric of the live pipeline, named once, here.

Each pipeline has its own registry, so two pipelines in one process never share a count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.samples import Sample

from stream.types import CameraState

__all__ = ["Metrics"]

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0)


class Metrics:
    """The metrics of one pipeline, as attributes."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        # memory, descriptors and processor time of this process
        ProcessCollector(registry=self.registry)
        self.before_scrape: list[Callable[[], None]] = []
        camera = ["camera"]
        self.camera_state = self._gauge(
            "camera_state", "1 for the state a camera is in", [*camera, "state"]
        )
        self.camera_fps = self._gauge(
            "camera_fps", "Decoded frames per second over the last seconds", camera
        )
        self.last_frame = self._gauge(
            "camera_last_frame_timestamp_seconds", "When the last frame came in, since 1970", camera
        )
        self.last_frame_age = self._gauge(
            "camera_last_frame_age_seconds", "How long ago the last frame came in", camera
        )
        self.paused = self._gauge("camera_paused", "1 while a camera is paused over HTTP", camera)
        self.decoded = self._counter("frames_decoded", "Frames decoded", camera)
        self.sampled = self._counter("frames_sampled", "Positions of the time grid filled", camera)
        self.repeated = self._counter(
            "frames_repeated",
            "Positions filled with the frame before, for want of a new one",
            camera,
        )
        self.corrupt = self._counter(
            "packets_undecodable",
            "Packets that gave an error instead of a frame, and spoiled frames",
            camera,
        )
        self.blocked = self._counter(
            "camera_blocked_seconds", "Seconds a camera's reader waited for the analysis", camera
        )
        self.windows = self._counter("windows", "Clips analysed", camera)
        self.dropped = self._counter(
            "dropped", "Clips and frames not analysed, by reason", [*camera, "reason"]
        )
        self.resets = self._counter(
            "resets", "Times a camera's clip started anew, by reason", [*camera, "reason"]
        )
        self.readers_abandoned = self._gauge(
            "readers_abandoned",
            "Camera workers that hang in library calls and were replaced or halted",
            [],
        )
        self.reconnects = self._counter(
            "reconnects", "Times it was tried to open a camera again", camera
        )
        self.events = self._counter(
            "events", "Action events by action and kind", [*camera, "action", "kind"]
        )
        self.stage = self._histogram(
            "stage_seconds", "Time spent in each stage, on one packet, picture or batch", ["stage"]
        )
        self.latency = self._histogram(
            "camera_to_event_seconds",
            "From the arrival of a clip's newest frame to its result, stored if it is an event",
            [],
        )
        self.batch = Histogram(
            "cidc_batch_windows",
            "Clips per batch",
            registry=self.registry,
            buckets=(1, 2, 4, 8, 16, 32, 64),
        )
        self.outbox_events = self._gauge("outbox_events", "Events waiting in the outbox", [])
        self.outbox_dropped = self._counter(
            "outbox_dropped", "Events dropped because the outbox was full, by kind", ["kind"]
        )
        self.outbox_age = self._gauge(
            "outbox_oldest_seconds", "Age of the oldest event in the outbox", []
        )
        self.outbox_unsaved = self._gauge(
            "outbox_unsaved", "Events that wait in memory because the outbox cannot be written", []
        )
        self.outbox_failures = self._counter(
            "outbox_failures", "Failed attempts to write the outbox", []
        )
        self.outbox_damaged = self._counter(
            "outbox_damaged", "Times a damaged outbox was moved aside", []
        )
        self.outbox_rejected = self._counter(
            "outbox_rejected", "Events set aside because no broker takes them", []
        )
        self.snapshots = self._counter(
            "snapshots", "Pictures of events, by what became of them", ["outcome"]
        )
        self.device_memory = self._gauge(
            "device_memory_bytes", "GPU memory that PyTorch holds; 0 without a GPU", []
        )
        self.views = self._gauge("views", "Slots of the ring in use: cameras or their regions", [])
        self.published = self._counter("published", "Events the broker acknowledged", [])
        self.publish_failures = self._counter(
            "publish_failures", "Failures to publish, by error", ["error"]
        )
        runtime = ["device", "dtype", "model", "preprocess", "mixing", "mixing_reason"]
        self.runtime = self._gauge(
            "runtime", "1; what the pipeline runs on, and why its mixing is not the kernel", runtime
        )

    def set_camera_state(self, camera_id: str, state: CameraState) -> None:
        """Mark one state of a camera as the current one."""
        for name in get_args(CameraState):
            self.camera_state.labels(camera_id, name).set(name == state)

    def forget(self, camera_id: str) -> None:
        """Drop every series of a camera that is gone."""
        for metric in vars(self).values():
            if isinstance(metric, (Counter, Gauge, Histogram)) and "camera" in metric._labelnames:
                metric.remove_by_labels({"camera": camera_id})

    def total(self, metric: Counter, **labels: str) -> int:
        """Sum of a counter over all samples that carry `labels`."""
        return round(
            sum(
                sample.value
                for sample in self.samples(metric)
                if labels.items() <= sample.labels.items()
            )
        )

    def by_label(self, metric: Counter, label: str, **labels: str) -> dict[str, int]:
        """A counter's values by one label, among the samples that carry `labels`; zeros left
        out.
        """
        found: dict[str, int] = {}
        for sample in self.samples(metric):
            if labels.items() <= sample.labels.items() and sample.value:
                key = sample.labels[label]
                found[key] = found.get(key, 0) + round(sample.value)
        return found

    def exposition(self) -> bytes:
        """All metrics in Prometheus's text format."""
        for refresh in self.before_scrape:
            refresh()
        return generate_latest(self.registry)

    @staticmethod
    def samples(metric: Counter) -> Iterable[Sample]:
        """The values of a counter, one per set of labels."""
        return (
            sample
            for family in metric.collect()
            for sample in family.samples
            if sample.name.endswith("_total")
        )

    def _counter(self, name: str, text: str, labels: list[str]) -> Counter:
        return Counter(f"cidc_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, labels: list[str]) -> Gauge:
        return Gauge(f"cidc_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, labels: list[str]) -> Histogram:
        return Histogram(f"cidc_{name}", text, labels, registry=self.registry, buckets=_SECONDS)
