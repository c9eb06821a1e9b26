"""Reads public data sets that give the times of actions in longer videos.

Charades (prior.allenai.org/projects/charades): `Charades_v1_classes.txt` with `c092 <name>`, and
`Charades_v1_train.csv` and `Charades_v1_test.csv` with the columns `id`, `length` and `actions`:
`c092 11.90 21.20;c147 0.00 12.60`.

AVA and AVA-Kinetics (research.google.com/ava): an action list `*.pbtxt`, and lists without a header
with `video,timestamp,x1,y1,x2,y2,action[,person]`. A row labels one person at one key frame.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from configs import DataError, clean_label, lines_of, quoted, read_text, readable
from train.data.datasets.dataset import Dataset, ListedVideo, Part
from train.data.datasets.listing import LeftOut, list_videos
from train.data.datasets.lists import first_list, first_present, read_table

__all__ = ["read_ava_kinetics", "read_charades"]

_CHARADES_LISTS: tuple[tuple[Part, str], ...] = (
    ("train", "Charades_v1_train.csv"),
    ("validation", "Charades_v1_test.csv"),
)
_AVA_LISTS: tuple[tuple[Part, tuple[str, ...]], ...] = (
    ("train", ("kinetics_train_v1.0.csv", "ava_train_v2.2.csv", "ava_train_v2.1.csv")),
    ("validation", ("kinetics_val_v1.0.csv", "ava_val_v2.2.csv", "ava_val_v2.1.csv")),
)
_AVA_ACTION = re.compile(r'name:\s*"([^"]+)"\s*(?:label_id|id):\s*(\d+)')
_AVA_ACTIONS = 80
# Annotators saw 3 seconds around each key frame.
_AROUND_SECONDS = 1.5
# A clip of Kinetics: the video's identifier, and the seconds of the video that the clip shows.
_KINETICS_CLIP = re.compile(r"(.+)_(\d{6})_(\d{6})")


class _Span(NamedTuple):
    """An action in a video file, from a line of a list."""

    video: Path
    label: str
    start_seconds: float
    end_seconds: float


def read_charades(videos: Path, annotations: Path) -> Dataset:
    """Read the lists of Charades; its test list becomes the validation part.

    Several actions of a video may overlap in time; each becomes a line of its own. An action that
    ends after the video's listed length is cut there.

    Raises:
        DataError: a list is missing or malformed.
    """
    names = _charades_classes(first_list(annotations, "Charades_v1_classes.txt"))
    listed = []
    without = 0
    outside = 0
    for part, name in _CHARADES_LISTS:
        path = first_list(annotations, name)
        for line, row in read_table(path):
            where = f"{readable(path)}, line {line}"
            video, length, actions = _charades_row(row, where)
            without += not actions
            file = first_present(videos, f"{video}.mp4", where=where)
            for action in actions:
                code, start, end = _charades_action(action, where)
                if code not in names:
                    raise DataError(
                        f"{where}: the action {quoted(code)} is not in Charades_v1_classes.txt; use"
                        " the lists of one release"
                    )
                end = min(end, length)
                outside += end <= start
                if end > start:
                    listed.append(ListedVideo(file, names[code], part, start, end))
    notices = [f"left out {without} videos that list no action"] if without else []
    if outside:
        notices.append(f"left out {outside} actions that start after the end of their video")
    return Dataset(tuple(names.values()), tuple(listed), tuple(notices), image_fps=24.0)


def _charades_classes(path: Path) -> dict[str, str]:
    names = {}
    for number, line in enumerate(lines_of(read_text(path, "list", DataError)), 1):
        code, _, name = line.strip().partition(" ")
        if line.strip() and not (re.fullmatch(r"c\d{3}", code) and name.strip()):
            raise DataError(
                f"{readable(path)}, line {number}: a line is a code and a name, such as `c000"
                f" Holding some clothes`, got {quoted(line.strip())}"
            )
        if line.strip():
            names[code] = clean_label(name)
    return names


def _charades_row(row: Mapping[str, object], where: str) -> tuple[str, float, list[str]]:
    try:
        video, actions = str(row["id"] or "").strip(), str(row["actions"] or "")
        length = float(str(row["length"]))
    except (KeyError, ValueError):
        video, actions, length = "", "", math.nan
    if not video or not length > 0:
        raise DataError(
            f"{where}: needs id, length in seconds and actions, got {quoted(dict(row))}; use the"
            " file as it is distributed"
        )
    return video, length, [each.strip() for each in actions.split(";") if each.strip()]


def _charades_action(text: str, where: str) -> tuple[str, float, float]:
    words = text.split()
    start, end = (_seconds(word) for word in words[1:]) if len(words) == 3 else (None, None)
    if start is None or end is None or end <= start:
        raise DataError(
            f"{where}: an action is a code, its start and a later end in seconds, such as `c092"
            f" 11.90 21.20`, got {quoted(text)}; correct or remove it"
        )
    return words[0], start, end


def read_ava_kinetics(videos: Path, annotations: Path) -> Dataset:
    """Read the lists of AVA-Kinetics and of AVA that are in a folder.

    The boxes are dropped: an action of any person becomes an action of the whole frame, from 1.5
    seconds before its key frame to 1.5 seconds after it. Where such spans of one action overlap,
    they become one. Videos are files `<video>.<extension>`, or clips of Kinetics,
    `<video>_<start>_<end>.<extension>`, in any folder.

    Raises:
        DataError: a list is missing or malformed.
    """
    action_list = next(iter(sorted(annotations.glob("*action_list*.pbtxt"))), None)
    if action_list is None:
        raise DataError(
            f"no action list in {readable(annotations)}; put ava_action_list_v2.2.pbtxt there"
        )
    labels = _ava_labels(action_list)
    files = _VideoFiles(videos)
    found: list[ListedVideo] = []
    notes = _AvaNotes()
    for part, names in _AVA_LISTS:
        paths = [annotations / name for name in names if (annotations / name).is_file()]
        if not paths:
            raise DataError(f"none of {', '.join(names)} is in {readable(annotations)}")
        for path in paths:
            spans = list(_ava_spans(path, labels, files, notes))
            found += [
                ListedVideo(span.video, span.label, part, span.start_seconds, span.end_seconds)
                for span in _joined(spans)
            ]
    ordered = [labels[number] for number in sorted(labels)]
    return Dataset(tuple(ordered), tuple(found), notes.lines(), image_fps=30.0)


class _AvaNotes:
    """Counts what the conversion loses."""

    def __init__(self) -> None:
        self.boxes = 0
        self.empty = 0
        self.unnamed = 0

    def lines(self) -> tuple[str, ...]:
        """Describe what was lost."""
        lines = [f"dropped the boxes of {self.boxes} persons: labels belong to whole frames"]
        if self.empty:
            lines.append(f"left out {self.empty} key frames without an action")
        if self.unnamed:
            lines.append(f"left out {self.unnamed} actions that the action list does not name")
        return tuple(lines)


def _ava_labels(path: Path) -> dict[int, str]:
    text = read_text(path, "list", DataError)
    labels = {int(number): clean_label(name) for name, number in _AVA_ACTION.findall(text)}
    if not labels:
        raise DataError(
            f'{readable(path)}: no action found; each is `label {{ name: "stand" label_id: 12'
            " }`, as it is distributed"
        )
    return labels


class _VideoFiles:
    """Finds the file that shows a moment of a video, and where in the file the moment is."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._whole: dict[str, Path] = {}
        self._clips: dict[str, list[tuple[int, int, Path]]] = {}
        for path in list_videos(folder, LeftOut()):
            match = _KINETICS_CLIP.fullmatch(path.stem)
            if match is None:
                self._whole[path.stem] = path
            else:
                clip = (int(match[2]), int(match[3]), path)
                self._clips.setdefault(match[1], []).append(clip)

    def find(self, video: str, seconds: float, where: str) -> tuple[Path, float, float]:
        """Return file, offset and length in seconds; without a file, the path it should have."""
        for start, end, path in self._clips.get(video, ()):
            if start <= seconds <= end:
                return path, float(start), float(end - start)
        if video not in self._whole:
            self._whole[video] = first_present(self._folder, f"{video}.mp4", where=where)
        return self._whole[video], 0.0, math.inf


