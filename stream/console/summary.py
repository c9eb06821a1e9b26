"""The summary of a run, as a JSON document and as a few readable lines."""

from __future__ import annotations

import collections
import json
import math
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from configs import ConfigError
from stream.metrics import Metrics
from stream.sinks.config import KAFKA
from stream.types import CameraSnapshot

__all__ = ["LatencyLog", "build_summary", "summary_lines", "write_summary"]


class LatencyLog:
    """Keeps the latest latencies in seconds for exact percentiles; the metrics count all.

    Args:
        on_value: told of each latency and its trace, for the metrics.
        max_values: number of latencies that are kept.
    """

    def __init__(
        self,
        on_value: Callable[[float, str | None], object] = lambda seconds, trace_id: None,
        max_values: int = 200_000,
    ) -> None:
        self._on_value = on_value
        self._values: collections.deque[float] = collections.deque(maxlen=max_values)
        self._lock = threading.Lock()

    def add(self, seconds: float, trace_id: str | None = None) -> None:
        """Add one latency in seconds; `trace_id` names the trace of the clip, if it has one."""
        self._on_value(seconds, trace_id)
        with self._lock:
            self._values.append(seconds)

    def values(self) -> list[float]:
        """Return the latest latencies in seconds, oldest first."""
        with self._lock:
            return list(self._values)

    def percentiles(self) -> dict[str, float | None]:
        """Return p50, p95 and p99 by nearest rank; None if no latencies were added."""
        ordered = sorted(self.values())
        return {f"p{percent}": _nearest_rank(ordered, percent) for percent in (50, 95, 99)}


def _nearest_rank(ordered: list[float], percent: int) -> float | None:
    if not ordered:
        return None
    rank = max(0, math.ceil(percent / 100 * len(ordered)) - 1)
    return round(ordered[rank], 4)


def build_summary(
    cameras: Iterable[CameraSnapshot],
    metrics: Metrics,
    latency: LatencyLog,
    counts: Mapping[tuple[str, str], int],
    *,
    outbox_left: int,
    lost: int,
    seconds: float,
    runtime: dict[str, str],
    network: Mapping[str, Any] | None = None,
    gpu: Mapping[str, Any] | None = None,
    http: str | None = None,
    load: Mapping[str, Any] | None = None,
    worker: Mapping[str, Any] | None = None,
    sinks: Mapping[str, Mapping[str, int]] | None = None,
) -> dict[str, Any]:
    """Build the summary of a run.

    Args:
        cameras: last status of each camera.
        metrics: metrics of the run, with the counts of each camera.
        latency: latencies from the arrival of a clip until its events were stored.
        counts: number of events by action and kind, including events of removed cameras.
        outbox_left: number of events left in the outbox.
        lost: number of events that could not be stored.
        seconds: duration of the run.
        runtime: description of the runtime, such as `device` and `dtype`.
        network: what ran the network, how often, and the memory it took; None if not known.
        gpu: what was watched of the GPU; None without a GPU, and then the summary has no `gpu`.
        http: address of the HTTP server; None if it is disabled.
        load: used fraction of the capacity, at last and at most; None if not known.
        worker: this worker's share in the cameras of a topic; None if they do not come from one,
            and then the summary has no `worker`.
        sinks: what each sink has taken, lost and left.
    """
    events: dict[str, dict[str, int]] = {}
    for (action, kind), count in counts.items():
        events.setdefault(action, {})[kind] = count
    summary: dict[str, Any] = {
        "duration_seconds": round(seconds, 3),
        "runtime": runtime,
        "network": None if network is None else dict(network),
        "http": http,
        "cameras": {camera.camera_id: _camera(camera, metrics) for camera in cameras},
        "events": events,
        "latency_seconds": latency.percentiles(),
        "published": metrics.total(metrics.published),
        "sinks": {name: dict(counts) for name, counts in (sinks or {}).items()},
        "outbox_left": outbox_left,
        "events_lost": lost,
        "load": None if load is None else dict(load),
    }
    if worker is not None:
        summary["worker"] = dict(worker)
    return summary if gpu is None else summary | {"gpu": dict(gpu)}


