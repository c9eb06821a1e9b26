"""`python -m train`: train, evaluate, compare, make scenes, make and validate manifests, score
events.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.logging import RichHandler

from configs import exit_status
from train.commands import (
    run_compare,
    run_evaluate,
    run_manifest,
    run_scenes,
    run_score,
    run_streaming,
    run_train,
    run_tune,
    run_validate,
)
from train.data.datasets import DATASETS

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 1 (some files are bad), 2 (bad input), 130 or
    143 (stopped, state saved).
    """
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO, format="%(message)s", handlers=[RichHandler(show_path=False)]
    )
    try:
        return exit_status(lambda: int(options.run(options)))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m train", description="Train and evaluate action recognition networks."
    )
    parser.add_argument("--config", type=Path, help="training configuration (YAML)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="override one setting; repeatable",
    )
    parser.add_argument("--resume", action="store_true", help="go on where the saved state stands")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="read the videos, build the network, run one step; write nothing",
    )
    parser.set_defaults(run=run_train)
    commands = parser.add_subparsers(title="other commands")
    _add_evaluate(
        commands.add_parser("evaluate", help="accuracy of a checkpoint on labelled clips")
    )
    _add_compare(
        commands.add_parser(
            "compare", help="the paper's ablations over several seeds, as tables and a picture"
        )
    )
    _add_scenes(commands.add_parser("scenes", help="write generated, labelled video"))
    _add_manifest(
        commands.add_parser(
            "manifest",
            help="manifests of a data set as it is distributed, or of a folder per class",
        )
    )
    _add_validate(commands.add_parser("validate", help="decode every file of a manifest"))
    _add_streaming(
        commands.add_parser(
            "streaming", help="events of a checkpoint on untrimmed recordings, against their truth"
        )
    )
    _add_tune(
        commands.add_parser(
            "tune", help="find the events section of a stream configuration on labelled recordings"
        )
    )
    _add_score(commands.add_parser("score", help="compare events with the truth of recordings"))
    return parser


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, required=True, help="training configuration (YAML)")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    parser.add_argument("--checkpoint", type=Path, required=True, help="weights (safetensors)")
    parser.add_argument(
        "--manifest", type=Path, help="videos; by default the configuration's validation manifest"
    )
    parser.add_argument("--views", default="1x1", help="clips x crops per video, such as 10x3")
    parser.add_argument(
        "--versus",
        type=Path,
        metavar="WEIGHTS",
        help="compare with these weights, class by class and on confusable pairs",
    )
    parser.add_argument(
        "--allow-missing",
        action="store_true",
        help="leave out videos that cannot be read, up to data.max_bad_share",
    )
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument(
        "--plots",
        type=Path,
        metavar="DIR",
        help="also draw the confusion matrix, and the comparison if there is one",
    )
    parser.set_defaults(run=run_evaluate)


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        type=Path,
        required=True,
        help="comparison (YAML), such as configs/compare-scenes.yaml",
    )
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    parser.set_defaults(run=run_compare)


def _add_scenes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same files")
    parser.add_argument("--clips", type=int, default=20, help="trimmed clips per action")
    parser.add_argument(
        "--background-share",
        type=float,
        default=4.0,
        help="background clips per clip of one action",
    )
    parser.add_argument("--recordings", type=int, default=4, help="untrimmed recordings")
    parser.add_argument("--minutes", type=float, default=2.0, help="length of each recording")
    parser.add_argument("--jobs", type=int, default=0, help="processes; 0 for one per core")
    parser.set_defaults(run=run_scenes)


def _add_manifest(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", choices=DATASETS)
    parser.add_argument("--videos", type=Path, required=True, help="folder of the videos")
    parser.add_argument("--annotations", type=Path, help="folder of the official lists")
    parser.add_argument(
        "--split",
        type=int,
        default=1,
        help="official split of ucf101 and hmdb51; for folder the fold that is held out",
    )
    parser.add_argument(
        "--folds", type=int, default=5, help="for folder: parts that the videos are dealt into"
    )
    parser.add_argument(
        "--group",
        metavar="PATTERN",
        help=(
            "for folder: what must stay together, such as '(set\\d+_\\d+)_'; its group is searched"
            " in file names"
        ),
    )
    parser.add_argument(
        "--allow-missing", action="store_true", help="leave out listed videos that are not there"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for train.csv, validation.csv and data.yaml"
    )
    parser.set_defaults(run=run_manifest)


def _add_validate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("manifest", type=Path)
    parser.add_argument(
        "--report",
        type=Path,
        help="CSV file to write; by default MANIFEST.checked.csv, where training looks for it",
    )
    parser.add_argument("--jobs", type=int, default=0, help="files at once; 0 for one per core")
    parser.set_defaults(run=run_validate)


def _add_score(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--truth", type=Path, required=True, help="truth.csv beside the recordings")
    parser.add_argument("--events", type=Path, required=True, help="events as JSON Lines")
    parser.add_argument(
        "--hours", type=float, help="camera-hours analysed; by default the recordings' lengths"
    )
    _add_event_figures(parser, tolerances=[1.0])
    parser.set_defaults(run=run_score)


def _add_streaming(parser: argparse.ArgumentParser) -> None:
    _add_recordings(parser)
    parser.add_argument(
        "--stream",
        type=Path,
        help="stream configuration with the events section; without one the defaults",
    )
    _add_event_figures(parser, tolerances=[0.5, 1.0, 2.0])
    parser.set_defaults(run=run_streaming)


def _add_tune(parser: argparse.ArgumentParser) -> None:
    _add_recordings(parser)
    parser.add_argument(
        "--stream",
        type=Path,
        required=True,
        help="stream configuration whose events section is replaced",
    )
    parser.add_argument("--out", type=Path, required=True, help="stream configuration to write")
    parser.add_argument(
        "--tolerance", type=_tolerance, default=1.0, help="seconds between true and announced start"
    )
    parser.add_argument("--common", action="store_true", help="one rule for all actions")
    parser.set_defaults(run=run_tune)


def _add_event_figures(parser: argparse.ArgumentParser, *, tolerances: list[float]) -> None:
    parser.add_argument(
        "--tolerance",
        type=_tolerance,
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
        help="leave events of other actions out: for truths that label no others",
    )


def _add_recordings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", type=Path, required=True, help="weights (safetensors)")
    parser.add_argument(
        "--truth",
        type=Path,
        required=True,
        help="manifest of the recordings with the times of their actions",
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--precision", choices=("auto", "bfloat16", "float32"), default="auto")


def _tolerance(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 3600:
        raise argparse.ArgumentTypeError(f"seconds above 0 and below 3600, got {text!r}")
    return value


if __name__ == "__main__":
    sys.exit(main())
