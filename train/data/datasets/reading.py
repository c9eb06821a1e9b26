"""Reads a data set in its original form, and writes the manifests that training reads."""

from __future__ import annotations

import csv
import dataclasses
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from configs import DataError, readable, replaced_file
from train.data.datasets.by_name import read_kth, read_ntu, read_weizmann
from train.data.datasets.class_folders import read_class_folders
from train.data.datasets.dataset import Dataset, ListedVideo, Part
from train.data.datasets.falls import read_le2i
from train.data.datasets.listing import is_present
from train.data.datasets.mirroring import mirrored_labels
from train.data.datasets.official import (
    read_hmdb51,
    read_jester,
    read_kinetics,
    read_something,
    read_ucf101,
)
from train.data.datasets.timed import read_ava_kinetics, read_charades

__all__ = ["DATASETS", "DatasetName", "read_dataset", "write_manifests"]

DatasetName = Literal[
    "folder",
    "ucf101",
    "hmdb51",
    "something-something-v1",
    "something-something-v2",
    "jester",
    "kinetics-400",
    "charades",
    "ava-kinetics",
    "ntu-60",
    "ntu-120",
    "kth",
    "weizmann",
    "le2i",
]
DATASETS: tuple[DatasetName, ...] = get_args(DatasetName)
_NTU_ACTIONS: Mapping[str, int] = {"ntu-60": 60, "ntu-120": 120}
_PARTS: tuple[Part, ...] = ("train", "validation")


def read_dataset(
    name: DatasetName,
    videos: Path,
    annotations: Path | None = None,
    *,
    split: int = 1,
    folds: int = 5,
    group: str | None = None,
) -> Dataset:
    """Read a public data set from its official lists, or a data set with one folder per class.

    Args:
        name: name of the data set; `folder` for one folder per class.
        videos: folder of the videos.
        annotations: folder of the official lists; not used for `folder`, `weizmann` and `le2i`. For
            NTU RGB+D, the folder of the list of action names, or None.
        split: number of the official split of UCF101, HMDB51, NTU RGB+D, KTH and Le2i; number of
            the held-out fold for `folder`, and of the held-out person for `weizmann`, from 1.
        folds: number of folds; only for `folder`.
        group: regular expression with one group in parentheses, searched in file names; files with
            the same text in this group, such as parts of one recording, stay in the same fold.
            Only for `folder`.

    Raises:
        DataError: a file is missing or malformed; the message names it and the line.
    """
    if not videos.is_dir():
        raise DataError(f"no folder of videos: {readable(videos)}")
    if name == "folder":
        return read_class_folders(videos, fold=split, folds=folds, group=group)
    if name == "weizmann":
        return read_weizmann(videos, split)
    if name == "le2i":
        return read_le2i(videos, split)
    if annotations is None and name in ("ntu-60", "ntu-120"):
        return read_ntu(videos, None, split, actions=_NTU_ACTIONS[name])
    if annotations is None or not annotations.is_dir():
        raise DataError(
            f"{name} needs the folder of its official lists (--annotations), got {annotations}"
        )
    return _without_repetitions(_read_official(name, videos, annotations, split))


def _read_official(name: DatasetName, videos: Path, annotations: Path, split: int) -> Dataset:
    if name == "ucf101":
        return read_ucf101(videos, annotations, split)
    if name == "hmdb51":
        return read_hmdb51(videos, annotations, split)
    if name == "something-something-v2":
        return read_something(videos, annotations)
    if name == "kinetics-400":
        return read_kinetics(videos, annotations)
    if name == "charades":
        return read_charades(videos, annotations)
    if name == "ava-kinetics":
        return read_ava_kinetics(videos, annotations)
    if name == "kth":
        return read_kth(videos, annotations, split)
    if name in ("ntu-60", "ntu-120"):
        return read_ntu(videos, annotations, split, actions=_NTU_ACTIONS[name])
    prefix = "jester-v1" if name == "jester" else name
    return read_jester(videos, annotations, prefix)


