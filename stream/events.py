"""What is published when an action starts and ends, and the state machine of a camera that says so.

Nothing here reads a clock, a random source or a device: the same windows give the same events.
"""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import json
import math
import uuid
from collections.abc import Iterator, Sequence
from typing import get_args

from pydantic import Field

from configs import DataError
from model.detection import ActionDetector, Detection, DetectionConfig, DetectionKind
from stream.frames import BreakReason

__all__ = ["SCHEMA", "ActionEvent", "EventConfig", "EventDetector", "EventKind", "StoredEvent", "rfc3339"]

SCHEMA = "action-event/1"
EventKind = DetectionKind
_NAMESPACE = uuid.UUID("5b0d6d4e-3f0b-5c7e-9d2a-6a1c4cf0a7e1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ActionEvent:
    """What is published: schema `action-event/1`, described in `docs/action-event.schema.json`.

    `started_at`, `ended_at` and `produced_at` are RFC 3339 times in UTC; `pts_*_seconds` are presentation times of the
    stream. The events of one action share `event_id`; `sequence` counts a camera's events without a gap. `snapshot` names
    the action's picture where pictures are kept; without one the JSON does not hold the field.
    """

    event_id: str
    kind: EventKind
    camera_id: str
    action: str
    confidence: float
    started_at: str
    pts_start_seconds: float
    sequence: int
    top_k: tuple[tuple[str, float], ...]
    model: str
    produced_at: str
    ended_at: str | None = None
    pts_end_seconds: float | None = None
    region: str | None = None
    reason: str | None = None
    snapshot: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(EventKind):
            raise DataError(f"an event's kind is started, updated or ended, got {self.kind!r}")
        ends = (self.ended_at is not None, self.pts_end_seconds is not None)
        if ends != (self.kind == "ended",) * 2:
            raise DataError(f"an event has ended_at and pts_end_seconds exactly when it has ended; kind is {self.kind}")
        if not 0.0 <= self.confidence <= 1.0:
            raise DataError(f"an event's confidence is between 0 and 1, got {self.confidence}")

    def _check_types(self) -> None:
        """Text that is no event may be JSON all the same: one flipped bit is enough."""
        texts = [self.event_id, self.camera_id, self.action, self.model, self.started_at, self.produced_at]
        texts += [text for text in (self.ended_at, self.region, self.reason, self.snapshot) if text is not None]
        texts += [action for action, _ in self.top_k]
        numbers = (self.confidence, self.pts_start_seconds, self.pts_end_seconds or 0.0, *(confidence for _, confidence in self.top_k))
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("a text is not a string")
        "".join(texts).encode()  # half a character cannot be stored or sent
        if not all(isinstance(number, (int, float)) and math.isfinite(number) for number in numbers):
            raise TypeError("a number is not finite, or is none")
        if not isinstance(self.sequence, int) or not 1 <= self.sequence < 2**63:
            raise ValueError(f"sequence is {self.sequence!r}")
        for moment in (self.started_at, self.produced_at, self.ended_at or self.started_at):
            if datetime.datetime.fromisoformat(moment).tzinfo is None:
                raise ValueError(f"the time {moment!r} does not say its zone")

    def to_json(self) -> str:
        """The event as one line of JSON."""
        fields = dataclasses.asdict(self) | {"schema": SCHEMA}
        if self.snapshot is None:
            del fields["snapshot"]
        fields["top_k"] = [{"action": action, "confidence": confidence} for action, confidence in self.top_k]
        return json.dumps(fields, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> ActionEvent:
        """The inverse of `to_json`.

        Raises:
            DataError: the text is not an event of this schema.
        """
        try:
            fields = json.loads(text)
            if fields.pop("schema") != SCHEMA:
                raise ValueError(f"schema is not {SCHEMA}")
            fields["top_k"] = tuple((entry["action"], entry["confidence"]) for entry in fields["top_k"])
            event = cls(**fields)
            event._check_types()
            return event
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
            raise DataError(f"not an event of schema {SCHEMA}: {error!r}") from None


@dataclasses.dataclass(frozen=True)
class StoredEvent:
    """An event with its place in an outbox."""

    id: int
    event: ActionEvent


class EventConfig(DetectionConfig):
    """From probabilities to events."""

    top_k: int = Field(3, ge=1, le=20, description="likeliest actions listed in each event")


class EventDetector:
    """The state machine of one camera (and region).

    Args:
        config: thresholds and durations.
        labels: class names in the order of the probabilities.
        background: the label that is ignored unless the configuration names others.
        camera_id, model, region: copied into the events.
        clip_seconds: length of a clip, from its first to its last frame.
        first_sequence: number of the first event.
        sequence: numbers of the events, where several detectors share them; `first_sequence` does not count then.

    Raises:
        ConfigError: the configuration names a label that does not exist.
    """

    def __init__(
        self, config: EventConfig, *, labels: Sequence[str], camera_id: str, clip_seconds: float,
        background: str | None = None, model: str = "", region: str | None = None, first_sequence: int = 1,
        sequence: Iterator[int] | None = None,
    ) -> None:  # fmt: skip
        self._detector = ActionDetector(config, labels=labels, clip_seconds=clip_seconds, background=background)
        self._top_k, self._labels, self._camera_id, self._region = config.top_k, tuple(labels), camera_id, region
        self._model, self._sequence = model, itertools.count(first_sequence) if sequence is None else sequence
        self._open: dict[str, tuple[str, float]] = {}  # of each action that goes on: event_id, and when it started in seconds since 1970
        self._wall_end = 0.0

    @property
    def open_events(self) -> dict[str, str]:
        """The event_id of each action that goes on."""
        return {action: event_id for action, (event_id, _) in self._open.items()}

    @property
    def active(self) -> dict[str, float]:
        """Actions going on now, with their latest confidence."""
        return self._detector.active

    def push(self, probabilities: Sequence[float], *, pts_end_seconds: float, wall_end_seconds: float) -> list[ActionEvent]:
        """Take the result of the next clip, which ended at these times; returns the events it causes.

        Raises:
            DataError: not one probability per label.
        """
        found = self._detector.push(probabilities, pts_end_seconds)
        self._wall_end = wall_end_seconds
        return [self._event(detection, reason="over" if detection.kind == "ended" else None) for detection in found]

    def finish(self, reason: BreakReason) -> list[ActionEvent]:
        """The time line breaks here: end what goes on and forget what was rising."""
        return [self._event(detection, reason=reason) for detection in self._detector.finish()]

    def _event(self, found: Detection, *, reason: str | None) -> ActionEvent:
        number = next(self._sequence)
        if found.kind == "started":
            started_at = self._wall(found, found.start_seconds)
            name = f"{self._camera_id}/{self._region}/{found.action}/{started_at:.6f}/{number}"
            self._open[found.action] = (str(uuid.uuid5(_NAMESPACE, name)), started_at)
        event_id, started_at = self._open[found.action]
        ended_at = None if found.end_seconds is None else max(started_at, self._wall(found, found.end_seconds))
        ranked = sorted(zip(self._labels, found.smoothed, strict=True), key=lambda pair: -pair[1]) if found.smoothed else []
        event = ActionEvent(
            event_id=event_id, kind=found.kind, camera_id=self._camera_id, region=self._region, action=found.action,
            confidence=round(found.confidence, 4), started_at=rfc3339(started_at),
            ended_at=None if ended_at is None else rfc3339(ended_at),
            pts_start_seconds=round(found.start_seconds, 3), sequence=number, model=self._model, reason=reason,
            pts_end_seconds=None if found.end_seconds is None else round(found.end_seconds, 3),
            top_k=tuple((name, round(value, 4)) for name, value in ranked[: self._top_k]),
            produced_at=rfc3339(self._wall_end),
        )  # fmt: skip
        if found.kind == "ended":
            del self._open[found.action]
        return event

    def _wall(self, found: Detection, seconds: float) -> float:
        return self._wall_end - (found.at_seconds - seconds)


def rfc3339(seconds: float) -> str:
    """Seconds since 1970 as a time in UTC."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
