"""The commands `streaming`, `tune` and `score`: compare events on recordings with the truth.

`streaming` and `tune` run the network over the recordings without a live pipeline.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs import print_table
from train.commands.options import add_checkpoint, positive_seconds

if TYPE_CHECKING:
    from model.checkpoints.weights import ModelSpec
    from train.data.manifest import Manifest
    from train.evaluation.event_metrics import EventMetrics
    from train.evaluation.quiet_hours import QuietHours
    from train.evaluation.recordings import Timeline

__all__ = ["add_commands"]

_log = logging.getLogger(__name__)


def add_commands(commands: Any) -> None:
    """Add the commands `streaming`, `tune` and `score`."""
    parser = commands.add_parser(
        "streaming", help="detect events on untrimmed recordings and compare them with the truth"
    )
    _add_recordings(parser)
    parser.add_argument(
        "--stream",
        type=Path,
        help="stream configuration whose events section is used; default: built-in settings",
    )
    _add_metrics(parser, tolerances=[0.5, 1.0, 2.0])
    parser.set_defaults(run=_streaming)
    parser = commands.add_parser(
        "tune", help="find the best events section of a stream configuration on labelled recordings"
    )
    _add_recordings(parser)
    _add_tuning(parser)
    parser.set_defaults(run=_tune)
    parser = commands.add_parser("score", help="compare events with the truth of recordings")
    parser.add_argument("--truth", type=Path, required=True, help="truth.csv of the recordings")
    parser.add_argument("--events", type=Path, required=True, help="events as JSON Lines")
    parser.add_argument(
        "--hours", type=float, help="analysed camera-hours; default: total length of the recordings"
    )
    _add_metrics(parser, tolerances=[1.0])
    parser.set_defaults(run=_score)


def _add_recordings(parser: argparse.ArgumentParser) -> None:
    add_checkpoint(parser)
    parser.add_argument(
        "--truth",
        type=Path,
        required=True,
        help="manifest of the recordings with the times of their actions",
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--precision", choices=("auto", "bfloat16", "float32"), default="auto")


def _add_tuning(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--stream",
        type=Path,
        required=True,
        help="stream configuration whose events section is replaced",
    )
    parser.add_argument("--out", type=Path, required=True, help="stream configuration to write")
    parser.add_argument(
        "--tolerance",
        type=positive_seconds,
        default=1.0,
        help="seconds between true and announced start",
    )
    parser.add_argument("--common", action="store_true", help="use one rule for all actions")


def _add_metrics(parser: argparse.ArgumentParser, *, tolerances: list[float]) -> None:
    parser.add_argument(
        "--tolerance",
        type=positive_seconds,
        default=tolerances,
        nargs="+",
        help="seconds between true and announced start",
    )
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument(
        "--plot",
        type=Path,
        help="also draw precision, recall and F1 by tolerance into this PNG file",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="ACTION",
        help="use only events of these actions, if the truth labels only these",
    )


def _streaming(options: argparse.Namespace) -> int:
    """Detect events on recordings with the given weights, and compare them with the truth."""
    from model.calibration import threshold_warning
    from train.evaluation.event_metrics import only_actions
    from train.evaluation.quiet_hours import measure_quiet_hours
    from train.evaluation.recordings import detect, measure_tolerances
    from train.evaluation.stream_file import read_detection

    detection, stride = read_detection(options.stream)
    timelines, spec, truth = _timelines(options, stride)
    if (warning := threshold_warning(detection, spec.temperature)) is not None:
        _log.warning("%s", warning)
    events = detect(timelines, detection, spec=spec)
    if options.only:
        truth, events = only_actions(truth, events, options.only)
    metrics = measure_tolerances(truth, events, options.tolerance)
    _report(metrics, measure_quiet_hours(truth, events), options)
    return 0


def _tune(options: argparse.Namespace) -> int:
    """Find the best events section, and write a stream configuration that contains it."""
    from train.data.video_check import recording_hours
    from train.evaluation.event_metrics import measure_events
    from train.evaluation.recordings import detect
    from train.evaluation.stream_file import read_detection, write_events
    from train.evaluation.tune import tune

    before, stride = read_detection(options.stream)
    timelines, spec, truth = _timelines(options, stride)
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
        events = detect(timelines, config, spec=spec)
        metrics = measure_events(truth, events, hours=hours, tolerance_seconds=options.tolerance)
        print(f"{name}: {_summary_line(metrics, options.tolerance)}")
    print(f"wrote {options.out}; on other recordings, expect lower figures")
    return 0


def _score(options: argparse.Namespace) -> int:
    """Compare events that the live pipeline recorded with the truth."""
    from train.data.manifest import read_manifest
    from train.evaluation.event_metrics import only_actions, read_started_events
    from train.evaluation.quiet_hours import measure_quiet_hours
    from train.evaluation.recordings import measure_tolerances

    truth = read_manifest(options.truth)
    events = read_started_events(options.events)
    if options.only:
        truth, events = only_actions(truth, events, options.only)
    metrics = measure_tolerances(truth, events, options.tolerance, hours=options.hours)
    _report(metrics, measure_quiet_hours(truth, events), options)
    return 0


def _timelines(
    options: argparse.Namespace, stride: int
) -> tuple[list[Timeline], ModelSpec, Manifest]:
    """Run the network on the truth's recordings; return timelines, network spec and truth."""
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
    timelines = recording_timelines(network, recordings_of(truth), stride=stride, dtype=dtype)
    return timelines, network.spec, truth


