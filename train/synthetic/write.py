"""Writes generated scenes to a folder: trimmed videos with a manifest, recordings with truth.

    OUT/clips/<label>/<number>.mp4
    OUT/clips/manifest.csv            path,label
    OUT/recordings/camera-<n>.mp4
    OUT/recordings/quiet-<n>.mp4      none of the actions happens
    OUT/recordings/truth.csv          path,label,start_seconds,end_seconds
    OUT/recordings/segments.csv       labelled parts of the recordings, for training
    OUT/scenes.json                   seed, counts, versions

Each file has its own random generator, seeded by (seed, kind, number). The contents of the files
therefore do not depend on the number of processes.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import multiprocessing
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import av
import cv2
import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from configs import ConfigError, replaced_file, shows_progress
from train.synthetic.actions import BACKGROUND, INTERACTIONS, LABELS
from train.synthetic.boxes import boxes_path, write_boxes
from train.synthetic.film import film
from train.synthetic.gestures import GESTURES, gesture_script
from train.synthetic.script import clip_script, quiet_script, recording_script
from train.synthetic.truth import Interval, training_segments

__all__ = ["ScenesOptions", "write_scenes"]

_INTERVAL_COLUMNS = ["path", "label", "start_seconds", "end_seconds"]
# Keys for seeding random generators; a changed key changes every file of its kind.
_KIND_KEYS = {"clip": 1, "recording": 2, "quiet": 3, "gesture": 5}


_COUNTS = (
    "seed",
    "clips_per_action",
    "clips_per_interaction",
    "clips_per_gesture",
    "recordings",
    "quiet_recordings",
    "jobs",
    "background_ratio",
)


@dataclasses.dataclass(frozen=True)
class ScenesOptions:
    """The options of `write_scenes`.

    `background_ratio` is the number of background videos for each video of one action.
    `clips_per_interaction` and `clips_per_gesture` are the numbers of videos of each interaction of
    two people and of each hand gesture; 0 leaves their labels out. `quiet_recordings` is the number
    of recordings in which none of the actions happens. `jobs` is the number of processes; 0 uses
    one per core. `boxes` also writes the boxes of all people, as `NAME.boxes.csv` beside each
    video.

    Raises:
        ConfigError: a number is out of range.
    """

    out: Path
    seed: int = 0
    clips_per_action: int = 20
    background_ratio: float = 4.0
    recordings: int = 4
    quiet_recordings: int = 0
    minutes: float = 2.0
    jobs: int = 0
    boxes: bool = False
    clips_per_interaction: int = 0
    clips_per_gesture: int = 0

    def __post_init__(self) -> None:
        for name in _COUNTS:
            if getattr(self, name) < 0:
                raise ConfigError(f"scenes: {name} must be 0 or more, got {getattr(self, name)}")
        if not 0.1 <= self.minutes <= 24 * 60:
            raise ConfigError(f"scenes: minutes must be between 0.1 and 1440, got {self.minutes}")


@dataclasses.dataclass(frozen=True)
class _Job:
    """A video that will be written."""

    path: Path
    kind: Literal["clip", "recording", "quiet", "gesture"]
    number: int
    seed: int
    label: str = ""  # of a clip
    seconds: float = 0.0  # of a recording
    boxes: bool = False


_Intervals = Mapping[Path, tuple[Interval, ...]]


def write_scenes(options: ScenesOptions, *, quiet: bool = False) -> None:
    """Write all files, in parallel, with a progress bar.

    Raises:
        ConfigError: the folder cannot be written.
    """
    clips = [*_clip_jobs(options), *_gesture_jobs(options)]
    recordings = list(_recording_jobs(options))
    jobs = [*clips, *recordings]
    try:
        for folder in sorted({job.path.parent for job in jobs} | {options.out}):
            folder.mkdir(parents=True, exist_ok=True)
        intervals = _film_all(jobs, options.jobs or os.cpu_count() or 1, quiet)
        if clips:
            _write_manifest(options.out / "clips", clips)
        if recordings:
            _write_truth(options.out / "recordings", recordings, intervals)
        _write_summary(options, len(clips), len(recordings))
    except OSError as error:
        raise ConfigError(
            f"scenes cannot be written to {options.out}: {error}; choose another --out or free"
            " space"
        ) from error


def _clip_jobs(options: ScenesOptions) -> Iterator[_Job]:
    background = round(options.clips_per_action * options.background_ratio)
    counts = dict.fromkeys(LABELS, options.clips_per_action) | {BACKGROUND: background}
    # Interactions come last, so that they change no other file.
    counts |= dict.fromkeys(INTERACTIONS, options.clips_per_interaction)
    names = [(label, index) for label, count in counts.items() for index in range(count)]
    for number, (label, index) in enumerate(names):
        path = options.out / "clips" / label / f"{index:04d}.mp4"
        yield _Job(path, "clip", number, options.seed, label, boxes=options.boxes)


def _gesture_jobs(options: ScenesOptions) -> Iterator[_Job]:
    """Yield the clips of gestures; their background clips follow the other background clips."""
    if options.clips_per_gesture == 0:
        return
    number = 0
    for label in (BACKGROUND, *GESTURES):
        ratio = options.background_ratio if label == BACKGROUND else 1.0
        others = round(options.clips_per_action * ratio) if label == BACKGROUND else 0
        for index in range(round(options.clips_per_gesture * ratio)):
            path = options.out / "clips" / label / f"{others + index:04d}.mp4"
            yield _Job(path, "gesture", number, options.seed, label, boxes=options.boxes)
            number += 1


def _recording_jobs(options: ScenesOptions) -> Iterator[_Job]:
    for number in range(options.recordings):
        path = options.out / "recordings" / f"camera-{number + 1}.mp4"
        seconds = options.minutes * 60
        yield _Job(path, "recording", number, options.seed, "", seconds, options.boxes)
    for number in range(options.quiet_recordings):
        path = options.out / "recordings" / f"quiet-{number + 1}.mp4"
        yield _Job(path, "quiet", number, options.seed, "", options.minutes * 60, options.boxes)


def _film_all(jobs: Sequence[_Job], processes: int, quiet: bool) -> _Intervals:
    columns = (TextColumn("scenes"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # Start with the longest files, so that no process works alone on a long file at the end.
    ordered = sorted(jobs, key=lambda job: -job.seconds)
    with Progress(*columns, disable=quiet or not shows_progress()) as progress:
        task = progress.add_task("scenes", total=len(jobs))
        intervals = {}
        for path, found in _results(ordered, processes):
            intervals[path] = found
            progress.advance(task)
    return intervals


def _results(jobs: Sequence[_Job], processes: int) -> Iterator[tuple[Path, tuple[Interval, ...]]]:
    if processes == 1 or len(jobs) < 2:
        yield from map(_film_job, jobs)
        return
    with multiprocessing.get_context("spawn").Pool(min(processes, len(jobs))) as pool:
        yield from pool.imap_unordered(_film_job, jobs)


def _film_job(job: _Job) -> tuple[Path, tuple[Interval, ...]]:
    cv2.setNumThreads(1)  # there is a process per core already
    rng = np.random.default_rng([job.seed, _KIND_KEYS[job.kind], job.number])
    if job.kind == "clip":
        script = clip_script(job.label, rng)
    elif job.kind == "gesture":
        script = gesture_script(job.label, rng)
    elif job.kind == "recording":
        script = recording_script(job.seconds, rng)
    else:
        script = quiet_script(job.seconds, rng)
    with replaced_file(job.path) as partial:
        film(script, partial, rng)
    if job.boxes:
        write_boxes(script, boxes_path(job.path))
    return job.path, script.intervals


def _write_manifest(folder: Path, clips: Sequence[_Job]) -> None:
    rows = [[job.path.relative_to(folder).as_posix(), job.label] for job in clips]
    _write_csv(folder / "manifest.csv", ["path", "label"], rows)


def _write_truth(folder: Path, recordings: Sequence[_Job], intervals: _Intervals) -> None:
    truth = []
    segments = []
    for job in recordings:
        actions = intervals[job.path]
        truth += [_interval_row(job, action) for action in actions]
        if job.kind == "quiet":
            truth.append([job.path.name, BACKGROUND, "", ""])
        segments += [_interval_row(job, part) for part in training_segments(actions, job.seconds)]
    _write_csv(folder / "truth.csv", _INTERVAL_COLUMNS, truth)
    _write_csv(folder / "segments.csv", _INTERVAL_COLUMNS, segments)


def _interval_row(job: _Job, interval: Interval) -> list[str]:
    times = [f"{interval.start_seconds:.3f}", f"{interval.end_seconds:.3f}"]
    return [job.path.name, interval.label, *times]


def _write_summary(options: ScenesOptions, clips: int, recordings: int) -> None:
    facts: dict[str, Any] = {
        "seed": options.seed,
        "clips": clips,
        "recordings": recordings - options.quiet_recordings,
        "quiet_recordings": options.quiet_recordings,
        "recording_minutes": options.minutes,
        "labels": _labels(options),
        "clips_per_interaction": options.clips_per_interaction,
        "clips_per_gesture": options.clips_per_gesture,
        "versions": {"av": av.__version__, "numpy": np.__version__, "opencv": cv2.__version__},
    }
    with replaced_file(options.out / "scenes.json") as partial:
        partial.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def _labels(options: ScenesOptions) -> list[str]:
    interactions = INTERACTIONS if options.clips_per_interaction else ()
    return [*LABELS, *interactions, *(GESTURES if options.clips_per_gesture else ())]


def _write_csv(path: Path, header: list[str], rows: Iterable[list[str]]) -> None:
    with replaced_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
