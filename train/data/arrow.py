"""Writes each clip of a folder of videos forward and backward: the arrow of time as labels.

    OUT/clips/forward/<video>-<part>.mp4
    OUT/clips/backward/<video>-<part>.mp4
    OUT/train.csv, OUT/validation.csv, OUT/data.yaml

Both files of a clip hold the same decoded frames. The encoder codes every frame by itself and with
the same quantiser, so a frame decodes to the same pixels in both files: nothing in them but the
order of the frames tells the direction.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from configs import ConfigError, DataError, MediaError, readable, replaced_file, shows_progress
from model.media.container import naming_file
from model.media.conversion import RGBFrame
from model.media.video import grid_frames
from train.data.datasets import Dataset, ListedVideo, write_manifests
from train.data.datasets.class_folders import compile_group, deal_groups, group_of
from train.data.datasets.listing import LeftOut, list_videos
from train.data.manifest import ManifestEntry, read_manifest

__all__ = ["BACKWARD", "FORWARD", "ArrowOptions", "ArrowReport", "write_arrow"]

FORWARD = "forward"
BACKWARD = "backward"
_QUANTISER = 18
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class ArrowOptions:
    """The options of `write_arrow`.

    Attributes:
        source: folder of videos, searched with its folders, or a manifest; its labels are not used.
        out: folder to write.
        fps: frames per second of the clips.
        short_side: maximum length of the shorter side, in pixels; larger frames are scaled down.
        min_seconds, max_seconds: a longer video is cut into parts of at most `max_seconds`; what is
            shorter than `min_seconds` is left out.
        fold, folds: number of the held-out fold, from 1, and of all folds.
        group: regular expression with one group in parentheses, searched in file names; videos with
            the same text stay on the same side of the split. None treats videos separately.
        jobs: number of videos written at once; 0: one per core.

    Raises:
        ConfigError: a number is out of range.
    """

    source: Path
    out: Path
    fps: float = 15.0
    short_side: int = 256
    min_seconds: float = 1.0
    max_seconds: float = 4.0
    fold: int = 1
    folds: int = 5
    group: str | None = None
    jobs: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.fps <= 120:
            raise ConfigError(f"arrow: fps must be from 1 to 120, got {self.fps:g}")
        if not 32 <= self.short_side <= 2048:
            raise ConfigError(f"arrow: short side must be from 32 to 2048, got {self.short_side}")
        if not 0 < self.min_seconds <= self.max_seconds <= 60:
            raise ConfigError(
                "arrow: seconds must satisfy 0 < minimum <= maximum <= 60, got"
                f" {self.min_seconds:g} and {self.max_seconds:g}"
            )
        if not self.folds >= 2 or not 1 <= self.fold <= self.folds:
            raise ConfigError(
                f"arrow: the held-out fold ({self.fold}) must be one of 1 to {self.folds}, and"
                " there must be at least 2 folds"
            )
        if self.jobs < 0:
            raise ConfigError(f"arrow: jobs must be 0 or more, got {self.jobs}")


class ArrowReport(NamedTuple):
    """What was written: clips of both directions together, by part, and what was left out.

    `unreadable` and `too_short` name the videos without a clip.
    """

    train: int
    validation: int
    unreadable: tuple[Path, ...]
    too_short: tuple[Path, ...]


def write_arrow(options: ArrowOptions, *, quiet: bool = False) -> ArrowReport:
    """Write both directions of every clip, and the manifests for training.

    Raises:
        DataError: there are too few videos, or the group pattern does not match a file name.
        ConfigError: the folder cannot be written.
    """
    entries = _entries(options.source)
    pattern = compile_group(options.group)
    # Names inside the folder, so that the folds do not change when it is moved.
    folder = options.source if options.source.is_dir() else options.source.parent
    names = [os.path.relpath(entry.path, folder) for entry in entries]
    groups = [
        group_of(entry.path, name, pattern) for entry, name in zip(entries, names, strict=True)
    ]
    deal_groups(sorted(set(groups)), options.folds)  # too few are refused before the work
    try:
        for label in (FORWARD, BACKWARD):
            (options.out / "clips" / label).mkdir(parents=True, exist_ok=True)
        written = _write_all(entries, options, quiet)
    except OSError as error:
        raise ConfigError(
            f"arrow clips cannot be written to {options.out}: {error}; choose another --out or free"
            " space"
        ) from error
    with_clips = {group for group, clips in zip(groups, written, strict=True) if clips}
    fold_of = deal_groups(sorted(with_clips), options.folds)
    listed = [
        ListedVideo(path, label, "validation" if fold_of[group] == options.fold else "train")
        for group, clips in zip(groups, written, strict=True)
        for pair in clips or ()
        for label, path in pair
    ]
    write_manifests(Dataset((FORWARD, BACKWARD), tuple(listed)), options.out)
    parts = [video.part for video in listed]
    found = list(zip(entries, written, strict=True))
    return ArrowReport(
        train=parts.count("train"),
        validation=parts.count("validation"),
        unreadable=tuple(entry.path for entry, clips in found if clips is None),
        too_short=tuple(entry.path for entry, clips in found if clips == []),
    )


# The two files of a clip with their labels.
_Pair = tuple[tuple[str, Path], tuple[str, Path]]


def _entries(source: Path) -> list[ManifestEntry]:
    if source.is_dir():
        found = [ManifestEntry(path, "") for path in list_videos(source, LeftOut())]
    else:
        # A video that a manifest lists with several labels is needed once.
        listed = read_manifest(source).entries
        found = list(dict.fromkeys(dataclasses.replace(entry, label="") for entry in listed))
    if not found:
        raise DataError(f"no video below {readable(source)}")
    return found


def _write_all(
    entries: Sequence[ManifestEntry], options: ArrowOptions, quiet: bool
) -> list[list[_Pair] | None]:
    """Return the clips of each entry; None for an entry that cannot be read."""
    columns = (TextColumn("arrow"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        ThreadPoolExecutor(options.jobs or os.cpu_count() or 1) as pool,
        Progress(*columns, disable=quiet or not shows_progress()) as progress,
    ):
        task = progress.add_task("arrow", total=len(entries))
        results = []
        numbered = range(len(entries))
        for clips in pool.map(_write_video, entries, numbered, [options] * len(entries)):
            results.append(clips)
            progress.advance(task)
    return results


def _write_video(entry: ManifestEntry, number: int, options: ArrowOptions) -> list[_Pair] | None:
    try:
        with naming_file(entry.path):
            clips = enumerate(_clips(entry, options))
            return [_write_pair(clip, f"{number:05d}-{part:03d}", options) for part, clip in clips]
    except MediaError as error:
        _log.warning("left out: %s", error)
        return None


def _clips(entry: ManifestEntry, options: ArrowOptions) -> Iterator[list[RGBFrame]]:
    """Cut a video into clips that end at a jump in time, and drop those that are too short."""
    shortest = max(2, round(options.min_seconds * options.fps))
    longest = max(shortest, round(options.max_seconds * options.fps))
    clip: list[RGBFrame] = []
    for _, frame, restarted in grid_frames(
        entry.video,
        options.fps,
        start_seconds=entry.start_seconds,
        end_seconds=entry.end_seconds,
        short_side=options.short_side,
    ):
        changed = bool(clip) and frame.shape != clip[0].shape
        if restarted or changed or len(clip) == longest:
            if len(clip) >= shortest:
                yield clip
            clip = []
        clip.append(frame)
    if len(clip) >= shortest:
        yield clip


def _write_pair(clip: Sequence[RGBFrame], name: str, options: ArrowOptions) -> _Pair:
    forward, backward = (
        options.out / "clips" / label / f"{name}.mp4" for label in (FORWARD, BACKWARD)
    )
    _encode(clip, forward, options.fps)
    _encode(clip[::-1], backward, options.fps)
    return (FORWARD, forward), (BACKWARD, backward)


def _encode(frames_HWC: Sequence[RGBFrame], path: Path, fps: float) -> None:
    """Write an H.264 file in which every frame is coded by itself, with a fixed quantiser."""
    height, width = (side // 2 * 2 for side in frames_HWC[0].shape[:2])
    with replaced_file(path) as partial, av.open(str(partial), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.gop_size = 1
        stream.options = {"preset": "veryfast", "qp": str(_QUANTISER), "threads": "1"}
        for frame_HWC in frames_HWC:
            rows_and_columns = frame_HWC[:height, :width].copy()
            frame = av.VideoFrame.from_ndarray(rows_and_columns, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
