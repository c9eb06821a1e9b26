"""Finds the best smoothing, thresholds and durations for events on labelled recordings.

Once smoothing is chosen, actions do not influence each other, so each rule is tried on each action
separately. The default rule is the one with the best F1 over all actions. An action gets a separate
rule if that rule is clearly better for it than the default rule.
"""

from __future__ import annotations

import dataclasses
import itertools
import statistics
from collections.abc import Mapping, Sequence

from rich.progress import track

from configs import DataError, shows_progress
from model.checkpoints.weights import ModelSpec
from model.detection import ActionDetector, ActionRule, DetectionConfig
from train.data.manifest import Manifest
from train.evaluation.event_metrics import match_starts, measure_events
from train.evaluation.recordings import Timeline, detect

__all__ = ["tune"]

_SMOOTHING = (1, 3, 5, 7, 9)
_ENTER = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
_EXIT_FRACTIONS = (0.4, 0.6, 0.8)  # of `enter`
_MIN_SECONDS = (0.0, 0.3)
_COOLDOWN_SECONDS = 0.5
_MIN_TRUE_EVENTS = 5  # an action with fewer true events uses the default rule
_MIN_GAIN = 0.03  # minimum F1 gain of a separate rule; smaller gains may be chance

# _Starts: start times of one action in seconds, by recording. _Truths: true starts by action.
_Starts = dict[str, list[float]]
_Truths = dict[str, _Starts]


@dataclasses.dataclass(frozen=True)
class _Trial:
    """Result of a rule for one action: found events, false events and the best onset."""

    found: int
    false: int
    onset_seconds: float


def tune(
    timelines: Sequence[Timeline],
    truth: Manifest,
    *,
    spec: ModelSpec,
    tolerance_seconds: float,
    before: DetectionConfig | None = None,
    per_action: bool = True,
    quiet: bool = False,
) -> DetectionConfig:
    """Return the settings with the highest F1 on these recordings, for the weights' temperature.

    Of equally good settings, those with less smoothing and higher thresholds are chosen.

    Args:
        before: previous settings; `ignore` and `update_seconds` are taken from them unchanged.
        per_action: whether actions may get rules that differ from the default rule.

    Raises:
        DataError: all recordings are shorter than a clip, the truth has no action that the network
            knows, or no setting finds any of the actions.
    """
    before = before or DetectionConfig()
    if not timelines:
        raise DataError(f"truth {truth.path}: no recording is as long as a clip")
    truths = _true_starts(truth, spec)
    for label in before.ignore or ():
        truths.pop(label, None)
    search = _Search(timelines, truths, spec, tolerance_seconds)
    best_f1 = 0.0
    best = before
    for smoothing in track(
        _SMOOTHING, description="smoothing", disable=quiet or not shows_progress()
    ):
        config = search.best_rules(smoothing, per_action=per_action)
        config = config.model_copy(
            update={
                "ignore": before.ignore,
                "update_seconds": before.update_seconds,
                "temperature": spec.temperature,
            }
        )
        events = detect(timelines, config, spec=spec)
        metrics = measure_events(truth, events, hours=1.0, tolerance_seconds=tolerance_seconds)
        if metrics.f1 > best_f1:
            best_f1 = metrics.f1
            best = config
    if best_f1 == 0:
        raise DataError(
            f"truth {truth.path}: no setting finds any of its actions; check that the weights were"
            " trained on these actions"
        )
    return best


