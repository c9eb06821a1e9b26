"""Reads a data set in its original form, and writes the manifests that training reads."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from configs import DataError, replaced_file
from train.data.datasets.class_folders import read_class_folders
from train.data.datasets.dataset import Dataset, ListedVideo, Part
from train.data.datasets.mirroring import mirrored_labels
from train.data.datasets.official import read_hmdb51, read_kinetics, read_something, read_ucf101

__all__ = ["DATASETS", "DatasetName", "read_dataset", "write_manifests"]

DatasetName = Literal["folder", "ucf101", "hmdb51", "something-something-v2", "kinetics-400"]
DATASETS: tuple[DatasetName, ...] = (
    "folder",
    "ucf101",
    "hmdb51",
    "something-something-v2",
    "kinetics-400",
)
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
        annotations: folder of the official lists; not used for `folder`.
        split: number of the official split of UCF101 and HMDB51 (1 to 3); for `folder`, number of
            the held-out fold, from 1.
        folds: number of folds; only for `folder`.
        group: regular expression with one group in parentheses, searched in file names; files with
            the same text in this group, such as parts of one recording, stay in the same fold.
            Only for `folder`.

    Raises:
        DataError: a file is missing or malformed; the message names it and the line.
    """
    if not videos.is_dir():
        raise DataError(f"no folder of videos: {videos}")
    if name == "folder":
        return read_class_folders(videos, fold=split, folds=folds, group=group)
    if annotations is None or not annotations.is_dir():
        raise DataError(
            f"{name} needs the folder of its official lists (--annotations), got {annotations}"
        )
    if name == "ucf101":
        return read_ucf101(videos, annotations, split)
    if name == "hmdb51":
        return read_hmdb51(videos, annotations, split)
    if name == "something-something-v2":
        return read_something(videos, annotations)
    return read_kinetics(videos, annotations)


def write_manifests(dataset: Dataset, out: Path) -> list[ListedVideo]:
    """Write `train.csv`, `validation.csv` and `data.yaml` into a folder.

    `data.yaml` contains the `data` section for a training configuration. Missing videos are left
    out of the manifests.

    Returns:
        The missing videos.

    Raises:
        DataError: all videos of a part are missing.
    """
    missing = [video for video in dataset.videos if not video.path.is_file()]
    present = set(dataset.videos) - set(missing)
    out.mkdir(parents=True, exist_ok=True)
    section: dict[str, Any] = {}
    for part in _PARTS:
        videos = [video for video in dataset.videos if video.part == part]
        if not present.intersection(videos):
            first = next((str(video.path) for video in videos), "none is listed")
            raise DataError(f"no video of the {part} part was found (first looked for: {first})")
        path = out / f"{part}.csv"
        _write_manifest(path, [video for video in videos if video in present])
        section[part] = str(path)
    pairs, alone = mirrored_labels(dataset.labels)
    section |= {"labels": list(dataset.labels), "flip_labels": pairs, "no_flip_labels": list(alone)}
    text = yaml.safe_dump({"data": section}, sort_keys=False, allow_unicode=True, width=120)
    with replaced_file(out / "data.yaml") as partial:
        partial.write_text(text, encoding="utf-8")
    return missing


def _write_manifest(path: Path, videos: Sequence[ListedVideo]) -> None:
    with replaced_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label"])
        writer.writerows(
            (os.path.relpath(video.path, path.parent), video.label) for video in videos
        )
