"""The contents of a data set: its labels and its videos, each in the train or validation part."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

__all__ = ["Dataset", "ListedVideo", "Part"]

Part = Literal["train", "validation"]


@dataclasses.dataclass(frozen=True)
class ListedVideo:
    """A video that a data set lists: its expected path, its label, and its part of the data set."""

    path: Path
    label: str
    part: Part


@dataclasses.dataclass(frozen=True)
class Dataset:
    """The videos of a data set and its labels in their official order."""

    labels: tuple[str, ...]
    videos: tuple[ListedVideo, ...]
