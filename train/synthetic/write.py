"""Write a folder of scenes: trimmed clips with a manifest, recordings with the truth about them.

    OUT/clips/<label>/<number>.mp4      OUT/clips/manifest.csv      path,label
    OUT/recordings/camera-<n>.mp4       OUT/recordings/truth.csv
    path,label,start_seconds,end_seconds
                                        OUT/recordings/segments.csv the same recordings cut into
                                        labelled parts, to train on
    OUT/scenes.json                     seed, counts, versions

Every file is drawn from its own random generator, keyed by (seed, kind, number), so the bytes do
not depend on the number of processes.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import multiprocessing
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from configs import ConfigError
from train.synthetic.actions import BACKGROUND, LABELS
from train.synthetic.film import film
from train.synthetic.script import Interval, clip_script, recording_script, training_segments

__all__ = ["ScenesPlan", "write_scenes"]

_CLIPS = 1
_RECORDINGS = 2


@dataclasses.dataclass(frozen=True)
class ScenesPlan:
    """What to write. `background_share` is the number of background clips per clip of one
    action.
    """

    out: Path
    seed: int = 0
    clips_per_action: int = 20
    background_share: float = 4.0
    recordings: int = 4
    minutes: float = 2.0
    jobs: int = 0

    def __post_init__(self) -> None:
        for name in ("seed", "clips_per_action", "recordings", "jobs", "background_share"):
            if getattr(self, name) < 0:
                raise ConfigError(f"scenes: {name} must be 0 or more, got {getattr(self, name)}")
        if not 0.1 <= self.minutes <= 24 * 60:
            raise ConfigError(f"scenes: minutes must be between 0.1 and 1440, got {self.minutes}")


@dataclasses.dataclass(frozen=True)
class _Job:
    path: Path
    kind: int
    number: int
    seed: int
    label: str
    seconds: float


def write_scenes(plan: ScenesPlan, *, quiet: bool = False) -> None:
    """Write all files of `plan`, in parallel, with a progress bar.

    Raises:
        ConfigError: the folder cannot be written.
    """
    jobs = [*_clip_jobs(plan), *_recording_jobs(plan)]
    try:
        for folder in sorted({job.path.parent for job in jobs} | {plan.out}):
            folder.mkdir(parents=True, exist_ok=True)
        intervals = _film_all(jobs, plan.jobs or os.cpu_count() or 1, quiet)
        _write_tables(plan, jobs, intervals)
    except OSError as error:
        raise ConfigError(
            f"scenes cannot be written to {plan.out}: {error}; choose another --out or free space"
        ) from error


def _clip_jobs(plan: ScenesPlan) -> Iterable[_Job]:
    number = 0
    for label in LABELS:
        share = plan.background_share if label == BACKGROUND else 1.0
        for index in range(round(plan.clips_per_action * share)):
            yield _Job(
                plan.out / "clips" / label / f"{index:04d}.mp4",
                _CLIPS,
                number,
                plan.seed,
                label,
                0.0,
            )
            number += 1


def _recording_jobs(plan: ScenesPlan) -> Iterable[_Job]:
    for number in range(plan.recordings):
        path = plan.out / "recordings" / f"camera-{number + 1}.mp4"
        yield _Job(path, _RECORDINGS, number, plan.seed, "", plan.minutes * 60)


def _film_all(
    jobs: Sequence[_Job], processes: int, quiet: bool
) -> dict[Path, tuple[Interval, ...]]:
    columns = (TextColumn("scenes"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # The longest files first, so that no process is left alone with one at the end.
    ordered = sorted(jobs, key=lambda job: -job.seconds)
    intervals: dict[Path, tuple[Interval, ...]] = {}
    with Progress(*columns, disable=quiet) as progress:
        task = progress.add_task("scenes", total=len(jobs))
        if processes == 1 or len(jobs) < 2:
            results: Iterable[tuple[Path, tuple[Interval, ...]]] = map(_film_job, ordered)
            for path, found in results:
                intervals[path] = found
                progress.advance(task)
            return intervals
        with multiprocessing.get_context("spawn").Pool(min(processes, len(jobs))) as pool:
            for path, found in pool.imap_unordered(_film_job, ordered):
                intervals[path] = found
                progress.advance(task)
    return intervals


def _film_job(job: _Job) -> tuple[Path, tuple[Interval, ...]]:
    cv2.setNumThreads(1)  # one process per core already
    rng = np.random.default_rng([job.seed, job.kind, job.number])
    script = (
        clip_script(job.label, rng) if job.kind == _CLIPS else recording_script(job.seconds, rng)
    )
    partial = job.path.with_suffix(".part")
    film(script, partial, rng)
    partial.replace(job.path)
    return job.path, script.intervals


def _write_tables(
    plan: ScenesPlan, jobs: Sequence[_Job], intervals: dict[Path, tuple[Interval, ...]]
) -> None:
    clips = [job for job in jobs if job.kind == _CLIPS]
    recordings = [job for job in jobs if job.kind == _RECORDINGS]
    if clips:
        folder = plan.out / "clips"
        rows = [[job.path.relative_to(folder).as_posix(), job.label] for job in clips]
        _write_csv(folder / "manifest.csv", ["path", "label"], rows)
    if recordings:
        rows = [
            [
                job.path.name,
                interval.label,
                f"{interval.start_seconds:.3f}",
                f"{interval.end_seconds:.3f}",
            ]
            for job in recordings
            for interval in intervals[job.path]
        ]
        _write_csv(
            plan.out / "recordings" / "truth.csv",
            ["path", "label", "start_seconds", "end_seconds"],
            rows,
        )
        segments = [
            [job.path.name, part.label, f"{part.start_seconds:.3f}", f"{part.end_seconds:.3f}"]
            for job in recordings
            for part in training_segments(intervals[job.path], job.seconds)
        ]
        _write_csv(
            plan.out / "recordings" / "segments.csv",
            ["path", "label", "start_seconds", "end_seconds"],
            segments,
        )
    facts: dict[str, Any] = {
        "seed": plan.seed,
        "clips": len(clips),
        "recordings": len(recordings),
        "recording_minutes": plan.minutes,
        "labels": list(LABELS),
        "versions": {"av": av.__version__, "numpy": np.__version__, "opencv": cv2.__version__},
    }
    (plan.out / "scenes.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def _write_csv(path: Path, header: list[str], rows: list[list[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
