"""Finds smoothing, thresholds and durations of events on labelled recordings, and writes them into
a stream configuration.

Actions do not influence each other once smoothing is chosen, so each setting is tried on each
action alone; the rule of all actions is the one with the best F1 over all of them, and an action
gets its own where that finds more.
"""

from __future__ import annotations

import dataclasses
import itertools
import statistics
from collections.abc import Sequence
from pathlib import Path

import yaml
from rich.progress import track

from configs import ConfigError, DataError
from model.checkpoints.weights import ModelSpec
from model.detection import ActionDetector, ActionRule, DetectionConfig
from train.data.manifest import Manifest
from train.evaluation.event_metrics import match_starts, score_events
from train.evaluation.recordings import Timeline, detect

__all__ = ["tune", "write_events"]

_SMOOTHING = (1, 3, 5, 7, 9)
_ENTER = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
_EXIT_SHARE = (0.4, 0.6, 0.8)  # of `enter`
_MIN_SECONDS = (0.0, 0.3)
_COOLDOWN_SECONDS = (0.5,)
_FEWEST = 5  # an action with fewer true events keeps the common rule
_CLEAR_GAIN = 0.03  # of F1; less is as likely chance


@dataclasses.dataclass(frozen=True)
class _Tried:
    """What a rule did for one action: events found and false, and the onset that dates them
    best.
    """

    found: int
    false: int
    onset: float


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
    """The settings with the highest F1 on these recordings; among equals the plainest: little
    smoothing, high thresholds.

    Args:
        before: what to ignore and how often to update stay as they are here.

    Raises:
        DataError: no recording is as long as a clip, the truth has no action that the network
            knows, or none is ever found.
    """
    before = before or DetectionConfig()
    if not timelines:
        raise DataError(f"truth {truth.path}: no recording is as long as a clip")
    truths = {
        label: starts
        for label, starts in _truths(truth, spec).items()
        if label not in (before.ignore or ())
    }
    rules = [
        ActionRule(
            enter=enter,
            exit=round(share * enter, 3),
            min_seconds=least,
            cooldown_seconds=pause,
            onset_seconds=0.0,
        )
        for enter, share, least, pause in itertools.product(
            _ENTER[::-1], _EXIT_SHARE, _MIN_SECONDS, _COOLDOWN_SECONDS
        )
    ]
    best: tuple[float, DetectionConfig] | None = None
    for smoothing in track(_SMOOTHING, description="smoothing", disable=quiet):
        tried = {
            label: [
                _try(rule, smoothing, label, timelines, truths[label], spec, tolerance_seconds)
                for rule in rules
            ]
            for label in truths
        }
        config = _choose(
            smoothing,
            rules,
            tried,
            {label: sum(map(len, starts.values())) for label, starts in truths.items()},
            per_action,
        )
        config = config.model_copy(
            update={"ignore": before.ignore, "update_seconds": before.update_seconds}
        )
        f1 = score_events(
            truth,
            detect(timelines, config, spec=spec),
            hours=1.0,
            tolerance_seconds=tolerance_seconds,
        ).f1
        if best is None or f1 > best[0]:
            best = (f1, config)
    if best is None or best[0] == 0:
        raise DataError(
            f"truth {truth.path}: no setting finds a single one of its actions; are these the right"
            " weights?"
        )
    return best[1]


def write_events(config: DetectionConfig, source: Path, target: Path) -> None:
    """Copy a stream configuration with its `events` section replaced; the rest stays as it is,
    comments too.

    Raises:
        ConfigError: the source cannot be read, or the target not be written.
    """
    try:
        lines = source.read_text(encoding="utf-8").splitlines()
        begin = next((i for i, line in enumerate(lines) if line.startswith("events:")), len(lines))
        after = next(
            (i for i in range(begin + 1, len(lines)) if lines[i][:1] not in ("", " ", "#")),
            len(lines),
        )
        end = max(
            (i + 1 for i in range(begin, after) if lines[i].startswith(("events:", " "))),
            default=begin,
        )
        top_k = (
            ((yaml.safe_load("\n".join(lines[begin:end])) or {}).get("events") or {}).get("top_k")
            if begin < end
            else None
        )
        section = {**config.model_dump(), **({} if top_k is None else {"top_k": top_k})}
        section["ignore"] = None if config.ignore is None else list(config.ignore)
        text = yaml.safe_dump(
            {"events": section}, sort_keys=False, default_flow_style=None, width=140
        )
        target.write_text(
            "\n".join([*lines[:begin], *text.splitlines(), *lines[end:]]) + "\n", encoding="utf-8"
        )
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"events of {source} cannot be written into {target}: {error}") from None


