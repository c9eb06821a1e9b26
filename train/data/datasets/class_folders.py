"""Reads a data set that has one folder of videos per class, and divides it into folds."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from configs import DataError
from train.data.datasets.dataset import Dataset, ListedVideo

__all__ = ["read_class_folders"]

_VIDEO_ENDINGS = {
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
}


def read_class_folders(videos: Path, *, fold: int, folds: int, group: str | None) -> Dataset:
    """Read one folder per class; the videos of one fold become the validation part.

    Args:
        videos: folder that contains the class folders.
        fold: number of the held-out fold, from 1.
        folds: number of folds.
        group: regular expression with one group in parentheses, searched in file names. Files with
            the same text in this group stay in the same fold. None treats files separately.

    Raises:
        DataError: there are too few classes or groups, or the pattern does not match a file name.
    """
    if not folds >= 2 or not 1 <= fold <= folds:
        raise DataError(
            f"the held-out fold ({fold}) must be one of 1 to {folds}, and there must be at least 2"
            " folds"
        )
    labels = _labels_of(videos)
    pattern = _compile(group)
    found = [
        (path, label, _group_of(path, label, pattern))
        for label in labels
        for path in _videos_of(videos / label)
    ]
    fold_of = _deal(sorted({name for _, _, name in found}), folds)
    return Dataset(
        labels,
        tuple(
            ListedVideo(path, label, "validation" if fold_of[name] == fold else "train")
            for path, label, name in found
        ),
    )


def _labels_of(videos: Path) -> tuple[str, ...]:
    folders = [path for path in videos.iterdir() if path.is_dir() and any(_videos_of(path))]
    labels = tuple(sorted(path.name for path in folders))
    if len(labels) < 2:
        raise DataError(
            f"{videos} needs a folder of videos for each of at least two classes, found"
            f" {list(labels)}"
        )
    return labels


def _videos_of(folder: Path) -> Iterator[Path]:
    return (
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in _VIDEO_ENDINGS and path.is_file()
    )


def _deal(groups: Sequence[str], folds: int) -> dict[str, int]:
    """Return the fold number, from 1, of each group, assigned in the order of a hash of its name.

    The order in which the disk lists the files therefore does not change the folds.
    """
    if len(groups) < folds:
        raise DataError(f"{len(groups)} groups of videos cannot be dealt into {folds} folds")
    ordered = sorted(groups, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    return {name: index % folds + 1 for index, name in enumerate(ordered)}


def _compile(group: str | None) -> re.Pattern[str] | None:
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
            f"the group pattern {group!r} must have exactly one group in parentheses, but it has"
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
