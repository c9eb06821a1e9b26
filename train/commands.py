"""What the commands of `python -m train` do; `train/__main__.py` reads their options."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from configs import ConfigError, load_config
from train.data.datasets import read_dataset, write_manifests

if TYPE_CHECKING:
    from model.checkpoints.weights import ModelSpec
    from train.config import TrainConfig
    from train.data.manifest import Manifest
    from train.evaluation.clip_accuracy import Comparison, Scores
    from train.evaluation.event_metrics import EventScore
    from train.evaluation.recordings import Timeline

__all__ = [
    "run_compare",
    "run_evaluate",
    "run_manifest",
    "run_scenes",
    "run_score",
    "run_streaming",
    "run_train",
    "run_tune",
    "run_validate",
]


def run_train(options: argparse.Namespace) -> int:
    """Train, resume, or only try one step."""
    from train.config import load_training
    from train.distributed import joined
    from train.engine.trainer import dry_run, train

    if options.config is None:
        raise ConfigError(
            "--config is needed to train: python -m train --config FILE; --help lists the other"
            " commands"
        )
    config = load_training(options.config, options.set)
    if options.dry_run:
        print(json.dumps(dry_run(config), indent=2))
        return 0

    def work(stop: threading.Event) -> int:
        with joined(config.device) as group:
            scores = train(config, resume=options.resume, stop=stop, group=group)
        if group.first:
            print(json.dumps(scores.summary(), indent=2))
        return 0

    return _stoppable(work)


def _stoppable(work: Callable[[threading.Event], int]) -> int:
    """Run `work`; SIGTERM and Ctrl-C set its event, after which it saves its state and raises
    StoppedError.
    """
    from train.engine.trainer import StoppedError

    stop = threading.Event()
    caught: list[int] = []

    def ask_to_stop(number: int, _: object) -> None:
        if caught and number == signal.SIGINT:
            raise KeyboardInterrupt  # asked twice: at once
        caught.append(number)
        stop.set()

    before = {
        number: signal.signal(number, ask_to_stop) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        return work(stop)
    except StoppedError as stopped:
        print(stopped, file=sys.stderr)
        # without one of its own, another rank was asked
        return 128 + (caught[0] if caught else signal.SIGTERM)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_compare(options: argparse.Namespace) -> int:
    """The paper's ablations."""
    from train.ablations import CompareConfig, compare, markdown, result_rows
    from train.evaluation.plots import plot_rows

    config = load_config(options.config, CompareConfig, options.set)

    def work(stop: threading.Event) -> int:
        rows = result_rows(config, compare(config, stop=stop))
        facts = {"seeds": list(config.seeds), "rows": rows}
        (config.out / "compare.json").write_text(
            json.dumps(facts, indent=2) + "\n", encoding="utf-8"
        )
        (config.out / "compare.md").write_text(markdown(rows), encoding="utf-8")
        plot_rows(
            rows, config.out / "compare.png", title=f"{config.run.name}, {len(config.seeds)} seeds"
        )
        _print_rows(rows)
        print(f"wrote compare.json, compare.md and compare.png into {config.out}")
        return 0

    return _stoppable(work)


def _print_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    from train.ablations import cell

    for title in dict.fromkeys(row["table"] for row in rows):
        mine = [row for row in rows if row["table"] == title]
        table = Table(
            "",
            "top-1",
            "within pairs",
            *(f"paper, {column}" for column in mine[0]["paper"]),
            title=title,
        )
        for row in mine:
            table.add_row(
                row["row"], cell(row["top1"]), cell(row["pairs"]), *map(str, row["paper"].values())
            )
        Console().print(table)


def run_evaluate(options: argparse.Namespace) -> int:
    """Accuracy of weights on labelled clips, alone or beside other weights."""
    from model.runtime import keep_freed_memory
    from train.config import load_training
    from train.evaluation.clip_accuracy import Comparison
    from train.evaluation.plots import plot_comparison, plot_confusion

    keep_freed_memory()
    config = load_training(options.config, options.set)
    scores, name = _scores_of(options.checkpoint, config, options)
    summary = scores.summary() | {"views": options.views, "model": name}
    more: dict[str, object] = {
        "labels": list(scores.labels),
        "confusion": scores.confusion().tolist(),
    }
    if options.plots is not None:
        options.plots.mkdir(parents=True, exist_ok=True)
        plot_confusion(scores, options.plots / "confusion.png")
    if options.versus is not None:
        other, other_name = _scores_of(options.versus, config, options)
        if other_name == name:
            other_name = str(options.versus)
            name = str(options.checkpoint)
        comparison = Comparison.of(other, scores)
        _print_comparison(comparison, other_name, name)
        if options.plots is not None:
            plot_comparison(comparison, (other_name, name), options.plots / "versus.png")
        more["versus"] = {"model": other_name, **other.summary(), **comparison.summary()}
    return _report(summary, options.json, more)


