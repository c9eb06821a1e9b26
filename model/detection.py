"""A state machine from the network's probabilities to actions that start and end.

The live pipeline and its evaluation share it. It reads no clock, random source or device, so the
same clips give the same detections. Times are presentation times in seconds.
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
    """When an action starts and when it ends."""

    enter: float = Field(0.5, gt=0, le=1, description="smoothed confidence at which it starts")
    exit: float = Field(0.3, ge=0, le=1, description="smoothed confidence below which it ends")
    min_seconds: float = Field(
        0.0, ge=0, description="it must stay above `enter` this long before it is reported"
    )
    cooldown_seconds: float = Field(
        0.5, ge=0, description="pause after its end before it can start again"
    )
    onset_seconds: float = Field(
        1.45,
        ge=0,
        description=(
            "how long an action lasts before a clip shows it well enough; the reported start and"
            " end take this into account"
        ),
    )

    @model_validator(mode="after")
    def _check(self) -> ActionRule:
        if self.exit > self.enter:
            raise ValueError(f"exit ({self.exit}) must not be above enter ({self.enter})")
        return self


class DetectionConfig(StrictModel):
    """How probabilities become actions."""

    smoothing: int = Field(5, ge=1, le=1000, description="mean over this many clips")
    default: ActionRule = Field(
        ActionRule(), description="the rule for actions without one of their own"
    )
    actions: dict[str, ActionRule] = Field(
        {},
        description="rules for single actions, by label; `default` gives what a rule leaves out",
    )
    ignore: tuple[str, ...] | None = Field(
        None, description="labels that are never reported; null for the weights' background"
    )
    update_seconds: float = Field(
        0.0, ge=0, description="seconds between `updated` reports of a lasting action; 0 for none"
    )

    @model_validator(mode="before")
    @classmethod
    def _inherit(cls, fields: Any) -> Any:
        """Complete every action's rule from the default rule."""
        if not isinstance(fields, dict):
            return fields
        rules = fields.get("actions")
        default = fields.get("default", {})
        if isinstance(default, ActionRule):
            default = default.model_dump()
        if not isinstance(rules, dict) or not isinstance(default, dict):
            return fields
        # Unknown keys stay behind: the error about them names the default rule.
        default = {key: value for key, value in default.items() if key in ActionRule.model_fields}
        completed = {
            label: default | rule if isinstance(rule, dict) else rule
            for label, rule in rules.items()
        }
        return fields | {"actions": completed}

    def check_labels(self, labels: Sequence[str]) -> None:
        """Check that every label named here is one of `labels`.

        Raises:
            ConfigError: one is not.
        """
        unknown = sorted((set(self.actions) | set(self.ignore or ())) - set(labels))
        if unknown:
            raise ConfigError(
                f"events: the weights have no label {', '.join(map(repr, unknown))};"
                f" their labels are {', '.join(labels)}"
            )


@dataclasses.dataclass(frozen=True)
class Detection:
    """An action starts, goes on, or ends.

    Attributes:
        kind: `started`, `updated` or `ended`.
        action: its label.
        confidence: its smoothed probability.
        at_seconds: the end of the clip that showed it.
        start_seconds, end_seconds: when the action is assumed to have started and ended.
        smoothed: the smoothed probabilities of all labels; empty if the recording was interrupted.
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
        config: thresholds and durations.
        labels: class names in the order of the probabilities.
        clip_seconds: length of a clip, from its first to its last frame.
        background: the label that is ignored, unless the configuration names others.

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
        """Actions that go on now, with their latest confidence."""
        return {label: track.confidence for label, track in self._tracks.items() if track.active}

    def push(self, probabilities: Sequence[float], end_seconds: float) -> list[Detection]:
        """Take the result of the next clip, which ended at this time.

        Raises:
            DataError: there is not one probability per label, or one is not from 0 to 1.
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
        """End the actions that go on, and forget the ones that were rising.

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
        # The start is not set before the beginning of the clip.
        track.start = track.rising_since - min(rule.onset_seconds, self._clip_seconds)
        track.active = True
        track.last_above = now
        track.confidence = confidence
        track.last_update = now
        track.rising_since = None
        return [Detection("started", label, confidence, now, track.start, None, smoothed)]

    def _end(self, label: str, last_above: float, smoothed: tuple[float, ...]) -> Detection:
        """End an action that was last seen in the clip that ended at `last_above`."""
        track = self._tracks[label]
        # That clip shows the action's last `onset_seconds`, at its beginning.
        unseen = max(0.0, self._clip_seconds - self._rule(label).onset_seconds)
        end = max(track.start, last_above - unseen)
        track.active = False
        return Detection("ended", label, track.confidence, self._last, track.start, end, smoothed)
