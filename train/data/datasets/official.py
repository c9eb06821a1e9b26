"""Reads the official lists of public data sets, in these formats.
UCF101: `classInd.txt`, `trainlist0N.txt`, `testlist0N.txt`.
HMDB51: `<class>_test_split<N>.txt`; 1 marks training videos, 2 test videos, 0 unused videos.
Something-Something V2: `labels.json`, `train.json`, `validation.json`, with templates in brackets.
Jester, Something-Something V1: `<set>-labels.csv`, `<set>-train.csv`, `<set>-validation.csv`, with
`video;label`.
Kinetics-400: CSV files with `label,youtube_id,time_start,time_end,split`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from configs import DataError, clean_label, lines_of, quoted, read_text, readable
from train.data.datasets.dataset import Dataset, ListedVideo, Part
from train.data.datasets.lists import (
    first_list,
    first_present,
    read_columns,
    read_json,
    read_table,
)
from train.data.datasets.litter import is_hidden

__all__ = ["read_hmdb51", "read_jester", "read_kinetics", "read_something", "read_ucf101"]

_UCF101_LISTS: tuple[tuple[Part, str, int], ...] = (
    ("train", "trainlist", 2),
    ("validation", "testlist", 1),
)
_HMDB51_PARTS: Mapping[str, Part] = {"1": "train", "2": "validation"}
_KINETICS_LISTS: tuple[tuple[Part, tuple[str, ...]], ...] = (
    ("train", ("train.csv", "kinetics_train.csv")),
    ("validation", ("validate.csv", "val.csv", "validation.csv")),
)
_PARTS: tuple[Part, ...] = ("train", "validation")


def read_ucf101(videos: Path, annotations: Path, split: int) -> Dataset:
    """Read the lists of UCF101; `split` is 1 to 3.

    Raises:
        DataError: a list is missing or malformed.
    """
    index = read_columns(annotations / "classInd.txt", 2, number_first=True)
    labels = [clean_label(words[1]) for _, words in index]
    listed = []
    for part, stem, columns in _UCF101_LISTS:
        path = annotations / f"{stem}{split:02d}.txt"
        for line, words in read_columns(path, columns):
            name = words[0].replace("\\", "/")
            label = clean_label(name.partition("/")[0])
            where = f"{readable(path)}, line {line}"
            if label not in labels:
                raise DataError(f"{where}: {quoted(label)} is not in classInd.txt")
            video = first_present(videos, name, Path(name).name, where=where)
            listed.append(ListedVideo(video, label, part))
    return Dataset(tuple(labels), tuple(listed), image_fps=25.0)


def read_hmdb51(videos: Path, annotations: Path, split: int) -> Dataset:
    """Read the lists of HMDB51; `split` is 1 to 3.

    Raises:
        DataError: there are no lists of this split, or one is malformed.
    """
    ending = f"_test_split{split}.txt"
    paths = [path for path in annotations.glob(f"*{ending}") if not is_hidden(path.name)]
    files = {path.name.removesuffix(ending): path for path in paths}
    if not files:
        raise DataError(f"no files named <class>{ending} in {readable(annotations)}")
    listed = []
    for label, path in sorted(files.items()):
        for line, words in read_columns(path, 2):
            name, number = words
            where = f"{readable(path)}, line {line}"
            if number not in ("0", "1", "2"):
                raise DataError(
                    f"{where}: the split number must be 0, 1 or 2, got {quoted(number)}"
                )
            if number in _HMDB51_PARTS:
                video = first_present(videos, f"{label}/{name}", name, where=where)
                listed.append(ListedVideo(video, clean_label(label), _HMDB51_PARTS[number]))
    labels = tuple(sorted(map(clean_label, files)))
    return Dataset(labels, tuple(listed), image_fps=30.0)


def read_something(videos: Path, annotations: Path) -> Dataset:
    """Read the lists of Something-Something V2.

    Raises:
        DataError: a list is missing or malformed.
    """
    path = first_list(annotations, "labels.json", "something-something-v2-labels.json")
    index = read_json(path)
    if not isinstance(index, dict) or not all(map(_is_number, index.values())):
        raise DataError(f"{readable(path)}: the file must map each label to its number")
    labels = [clean_label(label) for label in sorted(index, key=lambda label: int(index[label]))]
    listed = []
    for part in _PARTS:
        path = first_list(annotations, f"{part}.json", f"something-something-v2-{part}.json")
        items = read_json(path)
        if not isinstance(items, list):
            raise DataError(f"{readable(path)}: the file must be a list of videos")
        for number, item in enumerate(items):
            where = f"{readable(path)}, entry {number}"
            if not isinstance(item, dict) or "id" not in item:
                raise DataError(f"{where}: needs id and template, got {quoted(item)}")
            label = clean_label(re.sub(r"[\[\]]", "", str(item.get("template", ""))))
            if label not in labels:
                raise DataError(
                    f"{where}: template {quoted(item.get('template'))} is not one of the labels"
                )
            names = (f"{item['id']}.webm", f"{item['id']}.mp4")
            video = first_present(videos, *names, where=where)
            listed.append(ListedVideo(video, label, part))
    return Dataset(tuple(labels), tuple(listed), image_fps=12.0)


def read_jester(videos: Path, annotations: Path, prefix: str = "jester-v1") -> Dataset:
    """Read the lists of Jester or of Something-Something V1, whose videos are folders of images.

    Args:
        prefix: beginning of the names of the lists; names without it are accepted too.

    Raises:
        DataError: a list is missing or malformed.
    """
    path = first_list(annotations, f"{prefix}-labels.csv", "labels.csv")
    lines = lines_of(read_text(path, "list", DataError))
    labels = [clean_label(line) for line in lines if line.strip()]
    listed = []
    for part in _PARTS:
        path = first_list(annotations, f"{prefix}-{part}.csv", f"{part}.csv")
        for number, line in enumerate(lines_of(read_text(path, "list", DataError)), 1):
            name, _, label = (cell.strip() for cell in line.partition(";"))
            if not line.strip():
                continue
            where = f"{readable(path)}, line {number}"
            if clean_label(label) not in labels:
                raise DataError(
                    f"{where}: a line is video;label with a label of {prefix}-labels.csv, got"
                    f" {quoted(line.strip())}"
                )
            video = first_present(videos, name, f"{name}.webm", f"{name}.mp4", where=where)
            listed.append(ListedVideo(video, clean_label(label), part))
    return Dataset(tuple(labels), tuple(listed), image_fps=12.0)


def read_kinetics(videos: Path, annotations: Path) -> Dataset:
    """Read the lists of Kinetics-400.

    Raises:
        DataError: a list is missing or malformed.
    """
    listed = []
    for part, names in _KINETICS_LISTS:
        path = first_list(annotations, *names)
        for line, row in read_table(path):
            listed.append(
                _kinetics_video(videos, part, row, where=f"{readable(path)}, line {line}")
            )
    labels = sorted({video.label for video in listed})
    return Dataset(tuple(labels), tuple(listed), image_fps=30.0)


def _is_number(value: object) -> bool:
    return str(value).isdecimal() and len(str(value)) < 10


def _kinetics_video(videos: Path, part: Part, row: Mapping[str, Any], *, where: str) -> ListedVideo:
    try:
        label = clean_label(row["label"])
        start = int(row["time_start"])
        end = int(row["time_end"])
        name = f"{row['youtube_id'].strip()}_{start:06d}_{end:06d}.mp4"
    except (KeyError, TypeError, ValueError, AttributeError):
        raise DataError(
            f"{where}: needs label, youtube_id, time_start and time_end, got {quoted(dict(row))}"
        ) from None
    places = (
        f"{label}/{name}",
        f"{label.replace(' ', '_')}/{name}",
        name,
        f"{part}/{label}/{name}",
    )
    return ListedVideo(first_present(videos, *places, where=where), label, part)
