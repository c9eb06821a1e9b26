"""A state machine that turns the network's probabilities into actions that start and end.

The live pipeline and its evaluation share this code. It uses no clock, random numbers or device,
so the same clips give the same detections. All times are presentation times in seconds.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, model_validator

from configs import ConfigError, DataError, StrictModel

__all__ = ["ActionDetector", "ActionRule", "Detection", "DetectionConfig", "DetectionKind"]

DetectionKind = Literal["started", "updated", "ended"]
# A softmax in bfloat16 may round its results this far outside 0 to 1.
_ROUNDING = 0.01


class ActionRule(StrictModel):
    """The thresholds and durations that decide when an action starts and ends."""

    enter: float = Field(
        0.5, gt=0, le=1, description="smoothed confidence from which the action starts"
    )
    exit: float = Field(
        0.3, ge=0, le=1, description="smoothed confidence below which the action ends"
    )
    min_seconds: float = Field(
        0.0,
        ge=0,
        description=(
            "time that the confidence must stay at or above `enter` before the action is reported"
        ),
    )
    cooldown_seconds: float = Field(
        0.5, ge=0, description="time after its end before the action can start again"
    )
    onset_seconds: float = Field(
        1.45,
        ge=0,
        description=(
            "typical time between the start of an action and its recognition; the reported start"
            " and end times are corrected by it"
        ),
    )

    @model_validator(mode="after")
    def _check_thresholds(self) -> ActionRule:
        if self.exit > self.enter:
            raise ValueError(f"exit ({self.exit}) must not be above enter ({self.enter})")
        return self


class DetectionConfig(StrictModel):
    """Settings that turn probabilities into actions."""

    smoothing: int = Field(
        5, ge=1, le=1000, description="number of clips over which probabilities are averaged"
    )
    default: ActionRule = Field(
        ActionRule(), description="the rule for actions that are not listed in `actions`"
    )
    actions: dict[str, ActionRule] = Field(
        {},
        description="rules for single actions, by label; missing values come from `default`",
    )
    ignore: tuple[str, ...] | None = Field(
        None, description="labels that are never reported; null: only the background label"
    )
    update_seconds: float = Field(
        0.0, ge=0, description="seconds between `updated` reports of a lasting action; 0 for none"
    )
    temperature: float | None = Field(
        None,
        gt=0,
        description=(
            "temperature of the weights for which the thresholds were found; `train tune` writes"
            " it, and a run warns if its weights have another one; null: 1"
        ),
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_from_default(cls, fields: Any) -> Any:
        """Fill in the missing values of every action's rule from the default rule."""
        if not isinstance(fields, dict):
            return fields
        rules = fields.get("actions")
        default = fields.get("default", {})
        if isinstance(default, ActionRule):
            default = default.model_dump()
        if not isinstance(rules, dict) or not isinstance(default, dict):
            return fields
        # Unknown keys are not copied, so the error about them names the default rule.
        default = {key: value for key, value in default.items() if key in ActionRule.model_fields}
        completed = {
            label: default | rule if isinstance(rule, dict) else rule
            for label, rule in rules.items()
        }
        return fields | {"actions": completed}

    def check_labels(self, labels: Sequence[str]) -> None:
        """Check that every label in this configuration is one of `labels`.

        Raises:
            ConfigError: a label is not in `labels`.
        """
        unknown = sorted((set(self.actions) | set(self.ignore or ())) - set(labels))
        if unknown:
            raise ConfigError(
                f"events: the weights have no label {', '.join(map(repr, unknown))};"
                f" their labels are {', '.join(labels)}"
            )


@dataclasses.dataclass(frozen=True)
class Detection:
    """One report: an action has started, is still active, or has ended.

    Attributes:
        kind: `started`, `updated` or `ended`.
        action: label of the action.
        confidence: smoothed probability of the action.
        at_seconds: end of the clip that led to this report.
        start_seconds, end_seconds: estimated start and end of the action.
        smoothed: smoothed probabilities of all labels; empty if `finish` ended the action.
    """

    kind: DetectionKind
    action: str
    confidence: float
    at_seconds: float
    start_seconds: float
    end_seconds: float | None = None
    smoothed: tuple[float, ...] = ()


@dataclasses.dataclass
class _Track:
    """The state of one action: idle, rising (above `enter`, not yet reported) or active."""

    active: bool = False
    rising_since: float | None = None
    start: float = 0.0
    confidence: float = 0.0
    last_above: float = 0.0
    last_update: float = 0.0
    quiet_until: float = float("-inf")


