"""When an action starts and ends: a pure state machine per camera, and the event it announces.

Nothing here reads a clock, a random source or a device: the same windows give the same events.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime
import json
import uuid
from collections.abc import Sequence
from typing import Literal, get_args

from pydantic import Field, model_validator

from configs import ConfigError, DataError, StrictModel
from stream.frames import BreakReason

__all__ = ["SCHEMA", "ActionEvent", "ActionRule", "EventConfig", "EventDetector", "EventKind", "StoredEvent"]

SCHEMA = "action-event/1"
EventKind = Literal["started", "updated", "ended"]
_NAMESPACE = uuid.UUID("5b0d6d4e-3f0b-5c7e-9d2a-6a1c4cf0a7e1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ActionEvent:
    """What is published: schema `action-event/1`, described in `docs/action-event.schema.json`.

    `started_at`, `ended_at` and `produced_at` are RFC 3339 times in UTC; `pts_*_seconds` are presentation times of the
    stream. The events of one action share `event_id`; `sequence` counts a camera's events without a gap.
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

    def __post_init__(self) -> None:
        if self.kind not in get_args(EventKind):
            raise DataError(f"an event's kind is started, updated or ended, got {self.kind!r}")
        ends = (self.ended_at is not None, self.pts_end_seconds is not None)
        if ends != (self.kind == "ended",) * 2:
            raise DataError(f"an event has ended_at and pts_end_seconds exactly when it has ended; kind is {self.kind}")
        if not 0.0 <= self.confidence <= 1.0:
            raise DataError(f"an event's confidence is between 0 and 1, got {self.confidence}")

    def to_json(self) -> str:
        """The event as one line of JSON."""
        fields = dataclasses.asdict(self) | {"schema": SCHEMA}
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
            return cls(**fields)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"not an event of schema {SCHEMA}: {error!r}") from None


@dataclasses.dataclass(frozen=True)
class StoredEvent:
    """An event with its place in an outbox."""

    id: int
    event: ActionEvent


class ActionRule(StrictModel):
    """When one action counts as seen."""

    enter: float = Field(0.5, gt=0, le=1, description="smoothed confidence at which it starts")
    exit: float = Field(0.3, ge=0, le=1, description="smoothed confidence below which it ends")
    min_seconds: float = Field(0.0, ge=0, description="it must stay above `enter` for this long before it is announced")
    cooldown_seconds: float = Field(0.5, ge=0, description="pause after its end before it can start again")
    onset_seconds: float = Field(
        1.45, ge=0, description="how long it goes on before a clip shows it well enough: starts and ends are dated by it"
    )

    @model_validator(mode="after")
    def _check(self) -> ActionRule:
        if self.exit > self.enter:
            raise ValueError(f"exit ({self.exit}) must not be above enter ({self.enter})")
        return self


class EventConfig(StrictModel):
    """From probabilities to events."""

    smoothing: int = Field(5, ge=1, le=1000, description="mean over this many clips")
    default: ActionRule = Field(ActionRule(), description="the rule of every action without its own")
    actions: dict[str, ActionRule] = Field({}, description="rules of single actions, by label")
    ignore: tuple[str, ...] | None = Field(None, description="labels that are never announced; null for the weights' background")
    update_seconds: float = Field(0.0, ge=0, description="repeat a lasting action this often as `updated`; 0 for never")
    top_k: int = Field(3, ge=1, le=20, description="likeliest actions listed in each event")

    def check_labels(self, labels: Sequence[str]) -> None:
        """Every label named here must exist.

        Raises:
            ConfigError: one does not.
        """
        unknown = sorted((set(self.actions) | set(self.ignore or ())) - set(labels))
        if unknown:
            raise ConfigError(f"events: the weights have no label {', '.join(map(repr, unknown))}; their labels are {', '.join(labels)}")


@dataclasses.dataclass
class _Track:
    """One action's state: idle, rising (above enter, not yet announced) or active."""

    rising_since: float | None = None
    event_id: str | None = None
    pts_start: float = 0.0
    started_at: float = 0.0
    confidence: float = 0.0
    last_above: tuple[float, float] = (0.0, 0.0)
    last_update: float = 0.0
    quiet_until: float = float("-inf")


