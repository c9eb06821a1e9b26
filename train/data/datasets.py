"""Manifests from data sets as they are distributed: UCF101, HMDB51, Something-Something V2,
Kinetics-400, and a plain folder per class.

Formats: UCF101 `classInd.txt`, `trainlist0N.txt`, `testlist0N.txt`; HMDB51
    `<class>_test_split<N>.txt` (1 trains, 2 tests, 0 is unused);
Something-Something V2 `labels.json`, `train.json`, `validation.json` (templates in square
brackets); Kinetics CSV with `label,youtube_id, time_start,time_end,split`.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from configs import DataError

__all__ = [
    "DATASETS",
    "Dataset",
    "DatasetName",
    "ListedVideo",
    "mirrored_labels",
    "read_dataset",
    "swap_sides",
    "write_manifests",
]

DatasetName = Literal["folder", "ucf101", "hmdb51", "something-something-v2", "kinetics-400"]
DATASETS: tuple[DatasetName, ...] = (
    "folder",
    "ucf101",
    "hmdb51",
    "something-something-v2",
    "kinetics-400",
)
_VIDEO_ENDINGS = (
    ".avi",
    ".mp4",
    ".mkv",
    ".webm",
    ".mov",
    ".m4v",
    ".mpg",
    ".mpeg",
    ".ts",
    ".wmv",
    ".flv",
    ".3gp",
)


@dataclasses.dataclass(frozen=True)
class ListedVideo:
    """One video of a data set: where it should lie, its label, and which part of the set it is
    in.
    """

    path: Path
    label: str
    part: Literal["train", "validation"]


@dataclasses.dataclass(frozen=True)
class Dataset:
    """The videos of a data set and its labels in their official order."""

    labels: tuple[str, ...]
    videos: tuple[ListedVideo, ...]


def read_dataset(
    name: DatasetName,
    videos: Path,
    annotations: Path | None = None,
    *,
    split: int = 1,
    folds: int = 5,
    group: str | None = None,
) -> Dataset:
    """Read a data set's official lists, or a folder per class.

    Args:
        videos: the folder of the videos.
        annotations: the folder of the official files; not for `folder`.
        split: the official split of UCF101 and HMDB51 (1 to 3); for `folder` which of the folds is
            held out (from 1).
        folds: for `folder`: into how many parts the groups are dealt.
        group: for `folder`: a pattern whose first group, searched in a file's name, names what must
            stay together, such as a recording.

    Raises:
        DataError: a file is missing or malformed; the message names it and the line.
    """
    if not videos.is_dir():
        raise DataError(f"no folder of videos: {videos}")
    if name == "folder":
        return _folder(videos, split, folds, group)
    if annotations is None or not annotations.is_dir():
        raise DataError(
            f"{name} needs the folder of its official lists (--annotations), got {annotations}"
        )
    readers = {
        "ucf101": _ucf101,
        "hmdb51": _hmdb51,
        "something-something-v2": _something,
        "kinetics-400": _kinetics,
    }
    return readers[name](videos, annotations, split)


def mirrored_labels(labels: Sequence[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Which labels a mirror turns into which, by the words left and right, and which name a side
    but have no counterpart.
    """
    known = set(labels)
    pairs = {}
    alone = []
    for label in labels:
        other = swap_sides(label)
        if other == label:
            continue
        if other in known:
            pairs[label] = other
        else:
            alone.append(label)
    return pairs, tuple(alone)