def _camera(camera: CameraSnapshot, metrics: Metrics) -> dict[str, Any]:
    name = camera.camera_id
    dropped = {
        "packets": metrics.by_label(metrics.dropped_packets, "reason", camera=name),
        "frames": metrics.by_label(metrics.dropped_frames, "reason", camera=name),
        "clips": metrics.by_label(metrics.dropped_clips, "reason", camera=name),
    }
    clips = metrics.total(metrics.clips, camera=name)
    blocked = [each.value for each in metrics.matching(metrics.blocked, camera=name)]
    return {
        "state": camera.state,
        "detail": camera.detail,
        "blind": None if camera.blind is None else camera.blind.reason.value,
        "frames_decoded": metrics.total(metrics.decoded, camera=name),
        "frames_sampled": metrics.total(metrics.sampled, camera=name),
        "frames_repeated": metrics.total(metrics.repeated, camera=name),
        "packets_undecodable": metrics.total(metrics.corrupt, camera=name),
        "clips": clips,
        "windows": clips,  # the name before 0.2.0
        "dropped": dropped,
        "drops": {reason: n for unit in dropped.values() for reason, n in unit.items()},
        "resets": metrics.by_label(metrics.resets, "reason", camera=name),
        "blocked_seconds": round(sum(blocked), 2),
        "reconnects": metrics.total(metrics.reconnects, camera=name),
    }


def summary_lines(summary: dict[str, Any]) -> list[str]:
    """Return the summary as a few lines of text."""
    cameras = summary["cameras"].values()
    frames = sum(camera["frames_decoded"] for camera in cameras)
    clips = sum(camera["clips"] for camera in cameras)
    started = sum(kinds.get("started", 0) for kinds in summary["events"].values())
    runtime = summary["runtime"]
    lines = [
        f"{len(cameras)} cameras, {frames} frames, {clips} clips analysed,"
        f" {_dropped_text(cameras)} dropped, {started} actions in"
        f" {summary['duration_seconds']:.1f} s on {runtime['device']} ({runtime['dtype']})"
    ]
    latency = summary["latency_seconds"]
    if latency["p50"] is not None:
        shown = ", ".join(f"{name} {seconds * 1e3:.0f} ms" for name, seconds in latency.items())
        lines.append(f"camera to event: {shown}")
    if "gpu" in summary:
        lines.append(_gpu_text(summary["gpu"]))
    lost = summary["events_lost"]
    lost_text = f", lost {lost}: they could not be stored" if lost else ""
    lines.append(
        f"published {summary['published']}, left in the outbox {summary['outbox_left']}{lost_text}"
    )
    lines += [_sink_text(name, sink) for name, sink in summary["sinks"].items() if name != KAFKA]
    return lines


def _sink_text(name: str, sink: Mapping[str, int]) -> str:
    """Return a text about a sink; zeros are left out, but not what it has taken."""
    units = {"waiting": "wait", "dead_letters": "refused", "lost": "lost"}
    others = [f", {sink[unit]} {text}" for unit, text in units.items() if sink[unit]]
    return f"sink {name}: {sink['events']} events taken{''.join(others)}"


def _gpu_text(gpu: Mapping[str, Any]) -> str:
    """Return a text about the GPU; what is unknown is left out."""
    shown = [f"{unit} {use['mean']:.0%} (p95 {use['p95']:.0%})" for unit, use in gpu["use"].items()]
    if (peak := gpu["memory_bytes"]["process_peak"]) is not None:
        shown.append(f"{peak / 2**30:.1f} GiB of memory")
    if gpu["decoder_fallbacks"]:
        shown.append(f"{sum(gpu['decoder_fallbacks'].values())} decoder fallbacks")
    if not shown and gpu["problem"]:
        shown.append(f"unknown: {gpu['problem']}")
    return f"GPU: {', '.join(shown) or 'unknown'}"


def _dropped_text(cameras: Iterable[dict[str, Any]]) -> str:
    """Return a text with the dropped packets, frames and clips; zeros are left out."""
    sums: collections.Counter[str] = collections.Counter()
    for camera in cameras:
        for unit, reasons in camera["dropped"].items():
            sums[unit] += sum(reasons.values())
    shown = [f"{count} {unit}" for unit, count in sums.items() if count]
    return " and ".join(shown) or "nothing"


def write_summary(summary: dict[str, Any], path: Path) -> None:
    """Write the summary to a JSON file.

    Raises:
        ConfigError: the file cannot be written.
    """
    try:
        path.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--summary: cannot write {path}: {error.strerror}") from None