def _scores_of(
    checkpoint: Path, config: TrainConfig, options: argparse.Namespace
) -> tuple[Scores, str]:
    """The weights on the manifest, and their name."""
    from model.checkpoints.weights import ModelSpec, load_model
    from model.runtime import pick_device, pick_dtype
    from train.data.clip_store import ClipStore
    from train.data.loader import readable_entries
    from train.data.manifest import read_manifest
    from train.data.readers import InProcessReader
    from train.evaluation.clip_accuracy import evaluate_network, parse_views

    views = parse_views(options.views)
    device = pick_device(config.device)
    network = load_model(checkpoint).to(device)
    spec = network.spec
    assert isinstance(spec, ModelSpec)
    # A video that is left out changes the figure: an error, unless it was asked for.
    share = config.data.max_bad_share if options.allow_missing else 0.0
    data = config.data.model_copy(update={"labels": spec.labels, "max_bad_share": share})
    # At the videos' own size and without the cache: what the live pipeline sees.
    store = ClipStore(fps=spec.fps, frames=spec.model.frames, short_side=None, cache=None)
    entries = readable_entries(
        read_manifest(options.manifest or config.data.validation), data, store, reported=False
    )
    scores = evaluate_network(
        network,
        entries,
        views,
        labels=spec.labels,
        background=spec.background,
        reader=InProcessReader(store),
        preprocess=spec.preprocess,
        dtype=pick_dtype(config.precision, device),
    )
    return scores, spec.name


def _print_comparison(comparison: Comparison, first: str, second: str) -> None:
    table = Table("class", first, second, "gain", title="Top-1 by class")
    for label, one, other in comparison.classes:
        table.add_row(label, f"{one:.3f}", f"{other:.3f}", f"{other - one:+.3f}")
    pairs = Table(
        "pair",
        first,
        second,
        "gain",
        title=f"Right one of the two, pairs that {first} confuses most",
    )
    for a, b, one, other in comparison.pairs:
        pairs.add_row(f"{a} / {b}", f"{one:.3f}", f"{other:.3f}", f"{other - one:+.3f}")
    for item in (table, pairs):
        Console().print(item)


def run_scenes(options: argparse.Namespace) -> int:
    """Write generated video."""
    from train.synthetic import ScenesOptions, write_scenes

    write_scenes(
        ScenesOptions(
            out=options.out,
            seed=options.seed,
            clips_per_action=options.clips,
            background_ratio=options.background_share,
            recordings=options.recordings,
            minutes=options.minutes,
            jobs=options.jobs,
        )
    )
    return 0


def run_manifest(options: argparse.Namespace) -> int:
    """Write the manifests of a data set."""
    dataset = read_dataset(
        options.dataset,
        options.videos,
        options.annotations,
        split=options.split,
        folds=options.folds,
        group=options.group,
    )
    missing = write_manifests(dataset, options.out)
    train, validation = (
        sum(video.part == part for video in dataset.videos) for part in ("train", "validation")
    )
    print(
        f"{len(dataset.labels)} labels; {train} training and {validation} validation videos listed,"
        f" {len(missing)} missing"
    )
    if missing:
        print(f"first missing: {missing[0].path}")
    print(f"wrote train.csv, validation.csv and data.yaml into {options.out}")
    return 1 if missing and not options.allow_missing else 0


def run_validate(options: argparse.Namespace) -> int:
    """Decode every file of a manifest."""
    from train.data.manifest import read_manifest
    from train.data.video_check import report_path, summary_line, validate_manifest, write_report

    reports = validate_manifest(read_manifest(options.manifest), threads=options.jobs or None)
    write_report(reports, options.report or report_path(options.manifest))
    for report in reports:
        if report.problem is not None:
            print(f"bad: {report.path}: {report.problem}")
    print(summary_line(reports))
    return int(any(report.problem is not None for report in reports))


