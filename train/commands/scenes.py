"""`scenes`: generated, labelled video."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Add `scenes`."""
    parser = commands.add_parser("scenes", help="write generated, labelled video")
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
    parser.set_defaults(run=_scenes)


def _scenes(options: argparse.Namespace) -> int:
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
