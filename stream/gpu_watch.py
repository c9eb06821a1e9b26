"""Watches how busy the GPU is, for the metrics and for the summary of a run.

A thread asks NVIDIA's management library every few seconds. Nothing depends on it: if the library
is missing, fails or hangs, the log says so once, the gauges disappear, and the pipeline runs on.

This module has not run on a GPU yet; tests replace the library.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging
from collections.abc import Callable
from typing import Any

import torch

from configs import DriverError
from model.nvml import GpuMeter, GpuNames, GpuReading
from stream.metrics import Metrics
from stream.stage import Stage

__all__ = ["GpuWatch", "UseLog"]

_log = logging.getLogger(__name__)
_PERIOD_SECONDS = 2.0
# A driver that does not answer for this long hangs, and its last reading is no longer shown.
_STALE_SECONDS = 10.0
_CLOSE_SECONDS = 2.0
_UNITS = ("compute", "decoder", "encoder", "memory")
_OPEN_DECODERS = "cidc_open_decoders"
_FALLBACKS = "cidc_decoder_fallbacks_total"


class UseLog:
    """Counts how often each use was seen, in whole percent: NVML gives no more digits."""

    def __init__(self) -> None:
        self._counts = [0] * 101

    def add(self, use: float) -> None:
        """Add one use, from 0 to 1."""
        self._counts[min(100, max(0, round(use * 100)))] += 1

    def describe(self) -> dict[str, float] | None:
        """Return `mean` and `p95` (by nearest rank), from 0 to 1; None if nothing was added."""
        total = sum(self._counts)
        if not total:
            return None
        mean = sum(percent * count for percent, count in enumerate(self._counts)) / total
        up_to = itertools.accumulate(self._counts)
        p95 = next(percent for percent, count in enumerate(up_to) if count >= 0.95 * total)
        return {"mean": round(mean / 100, 4), "p95": p95 / 100}


@dataclasses.dataclass
class _Peaks:
    """The largest numbers of a run."""

    used_bytes: int | None = None
    process_bytes: int | None = None
    open_decoders: dict[str, int] = dataclasses.field(default_factory=dict)

    def add(self, reading: GpuReading) -> None:
        self.used_bytes = _larger(self.used_bytes, reading.used_bytes)
        self.process_bytes = _larger(self.process_bytes, reading.process_bytes)


def _larger(first: int | None, second: int | None) -> int | None:
    return max((value for value in (first, second) if value is not None), default=None)


class GpuWatch(Stage):
    """Reads the pipeline's GPU every few seconds, from `start` until `close`.

    Args:
        device: of the pipeline. On another device than a GPU, nothing is ever shown.
        metrics: gets the gauges; the number of open decoders is read from it.
        open_meter: opens what is read; raises `DriverError`.
        period_seconds: between two readings.
    """

    def __init__(
        self,
        device: torch.device,
        metrics: Metrics,
        *,
        open_meter: Callable[[], GpuMeter] | None = None,
        period_seconds: float = _PERIOD_SECONDS,
    ) -> None:
        super().__init__("gpu")
        self._device = device
        self._metrics = metrics
        self._open_meter = open_meter or (lambda: GpuMeter(GpuNames.of(device)))
        self._period_seconds = period_seconds
        self._latest: GpuReading | None = None
        self._problem: str | None = None
        self._is_hanging = False
        self._uses = {unit: UseLog() for unit in _UNITS}
        self._peaks = _Peaks()
        self._total_bytes: int | None = None

    @classmethod
    def on(cls, device: torch.device, metrics: Metrics, stack: contextlib.ExitStack) -> GpuWatch:
        """Watch a pipeline's device until `stack` is closed, and show what is read."""
        watch = cls(device, metrics)
        metrics.before_scrape.append(watch.show)
        stack.callback(watch.close)
        if device.type == "cuda":
            watch.start()
        return watch

    def run(self) -> None:
        """Read until `stopping` is set, or until it is clear that nothing can be read."""
        try:
            meter = self._open_meter()
        except DriverError as error:
            self._problem = str(error)
            _log.warning("the use of the GPU is not shown: %s", error)
            return
        try:
            while True:
                self._read(meter)
                self.beat()
                if self.stopping.wait(self._period_seconds):
                    return
        finally:
            self._latest = None
            meter.close()

    def show(self) -> None:
        """Set the gauges to the latest reading; without one that is fresh, they disappear."""
        use, memory = self._metrics.gpu_use, self._metrics.gpu_memory
        use.clear()
        memory.clear()
        reading = self._latest
        if self._hangs() or reading is None:
            return
        for unit in _UNITS:
            if (ratio := getattr(reading, unit)) is not None:
                use.labels(unit).set(ratio)
        for kind in ("used", "total", "process"):
            if (size := getattr(reading, f"{kind}_bytes")) is not None:
                memory.labels(kind).set(size)

    def summary(self) -> dict[str, Any] | None:
        """Return the section `gpu` of a run's summary; None if the pipeline has no GPU."""
        if self._device.type != "cuda":
            return None
        uses = {unit: log.describe() for unit, log in self._uses.items()}
        return {
            "use": {unit: use for unit, use in uses.items() if use is not None},
            "memory_bytes": {
                "total": self._total_bytes,
                "used_peak": self._peaks.used_bytes,
                "process_peak": self._peaks.process_bytes,
            },
            "open_decoders_peak": self._peaks.open_decoders,
            "decoder_fallbacks": self._counts(_FALLBACKS, "reason"),
            "problem": "the driver hangs" if self._hangs() else self._problem,
        }

    def close(self) -> None:
        """End the thread. If the driver hangs, the thread is left to itself."""
        self.stop()
        self.join(_CLOSE_SECONDS)

    def _read(self, meter: GpuMeter) -> None:
        self._note_open_decoders()
        try:
            reading = meter.read()
        except DriverError as error:
            self._latest = None
            if self._problem is None:
                _log.warning("the use of the GPU is not shown until the driver answers: %s", error)
            self._problem = str(error)
            return
        if self._problem is not None:
            _log.info("the GPU's driver answers again")
        self._problem = None
        self._latest = reading
        for unit, log in self._uses.items():
            if (use := getattr(reading, unit)) is not None:
                log.add(use)
        self._peaks.add(reading)
        self._total_bytes = reading.total_bytes

    def _hangs(self) -> bool:
        """Tell whether the driver has not answered for long; log it once."""
        silent = self.silent_seconds if self.is_alive else 0.0
        hangs = silent > _STALE_SECONDS
        if hangs and not self._is_hanging:
            _log.warning("the GPU's driver has not answered for %.0f s; its use is unknown", silent)
        self._is_hanging = hangs
        return hangs

    def _note_open_decoders(self) -> None:
        peaks = self._peaks.open_decoders
        for kind, count in self._counts(_OPEN_DECODERS, "kind").items():
            peaks[kind] = max(count, peaks.get(kind, 0))

    def _counts(self, name: str, label: str) -> dict[str, int]:
        """Return a metric by one label, without zeros; empty if there is no such metric."""
        found: dict[str, int] = {}
        for family in self._metrics.registry.restricted_registry([name]).collect():
            for sample in family.samples:
                if sample.value:
                    key = sample.labels.get(label, "")
                    found[key] = found.get(key, 0) + round(sample.value)
        return found