def _without_repetitions(dataset: Dataset) -> Dataset:
    """Remove videos that are listed twice, and tell which are in both parts or have two labels."""
    videos = tuple(dict.fromkeys(dataset.videos))
    notices = list(dataset.notices)
    if len(videos) < len(dataset.videos):
        notices.append(f"left out {len(dataset.videos) - len(videos)} repetitions in the lists")
    parts = Counter(path for path, _ in {(video.path, video.part) for video in videos})
    # Of two videos that differ in nothing but their label, the span is the same too.
    spans = {dataclasses.replace(video, part="train") for video in videos}
    labels = Counter(dataclasses.replace(video, label="") for video in spans)
    shared = Counter(video.path for video, count in labels.items() if count > 1)
    for counts, least, problem in (
        (parts, 2, "in both parts"),
        (shared, 1, "listed with several labels"),
    ):
        found = [path for path, count in counts.items() if count >= least]
        if found:
            notices.append(
                f"warning: {len(found)} videos are {problem} (first: {readable(min(found))})"
            )
    return dataclasses.replace(dataset, videos=videos, notices=tuple(notices))


def write_manifests(
    dataset: Dataset, out: Path, *, image_fps: float | None = None
) -> list[ListedVideo]:
    """Write `train.csv`, `validation.csv` and `data.yaml` into a folder.

    `data.yaml` contains the `data` section for a training configuration. Missing videos are left
    out of the manifests.

    Args:
        image_fps: frame rate of videos that are folders of images; None: the data set's usual one.

    Returns:
        The missing videos.

    Raises:
        DataError: all videos of a part are missing.
    """
    missing = [video for video in dataset.videos if not is_present(video.path)]
    present = set(dataset.videos) - set(missing)
    out.mkdir(parents=True, exist_ok=True)
    section: dict[str, Any] = {}
    for part in _PARTS:
        videos = [video for video in dataset.videos if video.part == part]
        if not present.intersection(videos):
            first = next((readable(video.path) for video in videos), "none is listed")
            raise DataError(f"no video of the {part} part was found (first looked for: {first})")
        path = out / f"{part}.csv"
        listed = [video for video in videos if video in present]
        _write_manifest(path, listed, image_fps or dataset.image_fps)
        section[part] = str(path)
    pairs, alone = mirrored_labels(dataset.labels)
    section |= {"labels": list(dataset.labels), "flip_labels": pairs, "no_flip_labels": list(alone)}
    text = yaml.safe_dump({"data": section}, sort_keys=False, allow_unicode=True, width=120)
    with replaced_file(out / "data.yaml") as partial:
        partial.write_text(text, encoding="utf-8")
    return missing


def _write_manifest(path: Path, videos: Sequence[ListedVideo], image_fps: float) -> None:
    """Write a manifest; names that are not UTF-8 keep their bytes.

    Videos outside of the manifest's folder have absolute paths, all others relative ones. The
    manifest has the columns of times if a label belongs to a part of a video, and the column `fps`
    if a video is a folder of images.
    """
    folders = {path for path in {video.path for video in videos} if path.is_dir()}
    has_times = any(video.start_seconds is not None for video in videos)
    with (
        replaced_file(path) as partial,
        partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file)
        folder = Path(os.path.abspath(path.parent))  # noqa: PTH100 - links stay
        times = ["start_seconds", "end_seconds"] if has_times else []
        writer.writerow(["path", "label", *times, *(["fps"] if folders else [])])
        for video in videos:
            absolute = Path(os.path.abspath(video.path))  # noqa: PTH100 - links stay
            inside = absolute.is_relative_to(folder)
            row: list[object] = [absolute.relative_to(folder) if inside else absolute, video.label]
            row += [_cell(video.start_seconds), _cell(video.end_seconds)] if has_times else []
            row += [f"{image_fps:g}" if video.path in folders else ""] if folders else []
            writer.writerow(row)


def _cell(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.3f}".rstrip("0").rstrip(".")
