"""Checks which files of a manifest training can use, and writes a report that training reads."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
from rich.progress import Progress

from configs import DataError, MediaError, quoted, read_text, replaced_file, shows_progress
from model.media.container import naming_file, open_file, resolved
from model.media.conversion import FrameConverter, frame_kind
from model.media.image_sequence import ImageSequence, find_sequence, size_and_mtime
from model.media.preprocess import PreprocessConfig, Preprocessor
from model.media.video import decode_frames, no_frame
from train.data.manifest import Manifest, ManifestEntry

__all__ = [
    "FileReport",
    "read_report",
    "recording_hours",
    "report_path",
    "summary_line",
    "validate_manifest",
    "write_report",
]

_COLUMNS = ("path", "bytes", "modified_ns", "frames", "problem", "note")


@dataclasses.dataclass(frozen=True)
class FileReport:
    """The result of reading a whole file.

    `problem` is None if the file is good. `note` says which colour matrix replaces that of the
    file; it is empty if none does.
    """

    path: Path
    frames: int
    problem: str | None
    note: str = ""


def validate_manifest(
    manifest: Manifest, *, threads: int | None = None, quiet: bool = False
) -> list[FileReport]:
    """Read every file of the manifest completely, in parallel, with a progress bar.

    A file is good if every packet of its video can be read and decoded, its frames have times, can
    be converted to RGB and preprocessed, and each entry of the manifest has a frame.

    Args:
        threads: number of files read at the same time; None for the number of cores.
        quiet: whether to hide the progress bar.
    """
    parts: dict[Path, list[ManifestEntry]] = {}
    for entry in manifest.entries:
        parts.setdefault(entry.path, []).append(entry)
    check = _FileCheck()
    with (
        ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool,
        Progress(disable=quiet or not shows_progress()) as progress,
    ):
        task = progress.add_task("validate", total=len(parts))
        reports = []
        for report in pool.map(check, parts, parts.values()):
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


def read_report(path: Path) -> dict[Path, FileReport]:
    """Return the result for each file in a report, by its resolved path.

    Files changed since the report are left out. If there is no report, return an empty mapping.

    Raises:
        DataError: the file at `path` is not a report.
    """
    if not path.is_file():
        return {}
    try:
        text = read_text(path, "report", DataError, raw_names=True)
        rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
        return {
            Path(row["path"]): FileReport(
                Path(row["path"]), int(row["frames"]), row["problem"] or None, row.get("note") or ""
            )
            for row in rows
            if (int(row["bytes"]), int(row["modified_ns"])) == _size_and_mtime(Path(row["path"]))
        }
    except (OSError, csv.Error, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path} is not a report of `python -m train validate` ({quoted(error)}); remove"
            " it, or run that command again"
        ) from None


def _write_rows(reports: Sequence[FileReport], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for report in reports:
            size, modified_ns = _size_and_mtime(report.path)
            problem = report.problem or ""
            facts = (resolved(report.path), size, modified_ns, report.frames, problem, report.note)
            writer.writerow(facts)


def _size_and_mtime(path: Path) -> tuple[int, int]:
    """Return a file's size in bytes and modification time in ns; (-1, -1) if it is missing."""
    try:
        return size_and_mtime(path)
    except (OSError, ValueError):
        return (-1, -1)


def recording_hours(manifest: Manifest) -> float:
    """Return the total duration of all files of a manifest in hours, read from their headers.

    Raises:
        MediaError: a file cannot be opened; the message names it.
    """
    seconds = 0.0
    for path, video in {entry.path: entry.video for entry in manifest.entries}.items():
        with naming_file(path):
            seconds += _duration_seconds(video)
    return seconds / 3600


def _duration_seconds(video: Path | ImageSequence) -> float:
    sequence = find_sequence(video)
    if sequence is not None:
        return float(len(sequence.images()) * sequence.time_base)
    with open_file(Path(video)) as container:
        return float((container.duration or 0) / av.time_base)


class _FileCheck:
    """Reads one file at a time in each of several threads."""

    def __init__(self) -> None:
        self._graph = Preprocessor(PreprocessConfig(), max_batch=1)
        self._lock = threading.Lock()  # only one thread may use the graph

    def __call__(self, path: Path, entries: Sequence[ManifestEntry]) -> FileReport:
        frames = 0
        notes: list[str] = []
        convert = FrameConverter(None, on_fallback=notes.append)
        kinds: set[tuple[object, ...]] = set()
        times: list[float] = []
        problem: str | None = None
        try:
            for frame in decode_frames(entries[0].video, strict=True):
                frames += 1
                kind = frame_kind(frame)
                if kind not in kinds:  # frames of one kind are all converted, or all refused
                    kinds.add(kind)
                    rgb_HWC = convert(frame)
                    with self._lock:
                        self._graph([rgb_HWC[None]])
                if frame.time is not None:
                    times.append(frame.time)
            problem = _find_missing_part(times, entries)
        except MediaError as error:
            problem = str(error)
        except (OSError, ValueError, ArithmeticError, LookupError, MemoryError) as error:
            problem = f"cannot be read: {type(error).__name__}: {error}"
        return FileReport(path, frames, problem, "; ".join(notes))


def _find_missing_part(times: Sequence[float], entries: Sequence[ManifestEntry]) -> str | None:
    """Return what is wrong if an entry has no frame; `times` are the times of all frames."""
    for entry in entries:
        start = float("-inf") if entry.start_seconds is None else entry.start_seconds
        end = float("inf") if entry.end_seconds is None else entry.end_seconds
        if not any(start <= time < end for time in times):
            return no_frame(entry.start_seconds, entry.end_seconds)
    return None
