"""The command `arrow`: writes clips forward and backward, to learn the order of time from."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from configs import readable
from train.commands.options import frame_rate, positive_seconds

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Add the command `arrow`."""
    parser = commands.add_parser(
        "arrow", help="write clips of unlabelled videos, forward and backward, with manifests"
    )
    parser.add_argument(
        "--videos", type=Path, required=True, help="folder of videos, or a manifest"
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help="folder for the clips, train.csv, validation.csv and data.yaml",
    )
    parser.add_argument(
        "--fps", type=frame_rate, default=15.0, help="frames per second of the clips, as data.fps"
    )
    parser.add_argument(
        "--short-side", type=int, default=256, help="maximum shorter side of the clips, in pixels"
    )
    parser.add_argument(
        "--min-seconds", type=positive_seconds, default=1.0, help="minimum length of a clip"
    )
    parser.add_argument(
        "--max-seconds",
        type=positive_seconds,
        default=4.0,
        help="maximum length of a clip; longer videos are cut",
    )
    parser.add_argument("--folds", type=int, default=5, help="number of folds")
    parser.add_argument("--split", type=int, default=1, help="number of the held-out fold")
    parser.add_argument(
        "--group",
        metavar="PATTERN",
        help=(
            "regular expression, searched in file names, such as '(set\\d+_\\d+)_'; videos with the"
            " same text in the parentheses stay in one fold; default: each video by itself"
        ),
    )
    parser.add_argument(
        "--jobs", type=int, default=0, help="number of videos written at once; 0: one per core"
    )
    parser.set_defaults(run=_arrow)


def _arrow(options: argparse.Namespace) -> int:
    """Write clips forward and backward."""
    from train.data.arrow import ArrowOptions, write_arrow

    report = write_arrow(
        ArrowOptions(
            options.videos,
            options.out,
            fps=options.fps,
            short_side=options.short_side,
            min_seconds=options.min_seconds,
            max_seconds=options.max_seconds,
            fold=options.split,
            folds=options.folds,
            group=options.group,
            jobs=options.jobs,
        )
    )
    print(
        f"{report.train} training and {report.validation} validation clips, half of them backward"
    )
    for line in (
        _left_out("that cannot be read", report.unreadable),
        _left_out("that are too short", report.too_short),
    ):
        if line:
            print(readable(line))
    print(f"wrote clips, train.csv, validation.csv and data.yaml into {options.out}")
    return 1 if report.unreadable else 0


def _left_out(kind: str, paths: Sequence[Path]) -> str:
    return f"left out {len(paths)} videos {kind} (first: {paths[0]})" if paths else ""