def _ava_spans(
    path: Path, labels: Mapping[int, str], files: _VideoFiles, notes: _AvaNotes
) -> Iterator[_Span]:
    lines = lines_of(read_text(path, "list", DataError))
    for number, row in enumerate(csv.reader(lines), 1):
        cells = [cell.strip() for cell in row]
        if not any(cells):
            continue
        where = f"{readable(path)}, line {number}"
        seconds = _seconds(cells[1]) if len(cells) > 1 else None
        if not cells[0] or seconds is None or len(cells) not in (2, 7, 8):
            raise _ava_error(where, row)
        if len(cells) == 2 or not cells[6]:
            notes.empty += 1
            continue
        if not cells[6].isdecimal() or not 1 <= int(cells[6]) <= _AVA_ACTIONS:
            raise _ava_error(where, row)
        notes.boxes += 1
        action = int(cells[6])
        if action not in labels:
            notes.unnamed += 1
            continue
        file, offset, length = files.find(cells[0], seconds, where)
        start = max(0.0, seconds - offset - _AROUND_SECONDS)
        end = min(length, seconds - offset + _AROUND_SECONDS)
        yield _Span(file, labels[action], round(start, 3), round(end, 3))


def _ava_error(where: str, row: Sequence[str]) -> DataError:
    return DataError(
        f"{where}: a line is video,timestamp,x1,y1,x2,y2,action[,person] with seconds and an action"
        f" from 1 to {_AVA_ACTIONS}, or video,timestamp alone, got {quoted(','.join(row))}; use the"
        " file as it is distributed"
    )


def _joined(spans: Sequence[_Span]) -> Iterator[_Span]:
    """Yield spans, with those of one action in one video that overlap joined."""
    current: _Span | None = None
    for span in sorted(spans):
        if current is None:
            current = span
        elif span[:2] == current[:2] and span.start_seconds <= current.end_seconds:
            end = max(current.end_seconds, span.end_seconds)
            current = current._replace(end_seconds=end)
        else:
            yield current
            current = span
    if current is not None:
        yield current


def _seconds(text: str) -> float | None:
    """Return a text as a number of seconds from 0, or None if it is something else."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None
