"""The commands `manifest`, which writes lists of videos, and `validate`, which decodes them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from configs import readable
from train.commands.options import frame_rate
from train.data.datasets import DATASETS, read_dataset, write_manifests

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Add the commands `manifest` and `validate`."""
    parser = commands.add_parser(
        "manifest", help="write manifests of a public data set, or of one folder per class"
    )
    _add_manifest_options(parser)
    parser.set_defaults(run=_manifest)
    parser = commands.add_parser("validate", help="read every file of a manifest, as training does")
    parser.add_argument("manifest", type=Path)
    parser.add_argument(
        "--report",
        type=Path,
        help="CSV file to write; default: MANIFEST.checked.csv, the file that training reads",
    )
    parser.add_argument(
        "--jobs", type=int, default=0, help="files decoded at once; 0: one per core"
    )
    parser.set_defaults(run=_validate)


def _add_manifest_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", choices=DATASETS)
    parser.add_argument("--videos", type=Path, required=True, help="folder of the videos")
    parser.add_argument("--annotations", type=Path, help="folder of the official lists")
    parser.add_argument(
        "--split",
        type=int,
        default=1,
        help=(
            "number of the official split of ucf101, hmdb51, ntu-60, ntu-120, kth and le2i; for"
            " weizmann: the held-out person; for folder: the held-out fold"
        ),
    )
    parser.add_argument("--folds", type=int, default=5, help="for folder: number of folds")
    parser.add_argument(
        "--group",
        metavar="PATTERN",
        help=(
            "for folder: regular expression, searched in file names, such as '(set\\d+_\\d+)_';"
            " files with the same text in the parentheses stay in one fold"
        ),
    )
    parser.add_argument(
        "--image-fps",
        type=frame_rate,
        metavar="RATE",
        help=(
            "frames per second of videos that are folders of images; default: 12 for jester and"
            " something-something, 24 for charades, 30 for hmdb51, kinetics-400, ava-kinetics and"
            " ntu, 25 for the others"
        ),
    )
    parser.add_argument(
        "--allow-missing", action="store_true", help="leave out listed videos that do not exist"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for train.csv, validation.csv and data.yaml"
    )


def _manifest(options: argparse.Namespace) -> int:
    """Write the manifests of a data set."""
    dataset = read_dataset(
        options.dataset,
        options.videos,
        options.annotations,
        split=options.split,
        folds=options.folds,
        group=options.group,
    )
    missing = write_manifests(dataset, options.out, image_fps=options.image_fps)
    parts = [video.part for video in dataset.videos]
    print(
        f"{len(dataset.labels)} labels; {parts.count('train')} training and"
        f" {parts.count('validation')} validation videos listed, {len(missing)} missing"
    )
    for line in dataset.notices:
        print(readable(line))
    sequences = sum(video.path.is_dir() for video in dataset.videos)
    if sequences:
        rate = options.image_fps or dataset.image_fps
        print(
            f"{sequences} of the videos are folders of images, taken at {rate:g} frames per second"
            " (--image-fps)"
        )
    if missing:
        print(f"first missing: {readable(missing[0].path)}")
    print(f"wrote train.csv, validation.csv and data.yaml into {options.out}")
    return 1 if missing and not options.allow_missing else 0


def _validate(options: argparse.Namespace) -> int:
    """Read every file of a manifest, as training does."""
    from train.data.manifest import read_manifest
    from train.data.video_check import report_path, summary_line, validate_manifest, write_report

    reports = validate_manifest(read_manifest(options.manifest), threads=options.jobs or None)
    write_report(reports, options.report or report_path(options.manifest))
    for report in reports:
        if report.problem is not None:
            print(readable(f"bad: {report.path}: {report.problem}"))
        if report.note:
            print(readable(f"note: {report.path}: {report.note}"))
    print(summary_line(reports))
    return int(any(report.problem is not None for report in reports))
