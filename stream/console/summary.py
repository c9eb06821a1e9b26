"""What a run did, as one JSON document and a few lines for people."""

from __future__ import annotations

import collections
import json
import math
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from configs import ConfigError
from stream.cameras.status import CameraStatus
from stream.metrics import Metrics

__all__ = ["LatencyLog", "build_summary", "summary_lines", "write_summary"]


class LatencyLog:
    """The latest latencies in seconds, for exact percentiles; the histogram in `Metrics` has all
    of them.
    """

    def __init__(self, most: int = 200_000) -> None:
        self._values: collections.deque[float] = collections.deque(maxlen=most)
        self._lock = threading.Lock()

    def add(self, seconds: float) -> None:
        """Note one latency."""
        with self._lock:
            self._values.append(seconds)

    def values(self) -> list[float]:
        """The latest, oldest first."""
        with self._lock:
            return list(self._values)

    def percentiles(self) -> dict[str, float | None]:
        """p50, p95 and p99 by nearest rank; null without values."""
        ordered = sorted(self.values())
        return {
            f"p{share}": round(ordered[_rank(share, len(ordered))], 4) if ordered else None
            for share in (50, 95, 99)
        }


def build_summary(
    statuses: Iterable[CameraStatus],
    metrics: Metrics,
    latency: LatencyLog,
    counts: Mapping[tuple[str, str], int],
    *,
    outbox_left: int,
    lost: int,
    seconds: float,
    runtime: dict[str, str],
    http: str | None = None,
) -> dict[str, Any]:
    """Counts per camera, from the metrics themselves, and of events by action and kind, those of
    removed cameras too.
    """
    events: dict[str, dict[str, int]] = {}
    for (action, kind), count in counts.items():
        events.setdefault(action, {})[kind] = count
    return {
        "duration_seconds": round(seconds, 3),
        "runtime": runtime,
        "http": http,
        "cameras": {status.camera.id: _camera(status, metrics) for status in statuses},
        "events": events,
        "latency_seconds": latency.percentiles(),
        "published": metrics.total(metrics.published),
        "outbox_left": outbox_left,
        "events_lost": lost,
    }


def summary_lines(summary: dict[str, Any]) -> list[str]:
    """The summary in a few lines."""
    cameras = summary["cameras"].values()
    frames, windows = (
        sum(camera[name] for camera in cameras) for name in ("frames_decoded", "windows")
    )
    dropped = sum(sum(camera["drops"].values()) for camera in cameras)
    started = sum(kinds.get("started", 0) for kinds in summary["events"].values())
    latency = summary["latency_seconds"]
    lines = [
        f"{len(cameras)} cameras, {frames} frames, {windows} clips analysed, {dropped} dropped,"
        f" {started} actions in {summary['duration_seconds']:.1f} s on"
        f" {summary['runtime']['device']} ({summary['runtime']['dtype']})"
    ]
    if latency["p50"] is not None:
        lines.append(
            f"camera to event: p50 {latency['p50'] * 1e3:.0f} ms, p95 {latency['p95'] * 1e3:.0f}"
            f" ms, p99 {latency['p99'] * 1e3:.0f} ms"
        )
    lost = (
        f", lost {summary['events_lost']}: they could not be stored"
        if summary["events_lost"]
        else ""
    )
    lines.append(
        f"published {summary['published']}, left in the outbox {summary['outbox_left']}{lost}"
    )
    return lines


def write_summary(summary: dict[str, Any], path: Path) -> None:
    """Write the summary as JSON.

    Raises:
        ConfigError: the file cannot be written.
    """
    try:
        path.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--summary: cannot write {path}: {error.strerror}") from None


def _camera(status: CameraStatus, metrics: Metrics) -> dict[str, Any]:
    camera_id = status.camera.id
    return {
        "state": status.state,
        "detail": status.detail,
        "frames_decoded": metrics.total(metrics.decoded, camera=camera_id),
        "frames_sampled": metrics.total(metrics.sampled, camera=camera_id),
        "frames_repeated": metrics.total(metrics.repeated, camera=camera_id),
        "packets_undecodable": metrics.total(metrics.corrupt, camera=camera_id),
        "windows": metrics.total(metrics.windows, camera=camera_id),
        "drops": metrics.by_label(metrics.dropped, "reason", camera=camera_id),
        "resets": metrics.by_label(metrics.resets, "reason", camera=camera_id),
        "blocked_seconds": round(
            sum(
                s.value for s in metrics.samples(metrics.blocked) if s.labels["camera"] == camera_id
            ),
            2,
        ),
        "reconnects": metrics.total(metrics.reconnects, camera=camera_id),
    }


def _rank(share: int, count: int) -> int:
    return max(0, math.ceil(share / 100 * count) - 1)