class _Search:
    """Tries all rules on all actions and selects the best ones.

    Args:
        truths: true start times in seconds, by action and recording.
    """

    def __init__(
        self,
        timelines: Sequence[Timeline],
        truths: _Truths,
        spec: ModelSpec,
        tolerance_seconds: float,
    ) -> None:
        self._timelines = timelines
        self._truths = truths
        self._labels = spec.labels
        self._clip_seconds = (spec.model.frames - 1) / spec.fps
        self._tolerance = tolerance_seconds
        self._rules = _rules_to_try()
        self._true_counts = {
            label: sum(map(len, starts.values())) for label, starts in truths.items()
        }

    def best_rules(self, smoothing: int, *, per_action: bool) -> DetectionConfig:
        """Return settings with the best default rule, and with better rules for single actions."""
        trials = {
            label: [self._try(rule, smoothing, label) for rule in self._rules]
            for label in self._truths
        }
        common = self._best_index(trials, list(trials))
        onsets = [
            trials[label][common].onset_seconds for label in trials if self._true_counts[label]
        ]
        default = self._with_onset(common, round(statistics.median(onsets), 2))
        actions = {}
        for label in trials if per_action else ():
            if self._true_counts[label] >= _MIN_TRUE_EVENTS:
                best = self._best_index(trials, [label])
                needed = self._f1(trials, common, [label]) + _MIN_GAIN
                index = best if self._f1(trials, best, [label]) >= needed else common
                actions[label] = self._with_onset(index, trials[label][index].onset_seconds)
        return DetectionConfig(smoothing=smoothing, default=default, actions=actions)

    def _with_onset(self, index: int, onset_seconds: float) -> ActionRule:
        return self._rules[index].model_copy(update={"onset_seconds": onset_seconds})

    def _best_index(self, trials: Mapping[str, Sequence[_Trial]], labels: Sequence[str]) -> int:
        return max(range(len(self._rules)), key=lambda index: self._f1(trials, index, labels))

    def _f1(
        self, trials: Mapping[str, Sequence[_Trial]], index: int, labels: Sequence[str]
    ) -> float:
        """Return the F1 of one rule over the given actions."""
        found = sum(trials[label][index].found for label in labels)
        false = sum(trials[label][index].false for label in labels)
        true = sum(self._true_counts[label] for label in labels)
        return 2 * found / max(found + false + true, 1)

    def _try(self, rule: ActionRule, smoothing: int, label: str) -> _Trial:
        """Apply one rule to one action, and count found and false events."""
        rises = self._rises(DetectionConfig(smoothing=smoothing, default=rule), label)
        truth = self._truths[label]
        onset = self._median_onset_delay(rises, truth)
        found = 0
        for camera, starts in truth.items():
            events = [rise - onset for rise in rises.get(camera, [])]
            found += len(match_starts(starts, events, self._tolerance))
        return _Trial(found, sum(map(len, rises.values())) - found, onset)

    def _rises(self, config: DetectionConfig, label: str) -> _Starts:
        """Return the detected starts of an action in each recording, without onset correction."""
        column = self._labels.index(label)
        rises: _Starts = {}
        for timeline in self._timelines:
            detector = ActionDetector(config, labels=(label,), clip_seconds=self._clip_seconds)
            confidences = timeline.probabilities_NK[:, column].tolist()
            for end, confidence in zip(timeline.ends_N, confidences, strict=True):
                for found in detector.push((confidence,), end):
                    if found.kind == "started":
                        rises.setdefault(timeline.camera, []).append(found.start_seconds)
        return rises

    def _median_onset_delay(self, rises: _Starts, truth: _Starts) -> float:
        """Return the median delay in seconds from a true start to the closest detected start."""
        latest = self._clip_seconds + self._tolerance
        delays = []
        for camera, starts in truth.items():
            for start in starts:
                after_start = [rise - start for rise in rises.get(camera, [])]
                near = [delay for delay in after_start if -self._tolerance <= delay <= latest]
                if near:
                    delays.append(min(near, key=abs))
        if not delays:
            return round(self._clip_seconds / 2, 2)
        return round(min(max(statistics.median(delays), 0.0), self._clip_seconds), 2)


def _rules_to_try() -> list[ActionRule]:
    """Return all rules, high thresholds first: of equally good rules the first one is chosen."""
    return [
        ActionRule(
            enter=enter,
            exit=round(fraction * enter, 3),
            min_seconds=min_seconds,
            cooldown_seconds=_COOLDOWN_SECONDS,
            onset_seconds=0.0,
        )
        for enter, fraction, min_seconds in itertools.product(
            _ENTER[::-1], _EXIT_FRACTIONS, _MIN_SECONDS
        )
    ]


def _true_starts(truth: Manifest, spec: ModelSpec) -> _Truths:
    """Return the true starts of each action that the network knows, by recording."""
    starts: _Truths = {label: {} for label in spec.labels if label != spec.background}
    for entry in truth.entries:
        if entry.label in starts and entry.start_seconds is not None:
            starts[entry.label].setdefault(entry.path.stem, []).append(entry.start_seconds)
    if not any(starts.values()):
        raise DataError(
            f"truth {truth.path} has no action that the weights know; they know {list(starts)}"
        )
    return starts
