"""Event types; an event reports the start, an update or the end of an action."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from configs import DataError

__all__ = [
    "SCHEMA",
    "ActionEvent",
    "EventKind",
    "StoredEvent",
    "ended_by_crash",
    "latest_moment",
    "numbering",
    "open_json",
    "rfc3339",
]
SCHEMA = "action-event/1"
_MAX_SHOWN = 300
EventKind = Literal["started", "updated", "ended"]  # as `model.detection.DetectionKind`


@dataclasses.dataclass(frozen=True, kw_only=True)
class ActionEvent:
    """A published event of the schema `action-event/1` (`docs/action-event.schema.json`).

    `started_at`, `ended_at` and `produced_at` are RFC 3339 times in UTC; `pts_*_seconds` are
    presentation times of the stream. All events of one action have the same `event_id`. `sequence`
    is the event's number within its camera and epoch; it grows by one from event to event. `worker`
    is the name of the worker that made the event; None: it was the only one. `epoch` grows each
    time that a worker takes the camera over; None: workers do not share cameras. Optional fields
    (`snapshot`, `worker`, `epoch`) that are None are not in the JSON. The constructor also accepts
    times as timezone-aware `datetime` objects, and `top_k` as pairs or in its JSON form.

    Raises:
        DataError: a field has a wrong type or value, or is not allowed for this `kind`.
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
    worker: str | None = None
    epoch: int | None = None
    schema: str = SCHEMA
    # Not published: while the action goes on, `ended_at` and `pts_end_seconds` if it ended now.
    seen_until: tuple[str, float] | None = dataclasses.field(
        default=None, compare=False, repr=False
    )
    # Not published in the JSON: the W3C trace context of the clip that made the event.
    traceparent: str | None = dataclasses.field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise DataError(f"an event's schema is {SCHEMA}, got {self.schema!r}")
        if self.kind not in get_args(EventKind):
            raise DataError(f"an event's kind is started, updated or ended, got {self.kind!r}")
        try:
            self._normalise()
        except (TypeError, ValueError, KeyError, OverflowError) as error:
            raise DataError(f"not an event: {error}") from None
        is_over = self.kind == "ended"
        for end in (self.ended_at, self.pts_end_seconds, self.reason):
            if (end is not None) != is_over:
                raise DataError(
                    "an event has ended_at, pts_end_seconds and reason exactly when it has ended;"
                    f" kind is {self.kind}"
                )

    def _normalise(self) -> None:
        """Check every field and convert it to the type that is declared for it."""
        for name in ("event_id", "camera_id", "action", "model", *_OPTIONAL_TEXTS):
            value = getattr(self, name)
            if value is not None or name not in _OPTIONAL_TEXTS:
                _check_text(name, value)
        for name in ("started_at", "produced_at", "ended_at"):
            if name != "ended_at" or self.ended_at is not None:
                self._set(name, _moment(name, getattr(self, name)))
        self._set("confidence", _fraction("confidence", self.confidence))
        self._set("pts_start_seconds", _number("pts_start_seconds", self.pts_start_seconds))
        if self.pts_end_seconds is not None:
            self._set("pts_end_seconds", _number("pts_end_seconds", self.pts_end_seconds))
        self._set("sequence", _whole("sequence", self.sequence, 1))
        if self.epoch is not None:
            self._set("epoch", _whole("epoch", self.epoch, 0))
        self._set("top_k", _top_k(self.top_k))

    @property
    def order(self) -> tuple[int, int]:
        """The event's place among those of its camera: epoch (0 if there is none) and sequence."""
        return (self.epoch or 0, self.sequence)

    @property
    def numbering(self) -> str:
        """What `sequence` counts within: the camera, or the camera in an epoch."""
        return numbering(self.camera_id, self.epoch)

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def to_json(self) -> str:
        """Return the event as one line of JSON."""
        fields = {field: getattr(self, field) for field in _FIELDS}
        for name in _LEFT_OUT:
            if fields[name] is None:
                del fields[name]
        fields["top_k"] = [
            {"action": action, "confidence": confidence} for action, confidence in self.top_k
        ]
        return json.dumps(fields, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> ActionEvent:
        """Read an event from its JSON.

        Unknown fields are ignored, also in `top_k`, because later versions of the schema may add
        optional fields.

        Raises:
            DataError: the text is not an event of this schema.
        """
        try:
            fields = json.loads(text)
            if fields["schema"] != SCHEMA:
                raise ValueError(f"schema is {fields['schema']!r}")
            return cls(**{name: fields[name] for name in _FIELDS if name in fields})
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            # Others wrote it: a value in the message may be long.
            problem = str(error)
            shown = problem if len(problem) <= _MAX_SHOWN else f"{problem[:_MAX_SHOWN]}..."
            raise DataError(f"not an event of schema {SCHEMA}: {shown}") from None


# Fields in the order of the schema.
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
    "worker",
    "epoch",
)
_LEFT_OUT = ("snapshot", "worker", "epoch")  # if they are None
_OPTIONAL_TEXTS = ("region", "reason", "snapshot", "worker")


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name} is a text, got {value!r}")
    value.encode()  # raises for a lone surrogate, which cannot be stored or sent


