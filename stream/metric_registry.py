"""Makes the metrics of one pipeline, forgets those of cameras that are gone, and adds them up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.samples import Sample

__all__ = ["MetricRegistry"]

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0)


class MetricRegistry:
    """The registry of one pipeline; `stream/metrics.py` names its metrics.

    Methods may be called from any thread.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        # Memory, descriptors and processor time of this process.
        ProcessCollector(registry=self.registry)
        self.before_scrape: list[Callable[[], None]] = []
        self._of_cameras: list[Counter | Gauge] = []
        self._generations: dict[str, int] = {}
        self._forgotten: set[str] | None = None  # during a scrape: cameras forgotten meanwhile
        self._lock = threading.Lock()
        self._scraping = threading.Lock()

    def note_generation(self, camera_id: str, generation: int) -> None:
        """Note that a camera was added or reopened; its series belong to this generation now."""
        with self._lock:
            self._generations[camera_id] = generation
            if self._forgotten is not None:
                self._forgotten.discard(camera_id)

    def forget(self, camera_id: str, generation: int) -> None:
        """Drop every series of a camera that is gone, unless it was added again since."""
        with self._lock:
            if self._generations.get(camera_id, generation) > generation:
                return
            self._generations.pop(camera_id, None)
            if self._forgotten is not None:
                self._forgotten.add(camera_id)
            self._drop(camera_id)

    def _drop(self, camera_id: str) -> None:
        for metric in self._of_cameras:
            metric.remove_by_labels({"camera": camera_id})

    def total(self, metric: Counter, **labels: str) -> int:
        """Sum of a counter over all samples that carry `labels`."""
        return round(sum(sample.value for sample in self.matching(metric, **labels)))

    def by_camera(self, metric: Counter) -> dict[str, int]:
        """Sums of a counter by camera."""
        sums: dict[str, float] = {}
        for sample in self.matching(metric):
            camera_id = sample.labels["camera"]
            sums[camera_id] = sums.get(camera_id, 0) + sample.value
        return {camera_id: round(value) for camera_id, value in sums.items()}

    def by_label(self, metric: Counter, label: str, **labels: str) -> dict[str, int]:
        """Sums of a counter by one label, over the samples that carry `labels`, without zeros."""
        found: dict[str, int] = {}
        for sample in self.matching(metric, **labels):
            if sample.value:
                key = sample.labels[label]
                found[key] = found.get(key, 0) + round(sample.value)
        return found

    def exposition(self) -> bytes:
        """All metrics in Prometheus's text format."""
        return self._exposition(generate_latest)

    def openmetrics(self) -> bytes:
        """All metrics in the OpenMetrics format, which has exemplars."""
        return self._exposition(openmetrics.generate_latest)

    def _exposition(self, generate: Callable[[CollectorRegistry], bytes]) -> bytes:
        with self._scraping:
            self._refresh()
            return generate(self.registry)

    def _refresh(self) -> None:
        """Update gauges; a camera that goes away meanwhile leaves no series behind."""
        with self._lock:
            self._forgotten = set()
        try:
            for refresh in self.before_scrape:
                refresh()
        finally:
            with self._lock:
                for camera_id in self._forgotten:
                    self._drop(camera_id)
                self._forgotten = None

    @staticmethod
    def matching(metric: Counter, **labels: str) -> Iterator[Sample]:
        """The values of a counter that carry `labels`, one per set of labels."""
        for family in metric.collect():
            for sample in family.samples:
                if sample.name.endswith("_total") and labels.items() <= sample.labels.items():
                    yield sample

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"cidc_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"cidc_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(f"cidc_{name}", text, labels, registry=self.registry, buckets=_SECONDS)

    def _camera_counter(self, name: str, text: str, *labels: str) -> Counter:
        counter = self._counter(name, text, "camera", *labels)
        self._of_cameras.append(counter)
        return counter

    def _camera_gauge(self, name: str, text: str, *labels: str) -> Gauge:
        gauge = self._gauge(name, text, "camera", *labels)
        self._of_cameras.append(gauge)
        return gauge