def _truths(truth: Manifest, spec: ModelSpec) -> dict[str, dict[str, list[float]]]:
    """For each action the starts in each recording."""
    starts: dict[str, dict[str, list[float]]] = {
        label: {} for label in spec.labels if label != spec.background
    }
    for entry in truth.entries:
        if entry.label in starts and entry.start_seconds is not None:
            starts[entry.label].setdefault(entry.path.stem, []).append(entry.start_seconds)
    if not any(starts.values()):
        raise DataError(
            f"truth {truth.path} has no action of the weights; theirs are {list(starts)}"
        )
    return starts


def _try(
    rule: ActionRule,
    smoothing: int,
    label: str,
    timelines: Sequence[Timeline],
    truth: dict[str, list[float]],
    spec: ModelSpec,
    tolerance: float,
) -> _Tried:
    """One rule on one action alone."""
    column = spec.labels.index(label)
    clip_seconds = (spec.model.frames - 1) / spec.fps
    config = DetectionConfig(smoothing=smoothing, default=rule)
    rises: dict[str, list[float]] = {}
    for timeline in timelines:
        detector = ActionDetector(config, labels=(label,), clip_seconds=clip_seconds)
        for end, confidence in zip(
            timeline.ends_N, timeline.probabilities_NK[:, column].tolist(), strict=True
        ):
            for found in detector.push((confidence,), end):
                if found.kind == "started":
                    rises.setdefault(timeline.camera, []).append(found.start_seconds)
    onset = _best_onset(rises, truth, clip_seconds, tolerance)
    hits = sum(
        len(match_starts(starts, [rise - onset for rise in rises.get(camera, [])], tolerance))
        for camera, starts in truth.items()
    )
    return _Tried(hits, sum(map(len, rises.values())) - hits, onset)


def _best_onset(
    rises: dict[str, list[float]],
    truth: dict[str, list[float]],
    clip_seconds: float,
    tolerance: float,
) -> float:
    """The median time from a true start to the rise that follows it, within a clip's length."""
    delays = []
    for camera, starts in truth.items():
        for start in starts:
            near = [
                rise - start
                for rise in rises.get(camera, [])
                if -tolerance <= rise - start <= clip_seconds + tolerance
            ]
            if near:
                delays.append(min(near, key=abs))
    return (
        round(min(max(statistics.median(delays), 0.0), clip_seconds), 2)
        if delays
        else round(clip_seconds / 2, 2)
    )


def _choose(
    smoothing: int,
    rules: Sequence[ActionRule],
    tried: dict[str, list[_Tried]],
    true: dict[str, int],
    per_action: bool,
) -> DetectionConfig:
    """The common rule, and rules of single actions: their onsets, and other thresholds where
    those find clearly more.
    """

    def f1(index: int, labels: Sequence[str]) -> float:
        found = sum(tried[label][index].found for label in labels)
        false = sum(tried[label][index].false for label in labels)
        return 2 * found / max(found + false + sum(true[label] for label in labels), 1)

    common = max(range(len(rules)), key=lambda index: f1(index, list(tried)))
    onsets = [tried[label][common].onset for label in tried if true[label]]
    default = rules[common].model_copy(
        update={"onset_seconds": round(statistics.median(onsets), 2)}
    )
    actions = {}
    for label in tried if per_action else ():
        if true[label] >= _FEWEST:
            own = max(range(len(rules)), key=lambda index: f1(index, [label]))
            index = own if f1(own, [label]) >= f1(common, [label]) + _CLEAR_GAIN else common
            actions[label] = rules[index].model_copy(
                update={"onset_seconds": tried[label][index].onset}
            )
    return DetectionConfig(smoothing=smoothing, default=default, actions=actions)