def _whole(name: str, value: Any, first: int) -> int:
    is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_whole or not first <= value < 2**63:
        raise ValueError(f"{name} is a whole number from {first} on, got {value!r}")
    return int(value)


def _top_k(entries: Sequence[Any]) -> tuple[tuple[str, float], ...]:
    pairs = [
        (entry["action"], entry["confidence"]) if isinstance(entry, Mapping) else tuple(entry)
        for entry in entries
    ]
    if not all(len(pair) == 2 and isinstance(pair[0], str) for pair in pairs):
        raise TypeError(f"top_k is a list of labels, each with its confidence, got {entries!r}")
    for label, _ in pairs:
        _check_text("label in top_k", label)
    return tuple((label, _fraction("confidence in top_k", value)) for label, value in pairs)


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise TypeError(f"{name} is a finite number, got {value!r}")
    return float(value)


def _fraction(name: str, value: object) -> float:
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
    """An event with its number in an outbox."""

    id: int
    event: ActionEvent


def open_json(event: ActionEvent) -> str:
    """Return the JSON of an open event, with the moment until which it was seen."""
    fields = json.loads(event.to_json())
    return json.dumps(fields | {"seen_until": event.seen_until}, separators=(",", ":"))


def latest_moment(payload: bytes) -> tuple[str, float] | None:
    """Return until when an open event was seen; None if that was not stored or is damaged."""
    with contextlib.suppress(ValueError, TypeError, KeyError):
        ended_at, pts_end = json.loads(payload)["seen_until"]
        if datetime.datetime.fromisoformat(ended_at).tzinfo and math.isfinite(pts_end):
            return str(ended_at), float(pts_end)
    return None


def ended_by_crash(
    event: ActionEvent, sequence: int, until: tuple[str, float] | None
) -> ActionEvent:
    """Return the `ended` event of an action whose process was killed.

    Args:
        until: `ended_at` and `pts_end_seconds`; None for the time at which its last stored event
            was produced, by the clock.
    """
    if until is None:
        parse = datetime.datetime.fromisoformat
        lasted = parse(event.produced_at) - parse(event.started_at)
        # The clock may have been set back since the start.
        ended_at = max(event.produced_at, event.started_at, key=parse)
        pts_end = round(event.pts_start_seconds + max(0.0, lasted.total_seconds()), 3)
        until = (ended_at, pts_end)
    return dataclasses.replace(
        event,
        kind="ended",
        reason="crash",
        sequence=sequence,
        ended_at=until[0],
        pts_end_seconds=until[1],
    )


def numbering(camera_id: str, epoch: int | None) -> str:
    """Name what sequence numbers count within; no id of a camera contains an `@`."""
    return camera_id if epoch is None else f"{camera_id}@{epoch}"


def rfc3339(seconds: float) -> str:
    """Convert seconds since 1970 to an RFC 3339 time in UTC, with milliseconds."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