def run_score(options: argparse.Namespace) -> int:
    """Recorded events against the truth."""
    from train.data.manifest import read_manifest
    from train.evaluation.event_metrics import only_actions, read_started_events
    from train.evaluation.recordings import score_tolerances

    truth = read_manifest(options.truth)
    events = read_started_events(options.events)
    if options.only:
        truth, events = only_actions(truth, events, options.only)
    return _report_events(
        score_tolerances(truth, events, options.tolerance, hours=options.hours), options
    )


def run_streaming(options: argparse.Namespace) -> int:
    """Events of weights on recordings, against the truth."""
    from train.evaluation.event_metrics import only_actions
    from train.evaluation.recordings import detect, read_detection, score_tolerances

    detection, hop = read_detection(options.stream)
    timelines, spec, truth = _timelines(options, hop)
    events = detect(timelines, detection, spec=spec)
    if options.only:
        truth, events = only_actions(truth, events, options.only)
    return _report_events(score_tolerances(truth, events, options.tolerance), options)


def run_tune(options: argparse.Namespace) -> int:
    """Find the events section of a stream configuration."""
    from train.data.video_check import recording_hours
    from train.evaluation.event_metrics import score_events
    from train.evaluation.recordings import detect, read_detection
    from train.evaluation.tune import tune, write_events

    before, hop = read_detection(options.stream)
    timelines, spec, truth = _timelines(options, hop)
    tuned = tune(
        timelines,
        truth,
        before=before,
        spec=spec,
        tolerance_seconds=options.tolerance,
        per_action=not options.common,
    )
    write_events(tuned, options.stream, options.out)
    hours = recording_hours(truth)
    for name, config in (("before", before), ("after", tuned)):
        score = score_events(
            truth,
            detect(timelines, config, spec=spec),
            hours=hours,
            tolerance_seconds=options.tolerance,
        )
        print(f"{name}: {_event_line(score, options.tolerance)}")
    print(f"wrote {options.out}; on recordings that were not tuned on, expect less")
    return 0


def _timelines(options: argparse.Namespace, hop: int) -> tuple[list[Timeline], ModelSpec, Manifest]:
    """The weights over the recordings of the truth."""
    from model.checkpoints.weights import load_model
    from model.runtime import keep_freed_memory, pick_device, pick_dtype
    from train.data.manifest import read_manifest
    from train.evaluation.recordings import recording_timelines, recordings_of

    keep_freed_memory()
    truth = read_manifest(options.truth)
    device = pick_device(options.device)
    network = load_model(options.checkpoint).to(device)
    assert network.spec is not None
    dtype = pick_dtype(options.precision, device)
    return (
        recording_timelines(network, recordings_of(truth), hop=hop, dtype=dtype),
        network.spec,
        truth,
    )


def _report_events(scores: dict[float, EventScore], options: argparse.Namespace) -> int:
    from train.evaluation.plots import plot_events

    tolerance, score = max(scores.items())
    table = Table(
        "action",
        "true",
        "found",
        "missed",
        "false",
        title=f"events against the truth, start within {tolerance:g} s",
    )
    for action, (found, missed, false) in score.per_action.items():
        table.add_row(action, str(found + missed), str(found), str(missed), str(false))
    Console().print(table)
    for tolerance, score in scores.items():
        print(_event_line(score, tolerance))
    summaries = {tolerance: score.summary() for tolerance, score in scores.items()}
    if options.json is not None:
        facts = (
            next(iter(summaries.values()))
            if len(scores) == 1
            else {f"{tolerance:g}": facts for tolerance, facts in summaries.items()}
        )
        options.json.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    if options.plot is not None:
        plot_events(summaries, options.plot)
    return 0


def _event_line(score: EventScore, tolerance: float) -> str:
    facts = score.summary()
    told = facts["time_to_detect_p50_seconds"]
    return (
        f"found {facts['found']} of {facts['true_events']} true events (start within {tolerance:g}"
        f" s), {facts['false']} false: precision {score.precision:.3f}, recall {score.recall:.3f},"
        f" F1 {score.f1:.3f}, {facts['false_per_camera_hour']} false events per camera-hour"
        + ("" if told is None else f", told {told:g} s after the start")
    )


def _report(summary: dict[str, object], path: Path | None, more: dict[str, object]) -> int:
    """Print the figures; the file also has what is too long to print."""
    print(json.dumps(summary, indent=2))
    if path is not None:
        path.write_text(json.dumps(summary | more, indent=2) + "\n", encoding="utf-8")
    return 0