class EventDetector:
    """The state machine of one camera (and region).

    Args:
        config: thresholds and durations.
        labels: class names in the order of the probabilities.
        background: the label that is ignored unless the configuration names others.
        camera_id, model, region: copied into the events.
        clip_seconds: length of a clip, from its first to its last frame.
        first_sequence: number of the first event.
    """

    def __init__(
        self, config: EventConfig, *, labels: Sequence[str], camera_id: str, clip_seconds: float,
        background: str | None = None, model: str = "", region: str | None = None, first_sequence: int = 1,
    ) -> None:  # fmt: skip
        config.check_labels(labels)
        self._config, self._labels, self._camera_id, self._region = config, tuple(labels), camera_id, region
        self._clip_seconds, self._model, self._sequence = clip_seconds, model, first_sequence
        self._recent: collections.deque[Sequence[float]] = collections.deque(maxlen=config.smoothing)
        ignored = (background,) if config.ignore is None else config.ignore
        self._tracks = {label: _Track() for label in labels if label not in ignored}
        self._last: tuple[float, float] = (0.0, 0.0)

    @property
    def active(self) -> dict[str, float]:
        """Actions going on now, with their latest confidence."""
        return {label: track.confidence for label, track in self._tracks.items() if track.event_id}

    def push(self, probabilities: Sequence[float], *, pts_end_seconds: float, wall_end_seconds: float) -> list[ActionEvent]:
        """Take the result of the next clip, which ended at these times; returns the events it causes.

        Raises:
            DataError: not one probability per label.
        """
        if len(probabilities) != len(self._labels):
            raise DataError(f"{len(probabilities)} probabilities for {len(self._labels)} labels")
        self._recent.append(probabilities)
        count = len(self._recent)
        smoothed = [min(1.0, sum(column) / count) for column in zip(*self._recent, strict=True)]
        self._last = (pts_end_seconds, wall_end_seconds)
        events: list[ActionEvent] = []
        # Ends before starts: the end of one action and the start of its reversal often fall on the same clip.
        for wanted in ("ended", "updated", "started"):
            for label, confidence in zip(self._labels, smoothed, strict=True):
                if label in self._tracks:
                    events += self._step(wanted, label, confidence, smoothed)
        return events

    def finish(self, reason: BreakReason) -> list[ActionEvent]:
        """The time line breaks here: end what goes on and forget what was rising."""
        events = [self._end(label, self._last, reason, ()) for label, track in self._tracks.items() if track.event_id]
        self._recent.clear()
        self._tracks = {label: _Track() for label in self._tracks}
        return events

    def _rule(self, label: str) -> ActionRule:
        return self._config.actions.get(label, self._config.default)

    def _step(self, wanted: str, label: str, confidence: float, smoothed: Sequence[float]) -> list[ActionEvent]:
        track, rule = self._tracks[label], self._rule(label)
        pts, wall = self._last
        if track.event_id is None:
            return self._rise(label, track, rule, confidence, smoothed) if wanted == "started" else []
        if wanted == "ended" and confidence < rule.exit:
            track.quiet_until = pts + rule.cooldown_seconds
            return [self._end(label, track.last_above, "over", smoothed)]
        if wanted == "updated":
            track.last_above, track.confidence = (pts, wall), confidence
            every = self._config.update_seconds
            if every and pts - track.last_update >= every:
                track.last_update = pts
                return [self._event("updated", label, smoothed)]
        return []

    def _rise(self, label: str, track: _Track, rule: ActionRule, confidence: float, smoothed: Sequence[float]) -> list[ActionEvent]:
        pts, wall = self._last
        if confidence < rule.enter or pts < track.quiet_until:
            track.rising_since = None
            return []
        if track.rising_since is None:
            track.rising_since = pts
        if pts - track.rising_since < rule.min_seconds:
            return []
        # Not before the clip that shows it.
        back = min(rule.onset_seconds, self._clip_seconds) + pts - track.rising_since
        track.pts_start, track.started_at = pts - back, wall - back
        track.event_id = str(uuid.uuid5(_NAMESPACE, f"{self._camera_id}/{self._region}/{label}/{track.started_at:.6f}/{self._sequence}"))
        track.last_above, track.confidence, track.last_update, track.rising_since = (pts, wall), confidence, pts, None
        return [self._event("started", label, smoothed)]

    def _end(self, label: str, last_above: tuple[float, float], reason: str, smoothed: Sequence[float]) -> ActionEvent:
        """The action was last seen in the clip that ended at `last_above`; it ended early in that clip."""
        track = self._tracks[label]
        back = max(0.0, self._clip_seconds - self._rule(label).onset_seconds)
        pts_end = max(track.pts_start, last_above[0] - back)
        ended_at = max(track.started_at, last_above[1] - back)
        event = self._event("ended", label, smoothed, pts_end_seconds=pts_end, ended_at=_rfc3339(ended_at), reason=reason)
        track.event_id = None
        return event

    def _event(
        self, kind: EventKind, label: str, smoothed: Sequence[float],
        pts_end_seconds: float | None = None, ended_at: str | None = None, reason: str | None = None,
    ) -> ActionEvent:  # fmt: skip
        track = self._tracks[label]
        ranked = sorted(zip(self._labels, smoothed, strict=True), key=lambda pair: -pair[1]) if smoothed else []
        event = ActionEvent(
            event_id=track.event_id or "", kind=kind, camera_id=self._camera_id, region=self._region, action=label,
            confidence=round(track.confidence, 4), started_at=_rfc3339(track.started_at), ended_at=ended_at,
            pts_start_seconds=round(track.pts_start, 3), sequence=self._sequence, model=self._model, reason=reason,
            pts_end_seconds=None if pts_end_seconds is None else round(pts_end_seconds, 3),
            top_k=tuple((name, round(value, 4)) for name, value in ranked[: self._config.top_k]),
            produced_at=_rfc3339(self._last[1]),
        )  # fmt: skip
        self._sequence += 1
        return event


def _rfc3339(seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
