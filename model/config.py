"""The configuration of a network: all settings that decide its layers and their sizes."""

from __future__ import annotations

from pydantic import Field, model_validator

from configs import StrictModel
from model.backbones.non_local import NonLocalPooling
from model.backbones.table import BACKBONES, BackboneName, Depth, Entry
from model.cidc_network import CIDCConfig
from model.heads import MAX_RELATION_TIME, RELATION_HEADS, HeadName
from model.media.clip_cutter import DEFAULT_FRAMES

__all__ = ["ModelConfig"]


class ModelConfig(StrictModel):
    """Settings of the network: its backbone, its CIDC network or other head, and its sizes."""

    backbone: BackboneName = Field("r2d", description="the network that computes maps from clips")
    depth: Depth = Field(50, description="number of layers of the backbone")
    non_local: bool = Field(False, description="add non-local blocks to stages 3 and 4")
    non_local_pooling: NonLocalPooling = Field(
        "paper", description="where non-local blocks pool; public checkpoints differ in this"
    )
    entry: Entry | None = Field(
        None,
        description=(
            "how the number of frames is divided by four before stage 2;"
            " null: the backbone's default"
        ),
    )
    lateral_norm: bool = Field(
        True,
        description=(
            "follow slowfast's connections between pathways by batch norm and ReLU, as the paper"
            " does; public checkpoints of mmaction2 differ in this"
        ),
    )
    head: HeadName = Field(
        "pool", description="head on the last map, used only if cidc is null (tables 3 and 5a)"
    )
    cidc: CIDCConfig | None = Field(
        CIDCConfig(), description="the CIDC network; null: build no CIDC network"
    )
    num_classes: int = Field(400, ge=2, description="number of classes, the size of the last layer")
    width: int = Field(
        64, ge=8, le=256, description="number of channels of the stem; 64 in the paper"
    )
    frames: int = Field(DEFAULT_FRAMES, ge=4, le=1024, description="number of frames in a clip")
    dropout: float = Field(
        0.6, ge=0, lt=1, description="probability of dropout before the last layer"
    )

    @property
    def time_stride(self) -> int:
        """Temporal stride of the last stages: clip frames per time position."""
        return BACKBONES[self.backbone].time_stride

    @property
    def time(self) -> int:
        """Number of time positions (T) of the last stages' maps."""
        return self.frames // self.time_stride

    @property
    def backbone_facts(self) -> dict[str, object]:
        """The settings that must be equal in two networks that share backbone weights."""
        backbone = BACKBONES[self.backbone]
        pooling = self.non_local_pooling if self.non_local else None
        return {
            "backbone": self.backbone,
            "depth": self.depth,
            "width": self.width,
            "entry": self.entry or backbone.entry,
            "non_local": self.non_local,
            "non_local_pooling": pooling,
            "lateral_norm": self.lateral_norm if backbone.lateral_time else None,
        }

    @model_validator(mode="after")
    def _check_combination(self) -> ModelConfig:
        if self.frames % self.time_stride:
            raise ValueError(
                f"frames must be a multiple of {self.time_stride} for {self.backbone},"
                f" got {self.frames}"
            )
        if self.cidc is not None and self.cidc.direction == "bi" and self.time % 2:
            raise ValueError(
                f"frames must be a multiple of {2 * self.time_stride} for {self.backbone}"
                f" with direction bi, got {self.frames}"
            )
        if self.cidc is not None and self.head != "pool":
            raise ValueError(f"head {self.head!r} replaces the CIDC network; set cidc to null")
        self._check_backbone()
        low, high = 2, MAX_RELATION_TIME
        if self.head in RELATION_HEADS and not low <= self.time <= high:
            raise ValueError(
                f"head {self.head!r} relates {low} to {high} time positions;"
                f" {self.backbone} has {self.time} for {self.frames} frames"
            )
        return self

    def _check_backbone(self) -> None:
        backbone = BACKBONES[self.backbone]
        if self.entry is not None and self.entry not in backbone.entries:
            allowed = " or ".join(map(repr, backbone.entries)) or "null"
            raise ValueError(f"{self.backbone} has only the entry {allowed}, got {self.entry!r}")
        if self.non_local and not backbone.takes_non_local:
            raise ValueError(f"{self.backbone} has no non-local blocks; set non_local to false")
        if backbone.big_little and self.depth == 18:
            raise ValueError(f"{self.backbone} has depth 50 or 101, got {self.depth}")
