"""Compares events with the true actions of untrimmed recordings: precision, recall, F1.

An event is correct if a true interval of the same recording has the same action and starts within
the tolerance. Each event and each interval is matched at most once, the closest pairs first.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from configs import DataError, lines_of, quoted, read_text
from train.data.manifest import Manifest, ManifestEntry

__all__ = [
    "EventMetrics",
    "StartedEvent",
    "is_empty",
    "match_starts",
    "measure_events",
    "only_actions",
    "read_started_events",
]


@dataclasses.dataclass(frozen=True)
class StartedEvent:
    """The start of an action, as the live pipeline announces it; presentation times in seconds.

    `announced_seconds` is the end time of the clip in which the network recognised the action.
    """

    camera: str
    action: str
    start_seconds: float
    announced_seconds: float | None = None


@dataclasses.dataclass(frozen=True)
class EventMetrics:
    """Counts of found, missed and false events over all recordings.

    `per_action` holds the same three counts, in this order, for each action.
    """

    found: int
    missed: int
    false: int
    camera_hours: float
    per_action: dict[str, tuple[int, int, int]]
    start_errors_seconds: tuple[float, ...]
    detection_seconds: tuple[float, ...] = ()  # from the true start to the announcement

    @property
    def precision(self) -> float:
        """Fraction of the events that are correct."""
        return self.found / max(self.found + self.false, 1)

    @property
    def recall(self) -> float:
        """Fraction of the true actions that were found."""
        return self.found / max(self.found + self.missed, 1)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return 2 * self.found / max(2 * self.found + self.missed + self.false, 1)

    @property
    def false_per_camera_hour(self) -> float | None:
        """False events per hour of video; None if the video has no length."""
        return round(self.false / self.camera_hours, 2) if self.camera_hours else None

    def summary(self) -> dict[str, Any]:
        """Return the figures as one JSON value."""
        errors = [abs(error) for error in self.start_errors_seconds]
        return {
            "true_events": self.found + self.missed,
            "found": self.found,
            "missed": self.missed,
            "false": self.false,
            "precision": round(self.precision, 4),
            "recall": round(self.recall, 4),
            "f1": round(self.f1, 4),
            "false_per_camera_hour": self.false_per_camera_hour,
            "median_start_error_seconds": _quantile(errors, 0.5),
            "time_to_detect_p50_seconds": _quantile(self.detection_seconds, 0.5),
            "time_to_detect_p90_seconds": _quantile(self.detection_seconds, 0.9),
            "per_action": {
                name: dict(zip(("found", "missed", "false"), counts, strict=True))
                for name, counts in self.per_action.items()
            },
        }


def read_started_events(path: Path) -> list[StartedEvent]:
    """Read the `started` events of a file written by `python -m stream events --format jsonl`.

    Raises:
        DataError: the file is missing or a line is not an event.
    """
    if not path.is_file():
        raise DataError(f"event file {path} cannot be read: there is no such file")
    events = []
    for number, line in enumerate(lines_of(read_text(path, "event file", DataError)), start=1):
        if not line.strip():
            continue
        try:
            event = json.loads(line)
            if event["kind"] == "started":
                events.append(_started_event(event))
        except (ValueError, KeyError, TypeError, ArithmeticError, RecursionError) as error:
            raise DataError(
                f"event file {path}, line {number} is not an action event: {quoted(error)}"
            ) from None
    return events


def only_actions(
    truth: Manifest, events: Sequence[StartedEvent], actions: Sequence[str]
) -> tuple[Manifest, list[StartedEvent]]:
    """Keep only these actions in truth and events; use it if the truth labels no other actions.

    No recording is removed: without its actions it is an empty recording.

    Raises:
        DataError: the truth does not contain one of the actions.
    """
    unknown = sorted(set(actions) - set(truth.counts))
    if unknown:
        raise DataError(
            f"--only: the truth {truth.path} has no {', '.join(unknown)}; its actions are"
            f" {', '.join(sorted(truth.counts))}"
        )
    entries = [
        entry
        if entry.label in actions or is_empty(entry)
        else dataclasses.replace(entry, label="background", start_seconds=None, end_seconds=None)
        for entry in truth.entries
    ]
    kept = [event for event in events if event.action in actions]
    return Manifest(truth.path, tuple(entries)), kept


def measure_events(
    truth: Manifest, events: Sequence[StartedEvent], *, hours: float, tolerance_seconds: float = 1.0
) -> EventMetrics:
    """Compare events with the truth; the camera of a recording is its file name without extension.

    A truth entry that is labelled `background` and has no interval stands for a recording without
    actions.

    Raises:
        DataError: an entry with an action label has no interval.
    """
    found: Counter[str] = Counter()
    errors: list[float] = []
    delays: list[float] = []
    for (camera, action), starts in _truth_starts(truth).items():
        mine = [event for event in events if (event.camera, event.action) == (camera, action)]
        pairs = match_starts(starts, [event.start_seconds for event in mine], tolerance_seconds)
        found[action] += len(pairs)
        for true_index, event_index in pairs:
            event = mine[event_index]
            errors.append(event.start_seconds - starts[true_index])
            if event.announced_seconds is not None:
                delays.append(event.announced_seconds - starts[true_index])
    per_action = _counts_per_action(truth, events, found)
    hits, missed, false = (sum(counts[i] for counts in per_action.values()) for i in range(3))
    return EventMetrics(hits, missed, false, hours, per_action, tuple(errors), tuple(delays))


def match_starts(
    truth: Sequence[float], events: Sequence[float], tolerance: float
) -> list[tuple[int, int]]:
    """Match true starts with events within a tolerance, closest pairs first, each at most once.

    Returns:
        Pairs of indices: the first into `truth`, the second into `events`.
    """
    candidates = sorted(
        (abs(event - true), true_index, event_index)
        for true_index, true in enumerate(truth)
        for event_index, event in enumerate(events)
        if abs(event - true) <= tolerance
    )
    pairs: list[tuple[int, int]] = []
    used_truth = set()
    used_events = set()
    for _, true_index, event_index in candidates:
        if true_index not in used_truth and event_index not in used_events:
            used_truth.add(true_index)
            used_events.add(event_index)
            pairs.append((true_index, event_index))
    return pairs


def _started_event(event: Mapping[str, Any]) -> StartedEvent:
    started_at = datetime.fromisoformat(event["started_at"])
    produced_at = datetime.fromisoformat(event["produced_at"])
    start = float(event["pts_start_seconds"])
    announced = start + (produced_at - started_at).total_seconds()
    camera, action = event["camera_id"], event["action"]
    if not isinstance(camera, str) or not isinstance(action, str) or not math.isfinite(start):
        raise ValueError("camera_id and action must be texts, and pts_start_seconds a number")
    return StartedEvent(camera, action, start, announced)


def _truth_starts(truth: Manifest) -> dict[tuple[str, str], list[float]]:
    """Return the true starts by camera and action."""
    starts: dict[tuple[str, str], list[float]] = {}
    for entry in truth.entries:
        if is_empty(entry):
            continue
        if entry.start_seconds is None:
            raise DataError(
                f"truth {truth.path}: {entry.path.name}, {entry.label}, has no start_seconds and"
                " end_seconds; only entries labelled background, for recordings without actions,"
                " may leave them out"
            )
        starts.setdefault((entry.path.stem, entry.label), []).append(entry.start_seconds)
    return starts


def _counts_per_action(
    truth: Manifest, events: Sequence[StartedEvent], found: Counter[str]
) -> dict[str, tuple[int, int, int]]:
    """Return found, missed and false events of each action."""
    true_counts = Counter(entry.label for entry in truth.entries if not is_empty(entry))
    event_counts = Counter(event.action for event in events)
    return {
        action: (
            found[action],
            true_counts[action] - found[action],
            event_counts[action] - found[action],
        )
        for action in sorted(true_counts.keys() | event_counts.keys())
    }


def is_empty(entry: ManifestEntry) -> bool:
    """Return whether an entry of a truth file stands for a recording without actions."""
    return entry.start_seconds is None and entry.label == "background"


def _quantile(values: Sequence[float], fraction: float) -> float | None:
    if not values:
        return None
    return round(sorted(values)[int(fraction * (len(values) - 1) + 0.5)], 3)
