"""A data set as it is distributed: its labels, and its videos with the part they belong to."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

__all__ = ["Dataset", "ListedVideo", "Part"]

Part = Literal["train", "validation"]


@dataclasses.dataclass(frozen=True)
class ListedVideo:
    """One video of a data set: where it should be, its label, and its part of the set."""

    path: Path
    label: str
    part: Part


@dataclasses.dataclass(frozen=True)
class Dataset:
    """The videos of a data set and its labels in their official order."""

    labels: tuple[str, ...]
    videos: tuple[ListedVideo, ...]
