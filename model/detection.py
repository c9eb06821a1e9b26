"""From a network's probabilities to actions that start and end: a pure state machine, for the live
pipeline and for its evaluation.

Nothing here reads a clock, a random source or a device: the same clips give the same detections.
Times are presentation times in seconds.
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
# By so much a probability may lie outside for a softmax in bfloat16.
_ROUNDING = 0.01


class ActionRule(StrictModel):
    """When one action counts as seen."""

    enter: float = Field(0.5, gt=0, le=1, description="smoothed confidence at which it starts")
    exit: float = Field(0.3, ge=0, le=1, description="smoothed confidence below which it ends")
    min_seconds: float = Field(
        0.0, ge=0, description="it must stay above `enter` for this long before it is announced"
    )
    cooldown_seconds: float = Field(
        0.5, ge=0, description="pause after its end before it can start again"
    )
    onset_seconds: float = Field(
        1.45,
        ge=0,
        description=(
            "how long it goes on before a clip shows it well enough: starts and ends are dated"
            " by it"
        ),
    )

    @model_validator(mode="after")
    def _check(self) -> ActionRule:
        if self.exit > self.enter:
            raise ValueError(f"exit ({self.exit}) must not be above enter ({self.enter})")
        return self


class DetectionConfig(StrictModel):
    """From probabilities to actions."""

    smoothing: int = Field(5, ge=1, le=1000, description="mean over this many clips")
    default: ActionRule = Field(
        ActionRule(), description="the rule of every action without its own"
    )
    actions: dict[str, ActionRule] = Field(
        {},
        description="rules of single actions, by label; what one does not name is as in `default`",
    )
    ignore: tuple[str, ...] | None = Field(
        None, description="labels that are never announced; null for the weights' background"
    )
    update_seconds: float = Field(
        0.0, ge=0, description="repeat a lasting action this often as `updated`; 0 for never"
    )

    @model_validator(mode="before")
    @classmethod
    def _inherit(cls, fields: Any) -> Any:
        """An action's rule takes what it does not name from the rule of all."""
        rules, common = (
            (fields.get("actions"), fields.get("default", {}))
            if isinstance(fields, dict)
            else (None, None)
        )
        common = common.model_dump() if isinstance(common, ActionRule) else common
        if not isinstance(rules, dict) or not isinstance(common, dict):
            return fields
        # mistakes are told of where they are
        common = {key: value for key, value in common.items() if key in ActionRule.model_fields}
        return fields | {
            "actions": {
                label: common | rule if isinstance(rule, dict) else rule
                for label, rule in rules.items()
            }
        }

    def check_labels(self, labels: Sequence[str]) -> None:
        """Every label named here must exist.

        Raises:
            ConfigError: one does not.
        """
        unknown = sorted((set(self.actions) | set(self.ignore or ())) - set(labels))
        if unknown:
            raise ConfigError(
                f"events: the weights have no label {', '.join(map(repr, unknown))}; their labels"
                f" are {', '.join(labels)}"
            )


@dataclasses.dataclass(frozen=True)
class Detection:
    """An action starts, goes on, or ends.

    `at_seconds` is the end of the clip that told, `start_seconds` and `end_seconds` when the action
    is taken to have begun and ended; `smoothed` are the smoothed probabilities in the order of the
    labels, empty where the time line broke.
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
    """One action's state: idle, rising (above enter, not yet announced) or active."""

    active: bool = False
    rising_since: float | None = None
    start: float = 0.0
    confidence: float = 0.0
    last_above: float = 0.0
    last_update: float = 0.0
    quiet_until: float = float("-inf")


class ActionDetector:
    """The state machine of one time line.

    Args:
        config: thresholds and durations.
        labels: class names in the order of the probabilities.
        clip_seconds: length of a clip, from its first to its last frame.
        background: the label that is ignored unless the configuration names others.

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
        """Actions going on now, with their latest confidence."""
        return {label: track.confidence for label, track in self._tracks.items() if track.active}

    def push(self, probabilities: Sequence[float], end_seconds: float) -> list[Detection]:
        """Take the result of the next clip, which ended at this time.

        Raises:
            DataError: not one probability, finite and between 0 and 1, per label.
        """
        values = [float(probability) for probability in probabilities]
        if len(values) != len(self._labels):
            raise DataError(f"{len(values)} probabilities for {len(self._labels)} labels")
        if not all(-_ROUNDING <= value <= 1 + _ROUNDING for value in values):
            raise DataError(f"probabilities are between 0 and 1, got {', '.join(map(str, values))}")
        self._recent.append(values)
        count = len(self._recent)
        smoothed = tuple(
            min(1.0, max(0.0, sum(column) / count)) for column in zip(*self._recent, strict=True)
        )
        self._last = end_seconds
        found: list[Detection] = []
        # Ends before starts: the end of one action and the start of its reversal often fall on the
        # same clip.
        for wanted in ("ended", "updated", "started"):
            for label, confidence in zip(self._labels, smoothed, strict=True):
                if label in self._tracks:
                    found += self._step(wanted, label, confidence, smoothed)
        return found

    def finish(self) -> list[Detection]:
        """The time line breaks here: end what goes on and forget what was rising."""
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
        # Not before the clip that shows it.
        track.start = track.rising_since - min(rule.onset_seconds, self._clip_seconds)
        track.active = True
        track.last_above = now
        track.confidence = confidence
        track.last_update = now
        track.rising_since = None
        return [Detection("started", label, confidence, now, track.start, None, smoothed)]

    def _end(self, label: str, last_above: float, smoothed: tuple[float, ...]) -> Detection:
        """The action was last seen in the clip that ended at `last_above`; it ended early in
        that clip.
        """
        track = self._tracks[label]
        end = max(
            track.start, last_above - max(0.0, self._clip_seconds - self._rule(label).onset_seconds)
        )
        track.active = False
        return Detection("ended", label, track.confidence, self._last, track.start, end, smoothed)
