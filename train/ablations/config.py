"""Settings of the ablations: tables, seeds, and the run settings that all networks share."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from configs import StrictModel
from train.ablations.paper_tables import PAPER_TABLES
from train.config import OptimiserConfig, TrainConfig

__all__ = ["AblationConfig"]


class AblationConfig(StrictModel):
    """Settings of a set of runs: tables, seeds, and the settings that all variants share."""

    out: Path = Field(description="folder for the runs, compare.json, compare.md and compare.png")
    seeds: tuple[int, ...] = Field(
        (0, 1, 2),
        description="every variant is trained once with each seed",
        min_length=1,
    )
    tables: tuple[str, ...] = Field(
        ("4a", "4b", "5a", "5b", "normalisation"),
        description="tables of the paper whose networks are trained",
        min_length=1,
    )
    backbone: OptimiserConfig = Field(
        description="optimiser settings for the backbone, which is trained with average pooling"
        " before all variants"
    )
    run: TrainConfig = Field(
        description="training run of the full network; each variant changes only the network"
    )

    @model_validator(mode="after")
    def _check_run_and_seeds(self) -> AblationConfig:
        unknown = sorted(set(self.tables) - set(PAPER_TABLES))
        if unknown:
            raise ValueError(f"tables: {unknown} are unknown; known tables: {list(PAPER_TABLES)}")
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds: {list(self.seeds)} contains a seed twice")
        starts_from_weights = self.run.backbone_from or self.run.weights_from
        if self.run.model.cidc is None or starts_from_weights:
            raise ValueError(
                "run: must have a cidc section, and neither backbone_from nor weights_from: each"
                " seed trains its own backbone"
            )
        if self.run.data.labels_from is not None:
            raise ValueError(
                "run.data.labels_from: not allowed here; list the labels in run.data.labels instead"
            )
        return self
