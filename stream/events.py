"""What is published when an action starts and ends, and the state machine of a camera that says so.

Nothing here reads a clock, a random source or a device: the same windows give the same events.
"""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import json
import math
import numbers
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import Field

from configs import DataError, check_tree
from model.detection import ActionDetector, Detection, DetectionConfig, DetectionKind
from stream.frames import BreakReason

__all__ = [
    "SCHEMA",
    "ActionEvent",
    "EventConfig",
    "EventDetector",
    "EventKind",
    "StoredEvent",
    "rfc3339",
]

SCHEMA = "action-event/1"
EventKind = DetectionKind
_NAMESPACE = uuid.UUID("5b0d6d4e-3f0b-5c7e-9d2a-6a1c4cf0a7e1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ActionEvent:
    """What is published: schema `action-event/1`, described in `docs/action-event.schema.json`.

    `started_at`, `ended_at` and `produced_at` are RFC 3339 times in UTC; `pts_*_seconds` are
    presentation times of the stream. The events of one action share `event_id`; `sequence` counts a
    camera's events without a gap. `snapshot` names the action's picture where pictures are kept;
    without one the JSON does not hold the field. Times may be given as aware `datetime`s, `top_k`
    as pairs or as in the JSON.

    Raises:
        DataError: a field is not of its kind, or does not go with `kind`.
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
    schema: str = SCHEMA

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise DataError(f"an event's schema is {SCHEMA}, got {self.schema!r}")
        if self.kind not in get_args(EventKind):
            raise DataError(f"an event's kind is started, updated or ended, got {self.kind!r}")
        try:
            self._normalise()
        except (TypeError, ValueError, KeyError, OverflowError) as error:
            raise DataError(f"no event: {error}") from None
        ends = (
            self.ended_at is not None,
            self.pts_end_seconds is not None,
            self.reason is not None,
        )
        if ends != (self.kind == "ended",) * 3:
            raise DataError(
                "an event has ended_at, pts_end_seconds and reason exactly when it has ended; kind"
                f" is {self.kind}"
            )

    def _normalise(self) -> None:
        """Every field in its one form, whatever number, time or list it was given as; what is
        none is an error.
        """
        for name in ("event_id", "camera_id", "action", "model", "region", "reason", "snapshot"):
            value = getattr(self, name)
            if not isinstance(value, str) and not (
                value is None and name in ("region", "reason", "snapshot")
            ):
                raise TypeError(f"{name} is a text, got {value!r}")
            (value or "").encode()  # half a character cannot be stored or sent
        for name in ("started_at", "produced_at", "ended_at"):
            if name != "ended_at" or self.ended_at is not None:
                self._set(name, _moment(name, getattr(self, name)))
        self._set("confidence", _share("confidence", self.confidence))
        self._set("pts_start_seconds", _number("pts_start_seconds", self.pts_start_seconds))
        if self.pts_end_seconds is not None:
            self._set("pts_end_seconds", _number("pts_end_seconds", self.pts_end_seconds))
        if (
            isinstance(self.sequence, bool)
            or not isinstance(self.sequence, numbers.Integral)
            or not 1 <= self.sequence < 2**63
        ):
            raise ValueError(f"sequence is a whole number from 1 on, got {self.sequence!r}")
        self._set("sequence", int(self.sequence))
        pairs = [
            (entry["action"], entry["confidence"]) if isinstance(entry, Mapping) else tuple(entry)
            for entry in self.top_k
        ]
        if not all(len(pair) == 2 and isinstance(pair[0], str) for pair in pairs):
            raise TypeError(
                f"top_k is a list of labels, each with its confidence, got {self.top_k!r}"
            )
        "".join(str(pair[0]) for pair in pairs).encode()
        self._set(
            "top_k",
            tuple(
                (label, _share("confidence in top_k", confidence)) for label, confidence in pairs
            ),
        )

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def to_json(self) -> str:
        """The event as one line of JSON."""
        fields = {field: getattr(self, field) for field in _FIELDS}
        if self.snapshot is None:
            del fields["snapshot"]
        fields["top_k"] = [
            {"action": action, "confidence": confidence} for action, confidence in self.top_k
        ]
        return json.dumps(fields, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> ActionEvent:
        """The inverse of `to_json`.

        Raises:
            DataError: the text is not an event of this schema.
        """
        try:
            fields = json.loads(text)
            if fields["schema"] != SCHEMA:
                raise ValueError(f"schema is {fields['schema']!r}")
            return cls(**fields)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError(f"not an event of schema {SCHEMA}: {error}") from None


# In the order of the schema.
_FIELDS = (
    "schema",
    "event_id",
    "kind",
    "camera_id",
    "region",
    "action",
    "confidence",
    "started_at",
    "ended_at",
    "pts_start_seconds",
    "pts_end_seconds",
    "sequence",
    "top_k",
    "model",
    "produced_at",
    "reason",
    "snapshot",
)


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise TypeError(f"{name} is a finite number, got {value!r}")
    return float(value)


def _share(name: str, value: object) -> float:
    number = _number(name, value)
    if not 0.0 <= number <= 1.0:
        raise ValueError(f"{name} is between 0 and 1, got {number}")
    return number


def _moment(name: str, value: object) -> str:
    try:
        moment = datetime.datetime.fromisoformat(value) if isinstance(value, str) else value
        if isinstance(moment, datetime.datetime) and moment.tzinfo is not None:
            return value if isinstance(value, str) else rfc3339(moment.timestamp())
    except ValueError:
        pass
    raise ValueError(f"{name} is a time with its zone, as in 2026-01-31T12:00:00Z, got {value!r}")


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
        config: thresholds and durations, as `EventConfig` or as the section `events`; None for the
            defaults.
        labels: class names in the order of the probabilities.
        background: the label that is ignored unless the configuration names others.
        camera_id, model, region: copied into the events.
        clip_seconds: length of a clip, from its first to its last frame; the default is 32 frames
            at 15 a second.
        first_sequence: number of the first event.
        sequence: numbers of the events, where several detectors share them; `first_sequence` does
            not count then.

    Raises:
        ConfigError: a setting is wrong, or names a label that does not exist.
    """

    def __init__(
        self,
        config: EventConfig | Mapping[str, Any] | None = None,
        *,
        labels: Sequence[str],
        camera_id: str,
        clip_seconds: float = 31 / 15,
        background: str | None = None,
        model: str = "",
        region: str | None = None,
        first_sequence: int = 1,
        sequence: Iterator[int] | None = None,
    ) -> None:
        config = (
            config
            if isinstance(config, EventConfig)
            else check_tree(dict(config or {}), EventConfig, name="events")
        )
        self._detector = ActionDetector(
            config, labels=labels, clip_seconds=clip_seconds, background=background
        )
        self._top_k = config.top_k
        self._labels = tuple(labels)
        self._camera_id = camera_id
        self._region = region
        self._model = model
        self._sequence = itertools.count(first_sequence) if sequence is None else sequence
        # of each action that goes on: event_id, and when it started in seconds since 1970
        self._open: dict[str, tuple[str, float]] = {}
        self._wall_end = 0.0

    @property
    def open_events(self) -> dict[str, str]:
        """The event_id of each action that goes on."""
        return {action: event_id for action, (event_id, _) in self._open.items()}

    @property
    def active(self) -> dict[str, float]:
        """Actions going on now, with their latest confidence."""
        return self._detector.active

    def push(
        self, probabilities: Sequence[float], *, pts_end_seconds: float, wall_end_seconds: float
    ) -> list[ActionEvent]:
        """Take the result of the next clip, which ended at these times; returns the events it
        causes.

        Raises:
            DataError: not one probability, finite and between 0 and 1, per label.
        """
        found = self._detector.push(probabilities, pts_end_seconds)
        self._wall_end = wall_end_seconds
        return [
            self._event(detection, reason="over" if detection.kind == "ended" else None)
            for detection in found
        ]

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
        ended_at = None
        if found.end_seconds is not None:
            # As long as the stream says, for clocks are set; but a file that is read faster than it
            # plays ends no later than now.
            ended_at = max(
                started_at,
                min(started_at + found.end_seconds - found.start_seconds, self._wall_end),
            )
        ranked = (
            sorted(zip(self._labels, found.smoothed, strict=True), key=lambda pair: -pair[1])
            if found.smoothed
            else []
        )
        event = ActionEvent(
            event_id=event_id,
            kind=found.kind,
            camera_id=self._camera_id,
            region=self._region,
            action=found.action,
            confidence=round(found.confidence, 4),
            started_at=rfc3339(started_at),
            ended_at=None if ended_at is None else rfc3339(ended_at),
            pts_start_seconds=round(found.start_seconds, 3),
            sequence=number,
            model=self._model,
            reason=reason,
            pts_end_seconds=None if found.end_seconds is None else round(found.end_seconds, 3),
            top_k=tuple((name, round(value, 4)) for name, value in ranked[: self._top_k]),
            produced_at=rfc3339(self._wall_end),
        )
        if found.kind == "ended":
            del self._open[found.action]
        return event

    def _wall(self, found: Detection, seconds: float) -> float:
        return self._wall_end - (found.at_seconds - seconds)


def rfc3339(seconds: float) -> str:
    """Seconds since 1970 as a time in UTC."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
