"""How much of its capacity a pipeline uses, from what it measures already.

Each part of the pipeline has a capacity of 1: all its threads busy all the time. Where work is
dropped because a part is full, its load is what it would be without drops, so it exceeds 1.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from stream.metrics import Metrics

__all__ = ["LoadMeter", "Reading", "load_parts", "usable_cores"]

_WINDOW_SECONDS = 30.0
_PERIOD_SECONDS = 1.0
_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")


@dataclasses.dataclass(frozen=True)
class Reading:
    """Counts since the start of a run, at one moment.

    Attributes:
        at_seconds: monotonic time.
        busy_seconds: seconds for which each part was busy; half a second if one of two threads was
            busy for a second.
        clips: clips analysed.
        dropped_clips: clips that were dropped because the network was behind.
        frames: frames decoded.
        dropped_packets: packets that were dropped because decoding was behind.
    """

    at_seconds: float
    busy_seconds: Mapping[str, float]
    clips: int = 0
    dropped_clips: int = 0
    frames: int = 0
    dropped_packets: int = 0


def load_parts(first: Reading, last: Reading) -> dict[str, float]:
    """Return the load of each part between two readings, from 0 on; 1 is its capacity.

    A packet counts as a frame. Counts of removed cameras disappear; a negative difference is 0.
    """
    seconds = last.at_seconds - first.at_seconds
    if seconds <= 0:
        return {}

    def gained(name: str) -> float:
        difference: int = getattr(last, name) - getattr(first, name)
        return max(0, difference)

    clips, frames = gained("clips"), gained("frames")
    demand = {"network": 1 + gained("dropped_clips") / clips if clips else 1.0}
    decoding = 1 + gained("dropped_packets") / frames if frames else 1.0
    demand |= {"decoder": decoding, "processor": decoding}
    parts = {}
    for part, busy in last.busy_seconds.items():
        used = max(0.0, busy - first.busy_seconds.get(part, 0.0)) / seconds
        parts[part] = round(used * demand.get(part, 1.0), 4)
    return parts


class LoadMeter:
    """Measures the load of a pipeline over the last 30 seconds, and shows it in the metrics.

    Args:
        busy: functions that return the busy seconds of each part since the start, as in `Reading`.

    Attributes:
        parts: the load of each part; empty before the second reading.
        peak: the highest load of a window so far.
    """

    def __init__(self, metrics: Metrics, busy: Mapping[str, Callable[[], float]]) -> None:
        cores = usable_cores()
        processor: dict[str, Callable[[], float]] = {
            "processor": lambda: time.process_time() / cores
        }
        self._metrics = metrics
        self._busy = {**busy, **processor}
        self._readings: collections.deque[Reading] = collections.deque()
        self.parts: Mapping[str, float] = {}
        self.peak = 0.0

    @property
    def load(self) -> float:
        """The load of the part that limits: the highest."""
        return max(self.parts.values(), default=0.0)

    def update(self) -> None:
        """Take a reading, at most one per second. Call this regularly."""
        now = time.monotonic()
        if self._readings and now - self._readings[-1].at_seconds < _PERIOD_SECONDS:
            return
        self._readings.append(self._read(now))
        while now - self._readings[0].at_seconds > _WINDOW_SECONDS:
            self._readings.popleft()
        self.parts = load_parts(self._readings[0], self._readings[-1])
        self.peak = max(self.peak, self.load)
        self._metrics.worker.load.set(self.load)
        for part, load in self.parts.items():
            self._metrics.worker.load_part.labels(part).set(load)

    def summary(self) -> dict[str, object]:
        """The load for the summary of a run: of the last window, and the highest."""
        return {"last": self.load, "peak": self.peak, "parts": dict(self.parts)}

    def _read(self, now: float) -> Reading:
        metrics = self._metrics
        return Reading(
            now,
            {part: busy() for part, busy in self._busy.items()},
            clips=metrics.total(metrics.clips),
            dropped_clips=metrics.total(metrics.dropped_clips, reason="overload"),
            frames=metrics.total(metrics.decoded),
            dropped_packets=metrics.total(metrics.dropped_packets, reason="decoder"),
        )


def usable_cores(cpu_max: Path = _CPU_MAX) -> float:
    """Return how many processor cores this process may use: its affinity, or its container's quota.

    Args:
        cpu_max: the file of Linux with the quota; it may be missing.
    """
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
    with contextlib.suppress(OSError, ValueError):
        quota, period = cpu_max.read_text(encoding="ascii").split()
        if quota != "max":
            cores = min(cores, int(quota) / int(period))
    return max(cores, 0.01)