def write_manifests(dataset: Dataset, out: Path) -> list[ListedVideo]:
    """Write `train.csv`, `validation.csv` and `data.yaml`, the matching `data` section of a
    configuration.

    Videos that are not there are left out.

    Returns:
        The videos that are missing.

    Raises:
        DataError: a part has no videos at all.
    """
    missing = [video for video in dataset.videos if not video.path.is_file()]
    absent = set(missing)
    out.mkdir(parents=True, exist_ok=True)
    section: dict[str, Any] = {}
    for part in ("train", "validation"):
        there = [video for video in dataset.videos if video.part == part and video not in absent]
        if not there:
            first = next(
                (str(video.path) for video in missing if video.part == part), "none is listed"
            )
            raise DataError(f"no video of the {part} part was found (first looked for: {first})")
        path = out / f"{part}.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "label"])
            writer.writerows((os.path.relpath(video.path, out), video.label) for video in there)
        section[part] = str(path)
    pairs, alone = mirrored_labels(dataset.labels)
    section |= {"labels": list(dataset.labels), "flip_labels": pairs, "no_flip_labels": list(alone)}
    text = yaml.safe_dump({"data": section}, sort_keys=False, allow_unicode=True, width=120)
    (out / "data.yaml").write_text(text, encoding="utf-8")
    return missing


def _folder(videos: Path, split: int, folds: int, group: str | None) -> Dataset:
    if not folds >= 2 or not 1 <= split <= folds:
        raise DataError(
            f"the held-out fold ({split}) must be one of 1 to {folds}, and there must be at least 2"
            " folds"
        )
    labels = tuple(
        sorted(path.name for path in videos.iterdir() if path.is_dir() and any(_videos_of(path)))
    )
    if len(labels) < 2:
        raise DataError(
            f"{videos} needs a folder of videos for each of at least two classes, found"
            f" {list(labels)}"
        )
    pattern = _pattern(group)
    found = [
        (path, label, _group_of(path, label, pattern))
        for label in labels
        for path in _videos_of(videos / label)
    ]
    # Dealt out in the order of a hash of their names: the same files make the same folds, in
    # whatever order a disk lists them.
    names = sorted(
        {name for _, _, name in found}, key=lambda name: hashlib.sha256(name.encode()).hexdigest()
    )
    if len(names) < folds:
        raise DataError(f"{len(names)} groups of videos cannot be dealt into {folds} folds")
    fold = {name: index % folds + 1 for index, name in enumerate(names)}
    return Dataset(
        labels,
        tuple(
            ListedVideo(path, label, "validation" if fold[name] == split else "train")
            for path, label, name in found
        ),
    )


def _videos_of(folder: Path) -> Iterator[Path]:
    return (
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in _VIDEO_ENDINGS and path.is_file()
    )


def _pattern(group: str | None) -> re.Pattern[str] | None:
    if group is None:
        return None
    try:
        pattern = re.compile(group)
    except re.error as error:
        raise DataError(
            f"the group pattern {group!r} is not a regular expression: {error}"
        ) from None
    if pattern.groups != 1:
        raise DataError(
            f"the group pattern {group!r} must have exactly one group in parentheses, it has"
            f" {pattern.groups}"
        )
    return pattern


def _group_of(path: Path, label: str, pattern: re.Pattern[str] | None) -> str:
    if pattern is None:
        return f"{label}/{path.name}"
    match = pattern.search(path.name)
    if match is None:
        raise DataError(f"the group pattern {pattern.pattern!r} finds nothing in {path.name!r}")
    return str(match[1])


def _ucf101(videos: Path, annotations: Path, split: int) -> Dataset:
    labels = [words[1] for _, words in _lines(annotations / "classInd.txt", 2)]
    listed = []
    for part, stem, columns in (("train", "trainlist", 2), ("validation", "testlist", 1)):
        path = annotations / f"{stem}{split:02d}.txt"
        for line, words in _lines(path, columns):
            label = words[0].partition("/")[0]
            if label not in labels:
                raise DataError(f"{path}, line {line}: {label!r} is not in classInd.txt")
            listed.append(ListedVideo(_either(videos, words[0], Path(words[0]).name), label, part))  # type: ignore[arg-type]
    return Dataset(tuple(labels), tuple(listed))


