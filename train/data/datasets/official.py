"""Reads the official lists of public data sets, in these formats.
UCF101: `classInd.txt`, `trainlist0N.txt`, `testlist0N.txt`.
HMDB51: `<class>_test_split<N>.txt`; 1 marks training videos, 2 test videos, 0 unused videos.
Something-Something V2: `labels.json`, `train.json`, `validation.json`, with templates in brackets.
Kinetics-400: CSV files with `label,youtube_id,time_start,time_end,split`.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from configs import DataError
from train.data.datasets.dataset import Dataset, ListedVideo, Part

__all__ = ["read_hmdb51", "read_kinetics", "read_something", "read_ucf101"]

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
    labels = [words[1] for _, words in _read_columns(annotations / "classInd.txt", 2)]
    listed = []
    for part, stem, columns in _UCF101_LISTS:
        path = annotations / f"{stem}{split:02d}.txt"
        for line, words in _read_columns(path, columns):
            label = words[0].partition("/")[0]
            if label not in labels:
                raise DataError(f"{path}, line {line}: {label!r} is not in classInd.txt")
            video = _first_present(videos, words[0], Path(words[0]).name)
            listed.append(ListedVideo(video, label, part))
    return Dataset(tuple(labels), tuple(listed))


def read_hmdb51(videos: Path, annotations: Path, split: int) -> Dataset:
    """Read the lists of HMDB51; `split` is 1 to 3.

    Raises:
        DataError: there are no lists of this split, or one is malformed.
    """
    ending = f"_test_split{split}.txt"
    files = {path.name.removesuffix(ending): path for path in annotations.glob(f"*{ending}")}
    if not files:
        raise DataError(f"no files named <class>{ending} in {annotations}")
    listed = []
    for label, path in sorted(files.items()):
        for line, words in _read_columns(path, 2):
            name, number = words
            if number not in ("0", "1", "2"):
                raise DataError(
                    f"{path}, line {line}: the split number must be 0, 1 or 2, got {number!r}"
                )
            if number in _HMDB51_PARTS:
                video = _first_present(videos, f"{label}/{name}", name)
                listed.append(ListedVideo(video, label, _HMDB51_PARTS[number]))
    return Dataset(tuple(sorted(files)), tuple(listed))


def read_something(videos: Path, annotations: Path) -> Dataset:
    """Read the lists of Something-Something V2.

    Raises:
        DataError: a list is missing or malformed.
    """
    index = _read_json(
        _first_list(annotations, "labels.json", "something-something-v2-labels.json")
    )
    if not isinstance(index, dict):
        raise DataError(f"{annotations}: the labels file must map each label to its number")
    listed = []
    for part in _PARTS:
        path = _first_list(annotations, f"{part}.json", f"something-something-v2-{part}.json")
        for number, item in enumerate(_read_json(path)):
            label = re.sub(r"[\[\]]", "", str(item.get("template", "")))
            if label not in index:
                raise DataError(
                    f"{path}, entry {number}: template {item.get('template')!r} is not one of the"
                    " labels"
                )
            video = _first_present(videos, f"{item['id']}.webm", f"{item['id']}.mp4")
            listed.append(ListedVideo(video, label, part))
    labels = sorted(index, key=lambda label: int(index[label]))
    return Dataset(tuple(labels), tuple(listed))


def read_kinetics(videos: Path, annotations: Path) -> Dataset:
    """Read the lists of Kinetics-400.

    Raises:
        DataError: a list is missing or malformed.
    """
    listed = []
    for part, names in _KINETICS_LISTS:
        path = _first_list(annotations, *names)
        with path.open(newline="", encoding="utf-8") as file:
            for line, row in enumerate(csv.DictReader(file), 2):
                listed.append(_kinetics_video(videos, part, row, where=f"{path}, line {line}"))
    labels = sorted({video.label for video in listed})
    return Dataset(tuple(labels), tuple(listed))


def _kinetics_video(videos: Path, part: Part, row: Mapping[str, Any], *, where: str) -> ListedVideo:
    try:
        label = row["label"].strip()
        start = int(row["time_start"])
        end = int(row["time_end"])
        name = f"{row['youtube_id']}_{start:06d}_{end:06d}.mp4"
    except (KeyError, TypeError, ValueError, AttributeError):
        raise DataError(
            f"{where}: needs label, youtube_id, time_start and time_end, got {dict(row)}"
        ) from None
    places = (
        f"{label}/{name}",
        f"{label.replace(' ', '_')}/{name}",
        name,
        f"{part}/{label}/{name}",
    )
    return ListedVideo(_first_present(videos, *places), label, part)


def _first_present(videos: Path, *places: str) -> Path:
    """Return the first of `places` that is a file in `videos`; without one, the first place."""
    present = (videos / place for place in places if (videos / place).is_file())
    return next(present, videos / places[0])


def _first_list(folder: Path, *names: str) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"none of {', '.join(names)} is in {folder}")


def _read_columns(path: Path, columns: int) -> list[tuple[int, list[str]]]:
    """Return the line number and the columns of each line that is not empty.

    The first column may contain blanks; each of the other columns is one word.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f"no such list: {path}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not text: {error}") from None
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.strip().rsplit(maxsplit=columns - 1)
        if line.strip() and len(words) != columns:
            raise DataError(
                f"{path}, line {number}: {columns} columns expected, got {line.strip()!r}"
            )
        if words:
            found.append((number, words))
    return found


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{path} is not JSON: {error}") from None
