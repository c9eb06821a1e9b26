"""Counts false alarms in recordings in which none of the actions happens.

Precision says how many events of a busy recording are wrong. It says nothing about the hours in
which nothing happens, and cameras mostly see such hours.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from train.data.manifest import Manifest, ManifestEntry
from train.data.video_check import recording_hours
from train.evaluation.event_metrics import StartedEvent, is_empty

__all__ = ["QuietHours", "measure_quiet_hours", "upper_rate"]

_CONFIDENCE = 0.95
_HALVINGS = 80


@dataclasses.dataclass(frozen=True)
class QuietHours:
    """Events in recordings that hold none of the actions: each of them is a false alarm.

    `per_action` holds the number of false alarms of each action that was announced.
    """

    recordings: int
    camera_hours: float
    per_action: dict[str, int]

    @property
    def false_alarms(self) -> int:
        """Number of false alarms."""
        return sum(self.per_action.values())

    def summary(self) -> dict[str, Any]:
        """Return the figures as one JSON value; rates are None if the video has no length."""
        hours = self.camera_hours
        return {
            "recordings": self.recordings,
            "camera_hours": round(hours, 4),
            "false_alarms": self.false_alarms,
            "false_alarms_per_camera_hour": round(self.false_alarms / hours, 2) if hours else None,
            "at_most_with_95_percent_confidence": (
                round(upper_rate(self.false_alarms, hours), 2) if hours else None
            ),
            "per_action": dict(self.per_action),
        }


def measure_quiet_hours(truth: Manifest, events: Sequence[StartedEvent]) -> QuietHours | None:
    """Count the events in the recordings of a truth file that hold no action.

    A truth entry that is labelled `background` and has no interval stands for such a recording.

    Returns:
        The counts, or None if every recording holds an action.

    Raises:
        MediaError: a recording cannot be opened; the message names it.
    """
    quiet = _quiet_entries(truth)
    if not quiet:
        return None
    cameras = {entry.path.stem for entry in quiet}
    counts = Counter(event.action for event in events if event.camera in cameras)
    hours = recording_hours(Manifest(truth.path, quiet))
    return QuietHours(len(cameras), hours, dict(sorted(counts.items())))


def upper_rate(count: int, hours: float) -> float:
    """Return the rate per hour that the true rate does not exceed, with 95 % confidence.

    It is the exact bound for events that happen independently of each other (a Poisson process):
    with no event at all, 3 divided by the hours. Few quiet hours therefore prove little.
    """
    low, high = float(count), 2.0 * count + 10.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _at_most(count, middle) > 1 - _CONFIDENCE:
            low = middle
        else:
            high = middle
    return high / hours


def _at_most(count: int, mean: float) -> float:
    """Return the probability that a Poisson variable with this mean is at most `count`."""
    if mean == 0:
        return 1.0
    logs = (n * math.log(mean) - mean - math.lgamma(n + 1) for n in range(count + 1))
    return math.fsum(map(math.exp, logs))


def _quiet_entries(truth: Manifest) -> tuple[ManifestEntry, ...]:
    busy = {entry.path for entry in truth.entries if not is_empty(entry)}
    return tuple(entry for entry in truth.entries if entry.path not in busy)
