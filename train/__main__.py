"""`python -m train`: train, evaluate, make scenes, make and validate manifests, score events."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.logging import RichHandler
from rich.table import Table

from configs import exit_status, load_config
from train.datasets import DATASETS, read_dataset, write_manifests

if TYPE_CHECKING:
    from train.evaluate import Comparison, Scores
    from train.recipe import TrainConfig

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 1 (some files are bad), 2 (bad input), 130 or 143 (stopped, state saved)."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[RichHandler(show_path=False)])
    try:
        return exit_status(lambda: int(options.run(options)))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m train", description="Train and evaluate action recognition networks.")
    parser.add_argument("--config", type=Path, help="training configuration (YAML)")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="override one setting; repeatable")
    parser.add_argument("--resume", action="store_true", help="go on where the saved state stands")
    parser.add_argument("--dry-run", action="store_true", help="read the videos, build the network, run one step; write nothing")
    parser.set_defaults(run=_train)
    commands = parser.add_subparsers(title="other commands")
    _add_evaluate(commands.add_parser("evaluate", help="accuracy of a checkpoint on labelled clips"))
    _add_scenes(commands.add_parser("scenes", help="write generated, labelled video"))
    _add_manifest(commands.add_parser("manifest", help="manifests of a data set as it is distributed, or of a folder per class"))
    _add_validate(commands.add_parser("validate", help="decode every file of a manifest"))
    _add_score(commands.add_parser("score", help="compare events with the truth of recordings"))
    return parser


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, required=True, help="training configuration (YAML)")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    parser.add_argument("--checkpoint", type=Path, required=True, help="weights (safetensors)")
    parser.add_argument("--manifest", type=Path, help="videos; by default the configuration's validation manifest")
    parser.add_argument("--views", default="1x1", help="clips x crops per video, such as 10x3")
    parser.add_argument("--versus", type=Path, metavar="WEIGHTS", help="compare with these weights, class by class and on confusable pairs")
    parser.add_argument("--allow-missing", action="store_true", help="leave out videos that cannot be read, up to data.max_bad_share")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.set_defaults(run=_evaluate)


def _add_scenes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same files")
    parser.add_argument("--clips", type=int, default=20, help="trimmed clips per action")
    parser.add_argument("--background-share", type=float, default=4.0, help="background clips per clip of one action")
    parser.add_argument("--recordings", type=int, default=4, help="untrimmed recordings")
    parser.add_argument("--minutes", type=float, default=2.0, help="length of each recording")
    parser.add_argument("--jobs", type=int, default=0, help="processes; 0 for one per core")
    parser.set_defaults(run=_scenes)


def _add_manifest(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", choices=DATASETS)
    parser.add_argument("--videos", type=Path, required=True, help="folder of the videos")
    parser.add_argument("--annotations", type=Path, help="folder of the official lists")
    parser.add_argument("--split", type=int, default=1, help="official split of ucf101 and hmdb51; for folder the fold that is held out")
    parser.add_argument("--folds", type=int, default=5, help="for folder: parts that the videos are dealt into")
    parser.add_argument(
        "--group",
        metavar="PATTERN",
        help="for folder: what must stay together, such as '(set\\d+_\\d+)_'; its group is searched in file names",
    )
    parser.add_argument("--allow-missing", action="store_true", help="leave out listed videos that are not there")
    parser.add_argument("--out", type=Path, required=True, help="folder for train.csv, validation.csv and data.yaml")
    parser.set_defaults(run=_manifest)


def _add_validate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("manifest", type=Path)
    parser.set_defaults(run=_validate)


def _add_score(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--truth", type=Path, required=True, help="truth.csv beside the recordings")
    parser.add_argument("--events", type=Path, required=True, help="events as JSON Lines")
    parser.add_argument("--hours", type=float, help="camera-hours analysed; by default the recordings' lengths")
    parser.add_argument("--tolerance", type=float, default=1.0, help="seconds between true and announced start")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.set_defaults(run=_score)


def _train(options: argparse.Namespace) -> int:
    from train.loop import StoppedError, dry_run, train
    from train.recipe import TrainConfig

    if options.config is None:
        _parser().print_usage(sys.stderr)
        print("error: --config is needed to train", file=sys.stderr)
        return 2
    config = load_config(options.config, TrainConfig, options.set)
    if options.dry_run:
        print(json.dumps(dry_run(config), indent=2))
        return 0
    stop = threading.Event()
    caught: list[int] = []

    def ask_to_stop(number: int, _: object) -> None:
        if caught and number == signal.SIGINT:
            raise KeyboardInterrupt  # asked twice: at once
        caught.append(number)
        stop.set()

    before = {number: signal.signal(number, ask_to_stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        scores = train(config, resume=options.resume, stop=stop)
    except StoppedError as stopped:
        print(stopped, file=sys.stderr)
        return 128 + caught[0]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    print(json.dumps(scores.summary(), indent=2))
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from model.runtime import keep_freed_memory
    from train.evaluate import Comparison
    from train.recipe import TrainConfig

    keep_freed_memory()
    config = load_config(options.config, TrainConfig, options.set)
    scores, name = _scores_of(options.checkpoint, config, options)
    summary = scores.summary() | {"views": options.views, "model": name}
    more: dict[str, object] = {"labels": list(scores.labels), "confusion": scores.confusion().tolist()}
    if options.versus is not None:
        other, other_name = _scores_of(options.versus, config, options)
        comparison = Comparison.of(other, scores)
        _print_comparison(comparison, other_name, name)
        more["versus"] = {"model": other_name, **other.summary(), **comparison.summary()}
    return _report(summary, options.json, more)


def _scores_of(checkpoint: Path, config: TrainConfig, options: argparse.Namespace) -> tuple[Scores, str]:
    """The weights on the manifest, and their name."""
    from model.runtime import pick_device, pick_dtype
    from model.weights import ModelSpec, load_model
    from train.clips import ClipStore
    from train.evaluate import evaluate_network, parse_views
    from train.loader import readable_entries
    from train.manifests import read_manifest

    views, device = parse_views(options.views), pick_device(config.device)
    network = load_model(checkpoint).to(device)
    spec = network.spec
    assert isinstance(spec, ModelSpec)
    # A video that is left out changes the figure: an error, unless it was asked for.
    share = config.data.max_bad_share if options.allow_missing else 0.0
    data = config.data.model_copy(update={"labels": spec.labels, "max_bad_share": share})
    # At the videos' own size and without the cache: what the live pipeline sees.
    store = ClipStore(fps=spec.fps, frames=spec.model.frames, short_side=None, cache=None)
    entries = readable_entries(read_manifest(options.manifest or config.data.validation), data, store)
    scores = evaluate_network(
        network, entries, views, labels=spec.labels, background=spec.background, store=store,
        preprocess=spec.preprocess, dtype=pick_dtype(config.precision, device),
    )  # fmt: skip
    return scores, spec.name


def _print_comparison(comparison: Comparison, first: str, second: str) -> None:
    table = Table("class", first, second, "gain", title="Top-1 by class")
    for label, one, other in comparison.classes:
        table.add_row(label, f"{one:.3f}", f"{other:.3f}", f"{other - one:+.3f}")
    pairs = Table("pair", first, second, "gain", title=f"Right one of the two, pairs that {first} confuses most")
    for a, b, one, other in comparison.pairs:
        pairs.add_row(f"{a} / {b}", f"{one:.3f}", f"{other:.3f}", f"{other - one:+.3f}")
    for item in (table, pairs):
        Console().print(item)


def _scenes(options: argparse.Namespace) -> int:
    from train.scenes import ScenesPlan, write_scenes

    write_scenes(
        ScenesPlan(
            out=options.out, seed=options.seed, clips_per_action=options.clips, background_share=options.background_share,
            recordings=options.recordings, minutes=options.minutes, jobs=options.jobs,
        )
    )  # fmt: skip
    return 0


def _manifest(options: argparse.Namespace) -> int:
    dataset = read_dataset(
        options.dataset, options.videos, options.annotations, split=options.split, folds=options.folds, group=options.group
    )
    missing = write_manifests(dataset, options.out)
    train, validation = (sum(video.part == part for video in dataset.videos) for part in ("train", "validation"))
    print(f"{len(dataset.labels)} labels; {train} training and {validation} validation videos listed, {len(missing)} missing")
    if missing:
        print(f"first missing: {missing[0].path}")
    print(f"wrote train.csv, validation.csv and data.yaml into {options.out}")
    return 1 if missing and not options.allow_missing else 0


def _validate(options: argparse.Namespace) -> int:
    from train.manifests import read_manifest
    from train.validate import summary_line, validate_manifest

    reports = validate_manifest(read_manifest(options.manifest))
    for report in reports:
        if report.problem is not None:
            print(f"bad: {report.path}: {report.problem}")
    print(summary_line(reports))
    return int(any(report.problem is not None for report in reports))


def _score(options: argparse.Namespace) -> int:
    from train.manifests import read_manifest
    from train.score import read_started_events, score_events
    from train.validate import recording_hours

    truth = read_manifest(options.truth)
    hours = options.hours if options.hours is not None else recording_hours(truth)
    score = score_events(truth, read_started_events(options.events), hours=hours, tolerance_seconds=options.tolerance)
    table = Table("action", "true", "found", "missed", "false", title="events against the truth")
    for action, (found, missed, false) in score.per_action.items():
        table.add_row(action, str(found + missed), str(found), str(missed), str(false))
    Console().print(table)
    summary = score.summary()
    print(
        f"found {summary['found']} of {summary['true_events']} true events (start within {options.tolerance:g} s), "
        f"{summary['false']} false: precision {score.precision:.3f}, recall {score.recall:.3f}, F1 {score.f1:.3f}, "
        f"{summary['false_per_camera_hour']} false events per camera-hour"
    )
    if options.json is not None:
        options.json.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return 0


def _report(summary: dict[str, object], path: Path | None, more: dict[str, object]) -> int:
    """Print the figures; the file also has what is too long to print."""
    print(json.dumps(summary, indent=2))
    if path is not None:
        path.write_text(json.dumps(summary | more, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