def _hmdb51(videos: Path, annotations: Path, split: int) -> Dataset:
    ending = f"_test_split{split}.txt"
    files = sorted(annotations.glob(f"*{ending}"), key=lambda path: path.name.removesuffix(ending))
    if not files:
        raise DataError(f"no files named <class>{ending} in {annotations}")
    listed = []
    parts = {"1": "train", "2": "validation"}
    for path in files:
        label = path.name.removesuffix(ending)
        for line, words in _lines(path, 2):
            if words[1] not in ("0", "1", "2"):
                raise DataError(f"{path}, line {line}: {words[1]!r} is not 0, 1 or 2")
            if words[1] in parts:
                found = _either(videos, f"{label}/{words[0]}", words[0])
                listed.append(ListedVideo(found, label, parts[words[1]]))  # type: ignore[arg-type]
    return Dataset(tuple(path.name.removesuffix(ending) for path in files), tuple(listed))


def _something(videos: Path, annotations: Path, _: int) -> Dataset:
    index = _json(_first(annotations, "labels.json", "something-something-v2-labels.json"))
    if not isinstance(index, dict):
        raise DataError(f"{annotations}: the labels file must map each label to its number")
    labels = sorted(index, key=lambda label: int(index[label]))
    listed = []
    for part in ("train", "validation"):
        path = _first(annotations, f"{part}.json", f"something-something-v2-{part}.json")
        for number, item in enumerate(_json(path)):
            label = re.sub(r"[\[\]]", "", str(item.get("template", "")))
            if label not in index:
                raise DataError(
                    f"{path}, entry {number}: template {item.get('template')!r} is not one of the"
                    " labels"
                )
            listed.append(
                ListedVideo(_either(videos, f"{item['id']}.webm", f"{item['id']}.mp4"), label, part)
            )
    return Dataset(tuple(labels), tuple(listed))


def _kinetics(videos: Path, annotations: Path, _: int) -> Dataset:
    listed = []
    labels = set()
    for part, names in (
        ("train", ("train.csv", "kinetics_train.csv")),
        ("validation", ("validate.csv", "val.csv", "validation.csv")),
    ):
        path = _first(annotations, *names)
        with path.open(newline="", encoding="utf-8") as file:
            for line, row in enumerate(csv.DictReader(file), 2):
                try:
                    label = row["label"].strip()
                    first, last = int(row["time_start"]), int(row["time_end"])
                    name = f"{row['youtube_id']}_{first:06d}_{last:06d}.mp4"
                except (KeyError, TypeError, ValueError, AttributeError):
                    raise DataError(
                        f"{path}, line {line}: needs label, youtube_id, time_start and time_end,"
                        f" got {dict(row)}"
                    ) from None
                labels.add(label)
                places = (f"{label}/{name}", f"{label.replace(' ', '_')}/{name}", name)
                found = _either(videos, *places, f"{part}/{label}/{name}")
                listed.append(ListedVideo(found, label, part))  # type: ignore[arg-type]
    return Dataset(tuple(sorted(labels)), tuple(listed))


def _either(videos: Path, *places: str) -> Path:
    """The first of the places people unpack to that is there, else the first."""
    return next(
        (videos / place for place in places if (videos / place).is_file()), videos / places[0]
    )


def _first(folder: Path, *names: str) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"none of {', '.join(names)} is in {folder}")


def _lines(path: Path, columns: int) -> Iterable[tuple[int, list[str]]]:
    """Number and words of each line that is not empty. The last columns are single words; the
    first may hold blanks.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f"no such list: {path}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not text: {error}") from None
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        words = line.strip().rsplit(maxsplit=columns - 1)
        if len(words) != columns:
            raise DataError(
                f"{path}, line {number}: {columns} columns expected, got {line.strip()!r}"
            )
        found.append((number, words))
    return found


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{path} is not JSON: {error}") from None


_SIDES: Mapping[str, str] = {"left": "right", "right": "left", "Left": "Right", "Right": "Left"}


def swap_sides(label: str) -> str:
    """The label with the words left and right exchanged: what a mirrored clip would show."""
    return re.sub(
        r"(?<![A-Za-z])(left|right|Left|Right)(?![A-Za-z])", lambda match: _SIDES[match[1]], label
    )