def _report(
    metrics: dict[float, EventMetrics], quiet: QuietHours | None, options: argparse.Namespace
) -> None:
    """Print the metrics of each tolerance; write and draw them if the options ask for it.

    False alarms in recordings without actions are the same for every tolerance.
    """
    from train.engine.run_log import write_json

    _print_actions(*max(metrics.items()))
    for tolerance, found in metrics.items():
        print(_summary_line(found, tolerance))
    summaries = {tolerance: found.summary() for tolerance, found in metrics.items()}
    if quiet is not None:
        print(_quiet_line(quiet))
        for summary in summaries.values():
            summary["quiet"] = quiet.summary()
    if options.json is not None:
        by_tolerance = {f"{tolerance:g}": summary for tolerance, summary in summaries.items()}
        only = next(iter(summaries.values()))
        write_json(options.json, only if len(summaries) == 1 else by_tolerance)
    if options.plot is not None:
        from train.evaluation.plots import plot_events

        plot_events(summaries, options.plot)


def _print_actions(tolerance: float, metrics: EventMetrics) -> None:
    title = f"events against the truth, start within {tolerance:g} s"
    rows = (
        (action, str(found + missed), str(found), str(missed), str(false))
        for action, (found, missed, false) in metrics.per_action.items()
    )
    print_table(("action", "true", "found", "missed", "false"), rows, title=title)


def _quiet_line(quiet: QuietHours) -> str:
    facts = quiet.summary()
    named = ", ".join(f"{action} {count}" for action, count in quiet.per_action.items())
    return (
        f"recordings without actions: {quiet.false_alarms} false alarms in"
        f" {quiet.camera_hours:.2f} camera-hours, {facts['false_alarms_per_camera_hour']} per"
        f" camera-hour, at most {facts['at_most_with_95_percent_confidence']} with 95 % confidence"
        + (f" ({named})" if named else "")
    )


def _summary_line(metrics: EventMetrics, tolerance: float) -> str:
    facts = metrics.summary()
    delay = facts["time_to_detect_p50_seconds"]
    return (
        f"found {facts['found']} of {facts['true_events']} true events (start within {tolerance:g}"
        f" s), {facts['false']} false: precision {metrics.precision:.3f}, recall"
        f" {metrics.recall:.3f}, F1 {metrics.f1:.3f}, {facts['false_per_camera_hour']} false events"
        " per camera-hour" + ("" if delay is None else f", announced {delay:g} s after the start")
    )
