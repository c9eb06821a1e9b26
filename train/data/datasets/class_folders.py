"""Reads a data set that has one folder of videos per class, and divides it into folds."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path

from configs import DataError, clean_label, readable
from train.data.datasets.dataset import Dataset, ListedVideo
from train.data.datasets.listing import LeftOut, identity, list_videos, listed_folders

__all__ = ["compile_group", "deal_groups", "group_of", "read_class_folders"]


def read_class_folders(videos: Path, *, fold: int, folds: int, group: str | None) -> Dataset:
    """Read one folder per class; the videos of one fold become the validation part.

    Args:
        videos: folder that contains the class folders. A folder of numbered images within a class
            folder is one video. Hidden names and files of the system are left out.
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
    pattern = compile_group(group)
    left_out = LeftOut()
    folders = {folder: list_videos(folder, left_out) for folder in listed_folders(videos, left_out)}
    for folder in [folder for folder, found in folders.items() if not found]:
        left_out.add("class folders without videos left out", folder)
        del folders[folder]
    labels = {folder: clean_label(folder.name) for folder in folders}
    _check_labels(videos, labels, left_out)
    found = [
        (path, labels[folder], group_of(path, labels[folder], pattern))
        for folder in folders
        for path in folders[folder]
    ]
    fold_of = deal_groups(sorted({name for _, _, name in found}), folds)
    return Dataset(
        tuple(sorted(set(labels.values()))),
        tuple(
            ListedVideo(path, label, "validation" if fold_of[name] == fold else "train")
            for path, label, name in found
        ),
        (*_similar_names(labels), *_shared_videos(found), *left_out.lines()),
    )


def _check_labels(videos: Path, labels: Mapping[Path, str], left_out: LeftOut) -> None:
    if len(set(labels.values())) < 2:
        noted = "".join(f"; {line}" for line in left_out.lines())
        raise DataError(
            f"{readable(videos)} needs a folder of videos for each of at least two classes, found"
            f" {sorted(set(labels.values()))}{noted}"
        )
    empty = next((folder for folder, label in labels.items() if not label), None)
    if empty is not None:
        raise DataError(f"the class folder {empty.name!r} has no name that can be a label")


def _similar_names(labels: Mapping[Path, str]) -> list[str]:
    """Describe folders whose names cannot be told apart, or differ from the label or by case."""
    notices = []
    names: dict[str, list[str]] = {}
    for folder, label in labels.items():
        names.setdefault(label, []).append(folder.name)
    for label, same in names.items():
        shown = ", ".join(ascii(readable(name)) for name in same)
        if len(same) > 1:
            notices.append(
                f"warning: the class folders {shown} differ only in blanks, control characters or"
                f" Unicode form; they become one label, {label!r}"
            )
        elif same != [label] and unicodedata.normalize("NFC", same[0]) != label:
            notices.append(f"the class folder {shown} becomes the label {label!r}")
    by_case: dict[str, list[str]] = {}
    for label in sorted(names):
        by_case.setdefault(label.casefold(), []).append(label)
    return notices + [
        f"warning: the labels {', '.join(map(repr, alike))} differ only in upper and lower case;"
        " rename the folders if they are one class"
        for alike in by_case.values()
        if len(alike) > 1
    ]


def _shared_videos(found: Sequence[tuple[Path, str, str]]) -> list[str]:
    labels: dict[Hashable, set[str]] = {}
    for path, label, _ in found:
        labels.setdefault(identity(path), set()).add(label)
    shared = [path for path, _, _ in found if len(labels[identity(path)]) > 1]
    if not shared:
        return []
    return [
        f"warning: links put {len(shared)} videos into several classes (first:"
        f" {readable(shared[0])})"
    ]


def deal_groups(groups: Sequence[str], folds: int) -> dict[str, int]:
    """Return the fold number, from 1, of each group, assigned in the order of a hash of its name.

    The order in which the disk lists the files therefore does not change the folds.

    Raises:
        DataError: there are fewer groups than folds.
    """
    if len(groups) < folds:
        raise DataError(f"{len(groups)} groups of videos cannot be dealt into {folds} folds")
    ordered = sorted(groups, key=_hash_of)
    return {name: index % folds + 1 for index, name in enumerate(ordered)}


def _hash_of(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()


def compile_group(group: str | None) -> re.Pattern[str] | None:
    """Compile a pattern that has one group in parentheses; None stays None.

    Raises:
        DataError: the text is not a regular expression, or has another number of groups.
    """
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


def group_of(path: Path, label: str, pattern: re.Pattern[str] | None) -> str:
    """Return the text that the pattern's group finds in a file name; without a pattern, a name.

    Raises:
        DataError: the pattern does not match the file name.
    """
    if pattern is None:
        return f"{label}/{path.name}"
    match = pattern.search(path.name)
    if match is None:
        raise DataError(
            f"the group pattern {pattern.pattern!r} finds nothing in {readable(path.name)!r}"
        )
    return str(match[1])
