"""Events against the truth of untrimmed recordings: precision, recall, F1, false events per
camera-hour.

An event is right if a true interval of the same recording has the same action and starts within the
tolerance; every interval is found at most once, nearest first.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from configs import DataError
from train.data.manifest import Manifest, ManifestEntry

__all__ = [
    "EventScore",
    "StartedEvent",
    "match_starts",
    "only_actions",
    "read_started_events",
    "score_events",
]


@dataclasses.dataclass(frozen=True)
class StartedEvent:
    """The start of an action as the live pipeline announced it; presentation times in seconds.

    `announced_seconds` is the end of the clip that told.
    """

    camera: str
    action: str
    start_seconds: float
    announced_seconds: float | None = None


@dataclasses.dataclass(frozen=True)
class EventScore:
    """Counts over all recordings, and the same per action: (found, missed, false)."""

    found: int
    missed: int
    false: int
    camera_hours: float
    per_action: dict[str, tuple[int, int, int]]
    start_errors_seconds: tuple[float, ...]
    detection_seconds: tuple[float, ...] = ()  # from the true start to the announcement

    @property
    def precision(self) -> float:
        """Share of events that are right."""
        return self.found / max(self.found + self.false, 1)

    @property
    def recall(self) -> float:
        """Share of true actions that were found."""
        return self.found / max(self.found + self.missed, 1)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return 2 * self.found / max(2 * self.found + self.missed + self.false, 1)

    def summary(self) -> dict[str, Any]:
        """The figures as one JSON value."""
        errors = [abs(error) for error in self.start_errors_seconds]
        return {
            "true_events": self.found + self.missed,
            "found": self.found,
            "missed": self.missed,
            "false": self.false,
            "precision": round(self.precision, 4),
            "recall": round(self.recall, 4),
            "f1": round(self.f1, 4),
            "false_per_camera_hour": (
                round(self.false / self.camera_hours, 2) if self.camera_hours else None
            ),
            "median_start_error_seconds": _quantile(errors, 0.5),
            "time_to_detect_p50_seconds": _quantile(self.detection_seconds, 0.5),
            "time_to_detect_p90_seconds": _quantile(self.detection_seconds, 0.9),
            "per_action": {
                name: dict(zip(("found", "missed", "false"), counts, strict=True))
                for name, counts in self.per_action.items()
            },
        }


def read_started_events(path: Path) -> list[StartedEvent]:
    """The `started` events of a JSON Lines file as `python -m stream events --format jsonl` prints
    it.

    Raises:
        DataError: the file is missing or a line is not an event.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"event file {path} cannot be read: {error}") from None
    events = []
    for number, line in enumerate(lines, start=1):
        try:
            event = json.loads(line)
            if event["kind"] == "started":
                begun, told = (
                    datetime.fromisoformat(event[key]) for key in ("started_at", "produced_at")
                )
                start = float(event["pts_start_seconds"])
                events.append(
                    StartedEvent(
                        event["camera_id"],
                        event["action"],
                        start,
                        start + (told - begun).total_seconds(),
                    )
                )
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"event file {path}, line {number} is not an action event: {error!r}"
            ) from None
    return events


def only_actions(
    truth: Manifest, events: Sequence[StartedEvent], actions: Sequence[str]
) -> tuple[Manifest, list[StartedEvent]]:
    """What concerns these actions: for truths that label no others. Every recording stays.

    Raises:
        DataError: the truth has none of an action.
    """
    unknown = sorted(set(actions) - set(truth.counts))
    if unknown:
        raise DataError(
            f"--only: the truth {truth.path} has no {', '.join(unknown)}; its actions are"
            f" {', '.join(sorted(truth.counts))}"
        )
    entries = [
        (
            entry
            if entry.label in actions or _is_empty(entry)
            else dataclasses.replace(
                entry, label="background", start_seconds=None, end_seconds=None
            )
        )
        for entry in truth.entries
    ]
    return Manifest(truth.path, tuple(entries)), [
        event for event in events if event.action in actions
    ]


def score_events(
    truth: Manifest, events: Sequence[StartedEvent], *, hours: float, tolerance_seconds: float = 1.0
) -> EventScore:
    """Compare events with the truth; a recording's file name without its ending is its camera's
    name.

    A truth entry labelled `background`, without an interval, is a recording in which nothing
    happens.

    Raises:
        DataError: another truth entry has no interval.
    """
    found: dict[str, int] = {}
    errors: list[float] = []
    delays: list[float] = []
    true_counts = _count(entry.label for entry in truth.entries if not _is_empty(entry))
    event_counts = _count(event.action for event in events)
    for key, starts in _truth_starts(truth).items():
        mine = [event for event in events if (event.camera, event.action) == key]
        pairs = match_starts(starts, [event.start_seconds for event in mine], tolerance_seconds)
        errors += [mine[j].start_seconds - starts[i] for i, j in pairs]
        delays += [
            told - starts[i] for i, j in pairs if (told := mine[j].announced_seconds) is not None
        ]
        found[key[1]] = found.get(key[1], 0) + len(pairs)
    per_action = {
        action: (
            found.get(action, 0),
            true_counts.get(action, 0) - found.get(action, 0),
            event_counts.get(action, 0) - found.get(action, 0),
        )
        for action in sorted(true_counts.keys() | event_counts.keys())
    }
    hit, missed, false = (sum(counts[i] for counts in per_action.values()) for i in range(3))
    return EventScore(hit, missed, false, hours, per_action, tuple(errors), tuple(delays))


def _truth_starts(truth: Manifest) -> dict[tuple[str, str], list[float]]:
    starts: dict[tuple[str, str], list[float]] = {}
    for entry in truth.entries:
        if _is_empty(entry):
            continue
        if entry.start_seconds is None:
            where = f"truth {truth.path}: {entry.path.name}, {entry.label},"
            raise DataError(
                f"{where} has no start_seconds and end_seconds; only a recording without actions"
                " may, labelled background"
            )
        starts.setdefault((entry.path.stem, entry.label), []).append(entry.start_seconds)
    return starts


def match_starts(
    truth: list[float], events: list[float], tolerance: float
) -> list[tuple[int, int]]:
    """Matched pairs of positions, nearest pairs first, each used once."""
    candidates = sorted(
        (abs(e - t), i, j)
        for i, t in enumerate(truth)
        for j, e in enumerate(events)
        if abs(e - t) <= tolerance
    )
    pairs: list[tuple[int, int]] = []
    used_truth = set()
    used_events = set()
    for _, i, j in candidates:
        if i not in used_truth and j not in used_events:
            used_truth.add(i)
            used_events.add(j)
            pairs.append((i, j))
    return pairs


def _is_empty(entry: ManifestEntry) -> bool:
    return entry.start_seconds is None and entry.label == "background"


def _quantile(values: Sequence[float], share: float) -> float | None:
    return round(sorted(values)[int(share * (len(values) - 1) + 0.5)], 3) if values else None


def _count(names: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return counts
