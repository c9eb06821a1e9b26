"""The settings against overfitting, for sets of few videos."""

from __future__ import annotations

from pydantic import Field

from configs import StrictModel

__all__ = ["RegularisationConfig"]


class RegularisationConfig(StrictModel):
    """Settings against overfitting; the defaults change nothing."""

    average: float = Field(
        0.0,
        ge=0,
        lt=1,
        description=(
            "decay per step of a moving average of the weights, which is validated and written in"
            " place of the last weights; 0: off"
        ),
    )
    freeze_norms: bool = Field(
        False,
        description=(
            "keep the statistics of batch norms that come from backbone_from or weights_from"
        ),
    )
    branch_dropout: float = Field(
        0.0,
        ge=0,
        le=1,
        description=(
            "probability that a clip is classified from the backbone's map alone or from CIDC's map"
            " alone, each half of the time"
        ),
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="probability that the loss spreads over all classes"
    )
    mixup: float = Field(
        0.0,
        ge=0,
        le=10,
        description=(
            "blend each clip and its label with another clip of the batch, by a fraction from"
            " Beta(mixup, mixup); 0: off"
        ),
    )
    colour: float = Field(
        0.0,
        ge=0,
        le=1,
        description="strength of random changes of brightness, contrast, saturation and tint",
    )
    rotation_degrees: float = Field(
        0.0, ge=0, le=45, description="maximum random rotation of a clip's frames, to either side"
    )
    stretch: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="maximum random change of a clip's width and height, as a fraction of them",
    )
