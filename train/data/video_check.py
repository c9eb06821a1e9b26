"""Checks which files of a manifest decode, and writes a report that training reads later."""

from __future__ import annotations

import csv
import dataclasses
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
from rich.progress import Progress

from configs import DataError, MediaError, replaced_file, shows_progress
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
    """The result of decoding a whole file; `problem` is None if the file is good."""

    path: Path
    frames: int
    problem: str | None


def validate_manifest(
    manifest: Manifest, *, threads: int | None = None, quiet: bool = False
) -> list[FileReport]:
    """Decode every file of the manifest completely, in parallel, with a progress bar.

    A file is good if every packet of its video can be read and decoded.

    Args:
        threads: number of files decoded at the same time; None for the number of cores.
        quiet: whether to hide the progress bar.
    """
    paths = list(dict.fromkeys(entry.path for entry in manifest.entries))
    with (
        ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool,
        Progress(disable=quiet or not shows_progress()) as progress,
    ):
        task = progress.add_task("validate", total=len(paths))
        reports = []
        for report in pool.map(_check_file, paths):
            reports.append(report)
            progress.advance(task)
    return reports


def summary_line(reports: Sequence[FileReport]) -> str:
    """Return the numbers of files as a line such as `files 12, good 10, bad 2`."""
    bad = sum(report.problem is not None for report in reports)
    return f"files {len(reports)}, good {len(reports) - bad}, bad {bad}"


def report_path(manifest: Path) -> Path:
    """Return the path of a manifest's report; it is in the same folder as the manifest."""
    return manifest.with_name(f"{manifest.stem}.checked.csv")


def write_report(reports: Sequence[FileReport], path: Path) -> None:
    """Write the report as CSV, with a line for each file.

    Also write the size and modification time of each file, so that later changes can be detected.

    Raises:
        DataError: the report cannot be written.
    """
    try:
        with replaced_file(path) as partial:
            _write_rows(reports, partial)
    except OSError as error:
        raise DataError(
            f"the report {path} cannot be written: {error}; name another file with --report"
        ) from None


def read_report(path: Path) -> dict[Path, str | None]:
    """Return the problem of each file in a report, or None for a good file.

    Files changed since the report are left out. If there is no report, return an empty mapping.

    Raises:
        DataError: the file at `path` is not a report.
    """
    if not path.is_file():
        return {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, strict=True))
        return {
            Path(row["path"]): row["problem"] or None
            for row in rows
            if (int(row["bytes"]), int(row["modified_ns"])) == _size_and_mtime(Path(row["path"]))
        }
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path} is not a report of `python -m train validate` ({error!r}); remove it, or"
            " run that command again"
        ) from None


def _write_rows(reports: Sequence[FileReport], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for report in reports:
            size, modified_ns = _size_and_mtime(report.path)
            problem = report.problem or ""
            writer.writerow([report.path.resolve(), size, modified_ns, report.frames, problem])


def _size_and_mtime(path: Path) -> tuple[int, int]:
    """Return a file's size in bytes and modification time in ns; (-1, -1) if it is missing."""
    try:
        facts = path.stat()
    except OSError:
        return (-1, -1)
    return facts.st_size, facts.st_mtime_ns


def recording_hours(manifest: Manifest) -> float:
    """Return the total duration of all files of a manifest in hours, read from their headers.

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
