"""Event types; an event reports the start, an update or the end of an action."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import math
from collections.abc import Mapping
from typing import Literal, get_args

from configs import DataError, UnknownKindError
from stream.events.event_fields import (
    check_text,
    fraction,
    moment,
    number,
    rfc3339,
    top_k_pairs,
    whole,
)
from stream.events.verification import Verification

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
# Those of `model.detection.DetectionKind`, and the answer of a second look.
EventKind = Literal["started", "updated", "ended", "verified"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ActionEvent:
    """A published event of the schema `action-event/1` (`docs/action-event.schema.json`).

    `started_at`, `ended_at` and `produced_at` are RFC 3339 times in UTC; `pts_*_seconds` are
    presentation times of the stream. All events of one action have the same `event_id`. `sequence`
    is the event's number within its camera and epoch; it grows by one from event to event. `worker`
    is the name of the worker that made the event; None: it was the only one. `epoch` grows each
    time that a worker takes the camera over; None: workers do not share cameras. `verification` is
    the answer of a second look, of kind `verified` only. Optional fields (`snapshot`, `worker`,
    `epoch`, `verification`) that are None are not in the JSON. The constructor also accepts times
    as timezone-aware `datetime` objects, and `top_k` and `verification` in their JSON form.

    Raises:
        UnknownKindError: the kind is one that this version does not know.
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
    verification: Verification | None = None
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
        _check_kind(self.kind)
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
        if (self.verification is not None) != (self.kind == "verified"):
            raise DataError(f"verification belongs to the kind verified; kind is {self.kind}")

    def _normalise(self) -> None:
        """Check every field and convert it to the type that is declared for it."""
        for name in ("event_id", "camera_id", "action", "model", *_OPTIONAL_TEXTS):
            value = getattr(self, name)
            if value is not None or name not in _OPTIONAL_TEXTS:
                check_text(name, value)
        for name in ("started_at", "produced_at", "ended_at"):
            if name != "ended_at" or self.ended_at is not None:
                self._set(name, moment(name, getattr(self, name)))
        self._set("confidence", fraction("confidence", self.confidence))
        self._set("pts_start_seconds", number("pts_start_seconds", self.pts_start_seconds))
        if self.pts_end_seconds is not None:
            self._set("pts_end_seconds", number("pts_end_seconds", self.pts_end_seconds))
        self._set("sequence", whole("sequence", self.sequence, 1))
        if self.epoch is not None:
            self._set("epoch", whole("epoch", self.epoch, 0))
        if isinstance(self.verification, Mapping):
            self._set("verification", Verification.from_fields(self.verification))
        self._set("top_k", top_k_pairs(self.top_k))

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
        if self.verification is not None:
            fields["verification"] = self.verification.fields()
        return json.dumps(fields, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> ActionEvent:
        """Read an event from its JSON.

        Unknown fields are ignored, also in `top_k`, because later versions of the schema may add
        optional fields.

        Raises:
            UnknownKindError: a newer version wrote the event: its kind is not known.
            DataError: the text is not an event of this schema.
        """
        try:
            fields = json.loads(text)
            if fields["schema"] != SCHEMA:
                raise ValueError(f"schema is {fields['schema']!r}")
            _check_kind(fields["kind"])  # first: a new kind may have other fields
            return cls(**{name: fields[name] for name in _FIELDS if name in fields})
        except UnknownKindError:
            raise
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            # Others wrote it: a value in the message may be long.
            shown = _shortened(str(error))
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
    "verification",
)
_LEFT_OUT = ("snapshot", "worker", "epoch", "verification")  # if they are None
_OPTIONAL_TEXTS = ("region", "reason", "snapshot", "worker")


def _check_kind(kind: object) -> None:
    if kind not in get_args(EventKind):
        known = ", ".join(get_args(EventKind))
        message = _shortened(f"an event's kind is one of {known}, got {kind!r}")
        raise UnknownKindError(message, _shortened(str(kind)))


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


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
