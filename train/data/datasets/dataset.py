"""The contents of a data set: its labels and its videos, each in the train or validation part."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from model.media.image_sequence import DEFAULT_IMAGE_FPS

__all__ = ["Dataset", "ListedVideo", "Part"]

Part = Literal["train", "validation"]


@dataclasses.dataclass(frozen=True)
class ListedVideo:
    """A video that a data set lists: its expected path, its label, and its part of the data set.

    If the label belongs to a part of the video only, `start_seconds` and `end_seconds` say to which
    one.
    """

    path: Path
    label: str
    part: Part
    start_seconds: float | None = None
    end_seconds: float | None = None


@dataclasses.dataclass(frozen=True)
class Dataset:
    """The videos of a data set and its labels in their official order.

    Attributes:
        notices: lines for the user, such as what was left out.
        image_fps: usual frame rate of the data set where its videos are folders of images.
    """

    labels: tuple[str, ...]
    videos: tuple[ListedVideo, ...]
    notices: tuple[str, ...] = ()
    image_fps: float = DEFAULT_IMAGE_FPS
