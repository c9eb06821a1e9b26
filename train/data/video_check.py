"""Which files of a manifest decode, and which do not and why; and the report of it, which
training goes by.
"""

from __future__ import annotations

import csv
import dataclasses
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
from rich.progress import Progress

from configs import DataError, MediaError
from model.media.container import open_container
from model.media.video import decode_frames
from train.data.manifest import Manifest

__all__ = [
    "FileReport",
    "read_report",
    "recording_hours",
    "report_path",
    "summary_line",
    "validate_manifest",
    "write_report",
]

_COLUMNS = ("path", "bytes", "modified_ns", "frames", "problem")


@dataclasses.dataclass(frozen=True)
class FileReport:
    """What a full decode of one file found; `problem` is None for a good file."""

    path: Path
    frames: int
    problem: str | None


def validate_manifest(
    manifest: Manifest, *, threads: int | None = None, quiet: bool = False
) -> list[FileReport]:
    """Decode every file of the manifest from end to end, once each, in parallel with a progress
    bar.

    A file is good if every packet of its video reads and decodes.
    """
    paths = list(dict.fromkeys(entry.path for entry in manifest.entries))
    with (
        ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool,
        Progress(disable=quiet) as progress,
    ):
        task = progress.add_task("validate", total=len(paths))
        reports = []
        for report in pool.map(_check_file, paths):
            reports.append(report)
            progress.advance(task)
    return reports


def summary_line(reports: Sequence[FileReport]) -> str:
    """`files 12, good 10, bad 2`."""
    bad = sum(report.problem is not None for report in reports)
    return f"files {len(reports)}, good {len(reports) - bad}, bad {bad}"


def report_path(manifest: Path) -> Path:
    """Where the report of a manifest lies: beside it."""
    return manifest.with_name(f"{manifest.stem}.checked.csv")


def write_report(reports: Sequence[FileReport], path: Path) -> None:
    """A CSV line a file, with its size and time of change, by which a later reader knows whether
    the line is about the same file.

    Raises:
        DataError: it cannot be written.
    """
    try:
        partial = path.with_name(path.name + ".part")
        with partial.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(_COLUMNS)
            rows.writerows(
                [
                    report.path.resolve(),
                    *_identity(report.path),
                    report.frames,
                    report.problem or "",
                ]
                for report in reports
            )
        partial.replace(path)
    except OSError as error:
        raise DataError(
            f"the report {path} cannot be written: {error}; name another file with --report"
        ) from None


def read_report(path: Path) -> dict[Path, str | None]:
    """What is wrong with each file of a report that has not changed since, None if nothing; empty
    without a report.

    Raises:
        DataError: it is not such a report.
    """
    if not path.is_file():
        return {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, strict=True))
        return {
            Path(row["path"]): row["problem"] or None
            for row in rows
            if (int(row["bytes"]), int(row["modified_ns"])) == _identity(Path(row["path"]))
        }
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path} is not a report of `python -m train validate` ({error!r}); remove it, or"
            " validate again"
        ) from None


def _identity(path: Path) -> tuple[int, int]:
    try:
        facts = path.stat()
    except OSError:
        return (-1, -1)
    return facts.st_size, facts.st_mtime_ns


def recording_hours(manifest: Manifest) -> float:
    """Length of all files of a manifest together, in hours, from their containers.

    Raises:
        MediaError: a file cannot be opened.
    """
    seconds = 0.0
    for path in {entry.path for entry in manifest.entries}:
        with open_container(str(path)) as container:
            seconds += (container.duration or 0) / av.time_base
    return seconds / 3600


def _check_file(path: Path) -> FileReport:
    frames = 0
    try:
        for _ in decode_frames(path, strict=True):
            frames += 1
    except MediaError as error:
        return FileReport(path, frames, str(error))
    return FileReport(path, frames, None)
