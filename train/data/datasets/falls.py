"""Reads the falls of Le2i (also called ImViA) in their original folders.

    Coffee_room_01/Videos/video (1).avi
    Coffee_room_01/Annotation_files/video (1).txt

The first two lines of an annotation are the frames where the fall starts and ends, both 0 without a
fall. The lines below are boxes of the person, `frame,direction,x,y,width,height`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from configs import DataError, lines_of, quoted, read_text, readable
from train.data.datasets.dataset import Dataset, ListedVideo, Part
from train.data.datasets.listing import LeftOut, list_videos

__all__ = ["read_le2i"]

_FPS = 25.0
_LABELS = ("background", "fall")
# Names that folders of annotations have in different places of the distribution.
_ANNOTATIONS = re.compile(r"annotations?_?files?", re.I)
_ROOMS = ("coffee_room", "home")


def read_le2i(videos: Path, split: int) -> Dataset:
    """Read videos with annotations; each fall, and the time before it, becomes a part of its video.

    A video without a fall is background as a whole. What follows a fall is left out: the person
    still lies there, which is neither. Rooms without annotations (office, lecture room) are left
    out and counted.

    Args:
        split: 1: trained in the coffee rooms, validated in the homes; 2: the other way round.

    Raises:
        DataError: there is no such split, no annotated video, or an annotation is malformed.
    """
    if split not in (1, 2):
        raise DataError(
            f"--split of le2i must be 1 (validated in the homes) or 2 (validated in the coffee"
            f" rooms), got {split}"
        )
    found: list[ListedVideo] = []
    without: list[Path] = []
    boxes_only = 0
    for video in list_videos(videos, LeftOut()):
        annotation = _annotation_of(video)
        room = _room_of(video, videos)
        if annotation is None or room is None:
            without.append(video)
            continue
        part: Part = "train" if (room == "coffee_room") == (split == 1) else "validation"
        span = _fall_of(annotation)
        boxes_only += span is None
        found += _parts_of(video, part, span or (0, 0))
    if not found:
        raise DataError(
            f"{readable(videos)}: no annotated video; needs folders such as Coffee_room_01 with"
            " Videos and Annotation_files, as they are distributed"
        )
    return Dataset(_LABELS, tuple(found), tuple(_notices(without, boxes_only)), image_fps=_FPS)


def _notices(without: list[Path], boxes_only: int) -> Iterator[str]:
    if without:
        yield (
            f"left out {len(without)} videos without annotations (first: {readable(without[0])})"
        )
    if boxes_only:
        yield f"{boxes_only} annotations have boxes only, and count as videos without a fall"


def _annotation_of(video: Path) -> Path | None:
    """Return the annotation of a video: beside it, or in the folder of annotations of its room."""
    folders = [video.parent, *sorted(video.parent.parent.iterdir())]
    for folder in folders:
        path = folder / f"{video.stem}.txt"
        if (folder == video.parent or _ANNOTATIONS.fullmatch(folder.name)) and path.is_file():
            return path
    return None


def _room_of(video: Path, videos: Path) -> str | None:
    """Return the kind of room from the names of the folders, the nearest first."""
    inside = [videos.name, *video.relative_to(videos).parts[:-1]]
    for name in reversed(inside):
        for room in _ROOMS:
            if name.lower().replace(" ", "_").startswith(room):
                return room
    return None


def _fall_of(path: Path) -> tuple[int, int] | None:
    """Return the first and last frame of the fall, 0 and 0 without one; None if not stated."""
    lines = [line.strip() for line in lines_of(read_text(path, "annotation", DataError))]
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line]
    if not numbered or "," in numbered[0][1]:
        return None  # some annotations start with the boxes
    frames: list[int] = []
    for number, line in numbered[:2]:
        if not re.fullmatch(r"\d{1,7}", line):
            raise DataError(
                f"{readable(path)}, line {number}: the frame where the fall"
                f" {'starts' if not frames else 'ends'} is needed, or 0 without a fall, got"
                f" {quoted(line)}; correct the line, or move the video away"
            )
        frames.append(int(line))
    if len(frames) < 2 or (frames != [0, 0] and not 0 < frames[0] < frames[1]):
        raise DataError(
            f"{readable(path)}, line {numbered[-1][0] if len(frames) < 2 else numbered[1][0]}: a"
            f" fall ends after its start, or both frames are 0, got {frames}; correct the line, or"
            " move the video away"
        )
    return frames[0], frames[1]


def _parts_of(video: Path, part: Part, span: tuple[int, int]) -> Iterator[ListedVideo]:
    if span == (0, 0):
        yield ListedVideo(video, "background", part)
        return
    # Frames count from 1; the last one is shown until the next would follow.
    start, end = (span[0] - 1) / _FPS, span[1] / _FPS
    if start > 0:
        yield ListedVideo(video, "background", part, 0.0, start)
    yield ListedVideo(video, "fall", part, start, end)
