"""The command `scenes`: writes generated, labelled videos."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Add the command `scenes`."""
    parser = commands.add_parser("scenes", help="write generated, labelled videos")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed; the same seed gives the same files"
    )
    parser.add_argument("--clips", type=int, default=20, help="number of trimmed clips per action")
    parser.add_argument(
        "--background-share",
        type=float,
        default=4.0,
        help="number of background clips for each clip of one action",
    )
    parser.add_argument(
        "--interactions",
        type=int,
        default=0,
        help="number of trimmed clips per interaction of two people, such as a push",
    )
    parser.add_argument("--recordings", type=int, default=4, help="number of untrimmed recordings")
    parser.add_argument(
        "--quiet-recordings",
        type=int,
        default=0,
        help="number of untrimmed recordings in which none of the actions happens",
    )
    parser.add_argument("--minutes", type=float, default=2.0, help="length of each recording")
    parser.add_argument("--jobs", type=int, default=0, help="number of processes; 0: one per core")
    parser.add_argument(
        "--boxes",
        action="store_true",
        help="also write the boxes of all people, as NAME.boxes.csv beside each video",
    )
    parser.add_argument(
        "--gestures",
        type=int,
        default=0,
        help="number of trimmed clips per hand gesture; background clips of hands come with them",
    )
    parser.set_defaults(run=_scenes)


def _scenes(options: argparse.Namespace) -> int:
    """Write generated, labelled videos."""
    from train.synthetic import ScenesOptions, write_scenes

    write_scenes(
        ScenesOptions(
            out=options.out,
            seed=options.seed,
            clips_per_action=options.clips,
            background_ratio=options.background_share,
            recordings=options.recordings,
            quiet_recordings=options.quiet_recordings,
            minutes=options.minutes,
            jobs=options.jobs,
            boxes=options.boxes,
            clips_per_interaction=options.interactions,
            clips_per_gesture=options.gestures,
        )
    )
    print(f"wrote clips, recordings and their lists into {options.out}")
    return 0
