"""The description stored in a weights file: network, labels, frame rate and preprocessing."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from configs import StrictModel, no_controls
from model.config import ModelConfig
from model.media.preprocess import PreprocessConfig

__all__ = ["MAX_TEMPERATURE", "MIN_TEMPERATURE", "ModelSpec"]

MIN_TEMPERATURE = 0.05
MAX_TEMPERATURE = 20.0


class ModelSpec(StrictModel):
    """The description in a weights file: everything that is needed to use the weights."""

    format: Literal["cidc-model/2"] = Field(
        "cidc-model/2", description="format and version of this description"
    )
    name: str = Field(
        description="short name of the network, reported in every event",
        min_length=1,
        max_length=100,
    )
    model: ModelConfig = Field(description="configuration of the network")
    labels: tuple[str, ...] = Field(description="class names in the order of the logits")
    background: str | None = Field(
        None, description="the label that means no action; null: no label"
    )
    fps: float = Field(15.0, gt=0, description="frame rate of clips, in frames per second")
    preprocess: PreprocessConfig = Field(description="size and normalisation of input frames")
    temperature: float = Field(
        1.0,
        ge=MIN_TEMPERATURE,
        le=MAX_TEMPERATURE,
        description="logits are divided by this number before the softmax; 1: plain softmax",
    )

    def to_json(self) -> str:
        """Return the description as JSON for a file.

        A temperature of 1 is left out: versions that do not know it can then read the file.
        """
        return self.model_dump_json(exclude={"temperature"} if self.temperature == 1 else None)

    @model_validator(mode="after")
    def _check_labels(self) -> ModelSpec:
        if len(self.labels) != self.model.num_classes:
            raise ValueError(f"{len(self.labels)} labels for {self.model.num_classes} classes")
        if len(set(self.labels)) != len(self.labels) or not all(self.labels):
            raise ValueError("labels must be different, non-empty names")
        for text in (self.name, *self.labels):
            no_controls(text)
        if self.background is not None and self.background not in self.labels:
            raise ValueError(f"background {self.background!r} is not one of the labels")
        return self
