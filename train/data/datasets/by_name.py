"""Reads public data sets whose file names say who acts and what they do.

NTU RGB+D 60 and 120 (github.com/shahroudy/NTURGB-D): `S001C002P003R002A013_rgb.avi`, for setup,
camera, performer, replication and action.

KTH (www.csc.kth.se/cvap/actions): `person01_boxing_d1_uncomp.avi`, and `00sequences.txt` with the
frames that show the action: `person01_boxing_d1 frames 1-95, 96-185`.

Weizmann (www.wisdom.weizmann.ac.il/~vision/SpaceTimeActions.html): `daria_walk.avi`, and
`lena_walk1.avi`, `lena_walk2.avi` where a person repeats an action.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from configs import DataError, clean_label, lines_of, quoted, read_text, readable
from train.data.datasets.dataset import Dataset, ListedVideo, Part
from train.data.datasets.listing import LeftOut, list_videos
from train.data.datasets.lists import first_list

__all__ = ["read_kth", "read_ntu", "read_weizmann"]

_NTU_NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})(?:_rgb)?")
_NTU_ACTION = re.compile(r"A(\d{1,3})\.\s*(.+?)[\s.]*")
_NTU_LISTS = ("labels.txt", "README.md")
# The highest numbers of setups, performers and actions.
_NTU_LIMITS = {60: (17, 40, 60), 120: (32, 106, 120)}
# Performers of the training part, as the papers list them.
_NTU_60_SUBJECTS = frozenset(
    (1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38)
)
_NTU_120_SUBJECTS = _NTU_60_SUBJECTS.union(
    (45, 46, 47, 49, 50, 52, 53, 54, 55, 56, 57, 58, 59, 70, 74, 78, 80, 81, 82, 83, 84),
    (85, 86, 89, 91, 92, 93, 94, 95, 97, 98, 100, 103),
)
_NTU_60_CAMERAS = frozenset((2, 3))

_KTH_ACTIONS = ("boxing", "handclapping", "handwaving", "jogging", "running", "walking")
_KTH_LINE = re.compile(rf"(person(\d\d)_({'|'.join(_KTH_ACTIONS)})_d[1-4])\s+(.*)")
_KTH_FPS = 25.0
_KTH_TRAIN = frozenset((11, 12, 13, 14, 15, 16, 17, 18))
_KTH_VALIDATION = frozenset((19, 20, 21, 23, 24, 25, 1, 4))
_KTH_TEST = frozenset((22, 2, 3, 5, 6, 7, 8, 9, 10))

_WEIZMANN_ACTIONS = (
    *("bend", "jack", "jump", "pjump", "run"),
    *("side", "skip", "walk", "wave1", "wave2"),
)
_WEIZMANN_NAME = re.compile(rf"([a-z]+)_({'|'.join(_WEIZMANN_ACTIONS)})[12]?")


def read_ntu(videos: Path, annotations: Path | None, split: int, *, actions: int) -> Dataset:
    """Read the names of the RGB videos of NTU RGB+D.

    Args:
        annotations: folder with `README.md` of the data set's page, or `labels.txt`, which name the
            actions in lines such as `A1. drink water`; None: labels are `A001` and so on.
        split: 1 for cross-subject; 2 for cross-view (60 actions) or cross-setup (120 actions).
        actions: 60 or 120.

    Raises:
        DataError: there is no such split, no video, a number that the data set does not have, or an
            action without a name.
    """
    _check_split(f"ntu-{actions}", split, 2)
    names = _ntu_actions(annotations)
    setups, subjects, _ = _NTU_LIMITS[actions]
    found = []
    later = 0
    for path, match in _matching(videos, _NTU_NAME, "S001C002P003R002A013_rgb.avi"):
        setup, camera, subject, _, action = map(int, match.groups())
        if actions < action <= _NTU_LIMITS[120][2]:
            later += 1
            continue
        if not (0 < setup <= setups and 0 < subject <= subjects and 0 < action <= actions):
            raise DataError(
                f"{readable(path)}: NTU RGB+D {actions} has setups to {setups}, performers to"
                f" {subjects} and actions to {actions}, got {quoted(path.stem)}; correct the name,"
                " or move the file away"
            )
        is_training = _is_ntu_training(actions, split, setup=setup, camera=camera, subject=subject)
        label = _ntu_label(action, names)
        found.append(ListedVideo(path, label, "train" if is_training else "validation"))
    labels = tuple(_ntu_label(action, names) for action in range(1, actions + 1))
    notice = f"left out {later} videos of actions above A060; ntu-120 reads them"
    return Dataset(labels, tuple(found), (notice,) if later else (), image_fps=30.0)


def _is_ntu_training(actions: int, split: int, *, setup: int, camera: int, subject: int) -> bool:
    if split == 1:
        return subject in (_NTU_60_SUBJECTS if actions == 60 else _NTU_120_SUBJECTS)
    return camera in _NTU_60_CAMERAS if actions == 60 else setup % 2 == 0


def _ntu_actions(annotations: Path | None) -> tuple[Path, dict[int, str]] | None:
    if annotations is None:
        return None
    path = first_list(annotations, *_NTU_LISTS)
    names: dict[int, str] = {}
    for line in lines_of(read_text(path, "list", DataError)):
        match = _NTU_ACTION.fullmatch(line.strip())
        if match is not None:
            names.setdefault(int(match[1]), clean_label(match[2]))
    return path, names


def _ntu_label(action: int, names: tuple[Path, dict[int, str]] | None) -> str:
    if names is None:
        return f"A{action:03d}"
    path, known = names
    if action not in known:
        raise DataError(
            f"{readable(path)} does not name action {action}; add a line `A{action}. <name>`, or"
            " leave out --annotations to use labels such as A001"
        )
    return known[action]


def read_kth(videos: Path, annotations: Path, split: int) -> Dataset:
    """Read `00sequences.txt` of KTH; each sequence of frames becomes a part of its video.

    Args:
        split: 1: the training persons, and the validation persons; 2: the training and validation
            persons together, and the test persons, as papers report.

    Raises:
        DataError: there is no such split, or the list is missing or malformed.
    """
    _check_split("kth", split, 2)
    path = first_list(annotations, "00sequences.txt")
    files = {video.stem.removesuffix("_uncomp"): video for video in list_videos(videos, LeftOut())}
    listed = []
    absent = 0
    for number, line in enumerate(lines_of(read_text(path, "list", DataError)), 1):
        text = line.strip()
        if not re.match(r"person\d\d_", text):
            continue  # the file begins with a description
        where = f"{readable(path)}, line {number}"
        match = _KTH_LINE.fullmatch(text)
        if match is None:
            raise _kth_error(where, text)
        name, person, action, frames = match.groups()
        if frames.strip() == "*missing*":
            absent += 1
            continue
        part = _kth_part(int(person), split, where, text)
        video = files.get(name, videos / action / f"{name}_uncomp.avi")
        if part is not None:
            listed += [
                ListedVideo(video, action, part, start, end)
                for start, end in _kth_spans(frames, where, text)
            ]
    notice = f"{absent} sequences are marked as missing in 00sequences.txt"
    notices = (notice,) if absent else ()
    return Dataset(_KTH_ACTIONS, tuple(listed), notices, image_fps=_KTH_FPS)


def _kth_part(person: int, split: int, where: str, text: str) -> Part | None:
    """Return the part of a person; None if the split does not use this person."""
    if person not in _KTH_TRAIN | _KTH_VALIDATION | _KTH_TEST:
        raise _kth_error(where, text)
    if person in _KTH_TRAIN:
        return "train"
    if person in _KTH_VALIDATION:
        return "validation" if split == 1 else "train"
    return None if split == 1 else "validation"


def _kth_spans(frames: str, where: str, text: str) -> Iterator[tuple[float, float]]:
    """Yield start and end in seconds of ranges of frames, which count from 1."""
    ranges = re.fullmatch(r"frames\s+(.+)", frames)
    for each in ranges[1].split(",") if ranges else [""]:
        match = re.fullmatch(r"\s*(\d{1,6})\s*-\s*(\d{1,6})\s*", each)
        if match is None or not 0 < int(match[1]) < int(match[2]):
            raise _kth_error(where, text)
        yield (int(match[1]) - 1) / _KTH_FPS, int(match[2]) / _KTH_FPS


def _kth_error(where: str, text: str) -> DataError:
    return DataError(
        f"{where}: a line is a sequence of persons 01 to 25 and ranges of frames, such as"
        f" `person01_boxing_d1 frames 1-95, 96-185`, got {quoted(text)}; use the file as it is"
        " distributed"
    )


def read_weizmann(videos: Path, split: int) -> Dataset:
    """Read the names of the Weizmann videos; the videos of one person are held out.

    Args:
        split: number of the held-out person, from 1, in alphabetical order.

    Raises:
        DataError: there are fewer than two persons or no such person.
    """
    matches = list(_matching(videos, _WEIZMANN_NAME, "daria_walk.avi"))
    persons = sorted({match[1] for _, match in matches})
    _check_split(f"weizmann with {', '.join(persons)}", split, len(persons))
    if len(persons) < 2:
        raise DataError(
            f"{readable(videos)}: leaving one person out needs videos of at least two persons, got"
            f" {persons}"
        )
    held_out = persons[split - 1]
    found = [
        ListedVideo(path, match[2], "validation" if match[1] == held_out else "train")
        for path, match in matches
    ]
    return Dataset(_WEIZMANN_ACTIONS, tuple(found), (f"held out: {held_out}",))


def _matching(
    videos: Path, pattern: re.Pattern[str], example: str
) -> Sequence[tuple[Path, re.Match[str]]]:
    """Return the videos whose names fit a pattern.

    Raises:
        DataError: a name does not fit; the message names it.
    """
    found = []
    for path in list_videos(videos, LeftOut()):
        match = pattern.fullmatch(path.stem)
        if match is None:
            raise DataError(
                f"{readable(path)}: names of this data set are such as {example}; rename the video,"
                " or move it away"
            )
        found.append((path, match))
    if not found:
        raise DataError(f"no videos such as {example} in {readable(videos)}")
    return found


def _check_split(what: str, split: int, count: int) -> None:
    if not 1 <= split <= count:
        raise DataError(f"--split of {what} must be from 1 to {count}, got {split}")
