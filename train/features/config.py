"""The settings of training on cached features."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from configs import StrictModel

__all__ = ["FeaturesConfig"]


class FeaturesConfig(StrictModel):
    """Settings of training on a frozen backbone, whose maps are computed once and kept on disk."""

    cache: Path = Field(
        description="folder for the maps of one backbone and one preprocessing of frames"
    )
    views: int = Field(
        4,
        ge=1,
        le=100,
        description=(
            "number of random clips (start, size, crop, mirroring) of each training video that are"
            " kept; every epoch uses one of them"
        ),
    )
    batch: int = Field(
        8, ge=1, le=256, description="number of clips in a batch while maps are computed"
    )
