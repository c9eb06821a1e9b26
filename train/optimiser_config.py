"""The settings of the optimiser and of its learning rate."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from configs import StrictModel

__all__ = ["OptimiserConfig"]


class OptimiserConfig(StrictModel):
    """Settings of the optimiser; the default is stochastic gradient descent, as in the paper."""

    kind: Literal["sgd", "adamw"] = Field(
        "sgd", description="optimiser: sgd, as in the paper, or adamw, which leaves plateaus sooner"
    )
    epochs: int = Field(100, ge=1, description="number of passes over the training videos")
    batch: int = Field(32, ge=2, description="number of clips per step")
    learning_rate: float = Field(0.01, gt=0, description="learning rate after the warm-up")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum; used by sgd only")
    weight_decay: float = Field(1e-4, ge=0, description="L2 penalty on all weights")
    schedule: Literal["steps", "cosine"] = Field(
        "steps",
        description="how the rate falls: at each milestone, or along half a cosine to zero",
    )
    milestones: tuple[float, ...] = Field(
        (0.4, 0.8),
        description="fractions of the run; after each, the rate drops to a tenth; used by steps",
    )
    backbone_rate: float = Field(
        1.0,
        gt=0,
        le=1,
        description="learning rate of the backbone, as a fraction of the learning rate",
    )
    warmup_epochs: float = Field(
        0.0, ge=0, description="epochs in which the learning rate rises linearly from zero"
    )
    clip_gradient: float = Field(0.0, ge=0, description="maximum gradient norm; 0: no limit")
    accumulate: int = Field(
        1,
        ge=1,
        description="number of parts of a batch, computed one after the other to save memory",
    )
    base_batch: int | None = Field(
        None,
        ge=1,
        description=(
            "batch size for which learning_rate was chosen; for other sizes, the rate is scaled;"
            " null: it is not scaled"
        ),
    )

    @model_validator(mode="after")
    def _check(self) -> OptimiserConfig:
        if self.accumulate > self.batch:
            raise ValueError(f"accumulate ({self.accumulate}) is above batch ({self.batch})")
        return self
