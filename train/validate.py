"""Which files of a manifest decode, and which do not and why."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
from rich.progress import Progress

from configs import MediaError
from model.video import decode_frames, open_container
from train.manifests import Manifest

__all__ = ["FileReport", "recording_hours", "summary_line", "validate_manifest"]


@dataclasses.dataclass(frozen=True)
class FileReport:
    """What a full decode of one file found; `problem` is None for a good file."""

    path: Path
    frames: int
    problem: str | None


def validate_manifest(manifest: Manifest, *, threads: int | None = None, quiet: bool = False) -> list[FileReport]:
    """Decode every file of the manifest from end to end, once each, in parallel with a progress bar.

    A file is good if every packet of its video reads and decodes.
    """
    paths = list(dict.fromkeys(entry.path for entry in manifest.entries))
    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool, Progress(disable=quiet) as progress:
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