class ActionDetector:
    """The state machine for the clips of one recording or one camera region.

    Args:
        config: the thresholds and durations.
        labels: class names in the order of the probabilities.
        clip_seconds: time from the first to the last frame of a clip.
        background: label that is ignored if the configuration lists no ignored labels.

    Raises:
        ConfigError: the configuration names a label that does not exist.
    """

    def __init__(
        self,
        config: DetectionConfig,
        *,
        labels: Sequence[str],
        clip_seconds: float,
        background: str | None = None,
    ) -> None:
        config.check_labels(labels)
        self._config = config
        self._labels = tuple(labels)
        self._clip_seconds = clip_seconds
        self._recent: collections.deque[Sequence[float]] = collections.deque(
            maxlen=config.smoothing
        )
        ignored = (background,) if config.ignore is None else config.ignore
        self._tracks = {label: _Track() for label in labels if label not in ignored}
        self._last = 0.0

    @property
    def active(self) -> dict[str, float]:
        """Labels of the active actions, each with its latest confidence."""
        return {label: track.confidence for label, track in self._tracks.items() if track.active}

    def push(self, probabilities: Sequence[float], end_seconds: float) -> list[Detection]:
        """Process the probabilities of the next clip; return the detections that they cause.

        Args:
            probabilities: one probability per label.
            end_seconds: end of the clip.

        Raises:
            DataError: the number of probabilities is wrong, or one is not from 0 to 1.
        """
        values = [float(probability) for probability in probabilities]
        if len(values) != len(self._labels):
            raise DataError(f"{len(values)} probabilities for {len(self._labels)} labels")
        if not all(-_ROUNDING <= value <= 1 + _ROUNDING for value in values):
            raise DataError(f"probabilities must be from 0 to 1, got {', '.join(map(str, values))}")
        self._recent.append(values)
        count = len(self._recent)
        smoothed = tuple(
            min(1.0, max(0.0, sum(column) / count)) for column in zip(*self._recent, strict=True)
        )
        self._last = end_seconds
        found: list[Detection] = []
        # Ends come before starts: one clip often shows the end of one action and the start of the
        # reverse action.
        for wanted in ("ended", "updated", "started"):
            for label, confidence in zip(self._labels, smoothed, strict=True):
                if label in self._tracks:
                    found += self._step(wanted, label, confidence, smoothed)
        return found

    def finish(self) -> list[Detection]:
        """End all active actions and discard those not yet reported.

        Call it at the end of a recording and where it is interrupted.
        """
        found = [
            self._end(label, self._last, ())
            for label, track in self._tracks.items()
            if track.active
        ]
        self._recent.clear()
        self._tracks = {label: _Track() for label in self._tracks}
        return found

    def _rule(self, label: str) -> ActionRule:
        return self._config.actions.get(label, self._config.default)

    def _step(
        self, wanted: str, label: str, confidence: float, smoothed: tuple[float, ...]
    ) -> list[Detection]:
        track = self._tracks[label]
        rule = self._rule(label)
        if not track.active:
            return (
                self._rise(label, track, rule, confidence, smoothed) if wanted == "started" else []
            )
        if wanted == "ended" and confidence < rule.exit:
            track.quiet_until = self._last + rule.cooldown_seconds
            return [self._end(label, track.last_above, smoothed)]
        if wanted == "updated":
            track.last_above = self._last
            track.confidence = confidence
            every = self._config.update_seconds
            if every and self._last - track.last_update >= every:
                track.last_update = self._last
                return [
                    Detection("updated", label, confidence, self._last, track.start, None, smoothed)
                ]
        return []

    def _rise(
        self,
        label: str,
        track: _Track,
        rule: ActionRule,
        confidence: float,
        smoothed: tuple[float, ...],
    ) -> list[Detection]:
        now = self._last
        if confidence < rule.enter or now < track.quiet_until:
            track.rising_since = None
            return []
        if track.rising_since is None:
            track.rising_since = now
        if now - track.rising_since < rule.min_seconds:
            return []
        # The reported start is never before the start of the clip.
        track.start = track.rising_since - min(rule.onset_seconds, self._clip_seconds)
        track.active = True
        track.last_above = now
        track.confidence = confidence
        track.last_update = now
        track.rising_since = None
        return [Detection("started", label, confidence, now, track.start, None, smoothed)]

    def _end(self, label: str, last_above: float, smoothed: tuple[float, ...]) -> Detection:
        """End an action; `last_above` is the end of the last clip in which it was recognised."""
        track = self._tracks[label]
        # That clip still shows the last `onset_seconds` of the action, at the start of the clip.
        unseen = max(0.0, self._clip_seconds - self._rule(label).onset_seconds)
        end = max(track.start, last_above - unseen)
        track.active = False
        return Detection("ended", label, track.confidence, self._last, track.start, end, smoothed)
