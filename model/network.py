"""The whole network: backbone, multi-scale CIDC network or a head to compare with, fusion,
classifier (paper, section 3.2).

Letters: B clips, C channels, T time, H and W space, K classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from configs import ShapeError, StrictModel
from model.backbones.conv import fold_network
from model.backbones.non_local import NonLocalPooling
from model.backbones.resnet import BACKBONES, BackboneName, Depth, Entry, ResNet, stage_channels
from model.cidc_network import CIDCConfig, CIDCNetwork
from model.heads import LSTMHead, SelfAttentionHead

if TYPE_CHECKING:
    from model.checkpoints.weights import ModelSpec

__all__ = ["ActionNetwork", "ModelConfig", "build_model", "fold_for_inference", "to_channels_last"]

SMALLEST_SIDE = 32


class ModelConfig(StrictModel):
    """Everything that decides the network's shape."""

    backbone: BackboneName = Field(
        "r2d", description="which residual net; tsn and tsm are r2d's relatives of the same names"
    )
    depth: Depth = Field(50, description="how deep it is")
    non_local: bool = Field(False, description="non-local blocks in stages 3 and 4")
    non_local_pooling: NonLocalPooling = Field(
        "paper", description="where non-local blocks pool; public checkpoints differ in this"
    )
    entry: Entry | None = Field(
        None,
        description="how four frames become one before stage 2; null for the backbone's own way",
    )
    head: Literal["pool", "lstm", "self_attention"] = Field(
        "pool", description="without cidc: what reads the last map (table 5a)"
    )
    cidc: CIDCConfig | None = Field(CIDCConfig(), description="the CIDC network; null for none")
    num_classes: int = Field(400, ge=2, description="size of the last layer")
    width: int = Field(64, ge=8, le=256, description="channels of the stem; 64 in the paper")
    frames: int = Field(32, ge=4, description="frames in a clip")
    dropout: float = Field(0.6, ge=0, lt=1, description="dropout before the last layer")

    @property
    def time_stride(self) -> int:
        """Frames of a clip behind one position in time of the last stages."""
        return BACKBONES[self.backbone].time_stride

    @property
    def time(self) -> int:
        """T of the last stages."""
        return self.frames // self.time_stride

    @property
    def backbone_facts(self) -> dict[str, object]:
        """What two networks must share for one's backbone weights to mean the same in the other."""
        entry = self.entry or BACKBONES[self.backbone].entry
        pooling = self.non_local_pooling if self.non_local else None
        return {
            "backbone": self.backbone,
            "depth": self.depth,
            "width": self.width,
            "entry": entry,
            "non_local": self.non_local,
            "non_local_pooling": pooling,
        }

    @model_validator(mode="after")
    def _check(self) -> ModelConfig:
        if self.frames % self.time_stride:
            raise ValueError(
                f"frames must be a multiple of {self.time_stride} for {self.backbone}, got"
                f" {self.frames}"
            )
        if self.cidc is not None and self.cidc.direction == "bi" and self.time % 2:
            raise ValueError(
                f"frames must be a multiple of {2 * self.time_stride} for {self.backbone} with"
                f" direction bi, got {self.frames}"
            )
        if self.cidc is not None and self.head != "pool":
            raise ValueError(
                f"head {self.head!r} stands in place of the CIDC network; set cidc to null"
            )
        if self.entry not in (None, "sampled") and BACKBONES[self.backbone].entry == "sampled":
            raise ValueError(f"{self.backbone} has only the entry 'sampled', got {self.entry!r}")
        return self


def build_model(config: ModelConfig) -> ActionNetwork:
    """A freshly initialised network that maps normalised `clips_BCTHW` to `logits_BK`."""
    return ActionNetwork(config)


def to_channels_last(network: nn.Module) -> nn.Module:
    """Lay the convolution weights out channels-last, in place; the mixing logits have no such
    layout.
    """
    for parameter in network.parameters():
        if parameter.dim() == 5:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
    return network


def fold_for_inference(network: ActionNetwork, dtype: torch.dtype) -> ActionNetwork:
    """The same function, faster, in place: batch norm inside the convolutions, mixing weights
    computed once.

    Afterwards the network takes clips in `dtype`, best in channels-last-3d memory, and can be
    neither trained nor saved.

    Raises:
        ValueError: the network is in training mode, or was folded before, or the number format is
            none it can run in.
    """
    if network.folded or dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise ValueError(
            "a network is folded once, into float32, bfloat16 or float16; folded:"
            f" {network.folded}, asked for: {dtype}"
        )
    fold_network(network, dtype)
    network.folded = True
    return network


class ActionNetwork(nn.Module):
    """Clips to class logits. `config` is the shape it was built from; `spec` the description it
    was loaded with.
    """

    spec: ModelSpec | None = None
    folded = False

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = ResNet(
            config.backbone,
            config.depth,
            config.width,
            entry=config.entry or BACKBONES[config.backbone].entry,
            non_local=config.non_local_pooling if config.non_local else None,
        )
        channels = stage_channels(config.depth, config.width)[1:]
        features = channels[-1]
        self.cidc = (
            CIDCNetwork(config.cidc, channels, config.time) if config.cidc is not None else None
        )
        self.head: LSTMHead | SelfAttentionHead | None = None
        if config.head == "lstm":
            self.head = LSTMHead(features)
        elif config.head == "self_attention":
            self.head = SelfAttentionHead(features)
        if self.head is not None:
            features = self.head.features
        elif config.cidc is not None and config.cidc.fusion == "channels":
            features *= 2
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(features, config.num_classes)

    def train(self, mode: bool = True) -> Self:
        """As `nn.Module.train`; a folded network stays in evaluation mode.

        Raises:
            ValueError: the network is folded.
        """
        if mode and self.folded:
            raise ValueError("a folded network cannot be trained; load it again")
        return super().train(mode)

    def forward(self, clips_BCTHW: Tensor) -> Tensor:
        """Normalised clips `B 3 T H W` to `logits_BK` in float32.

        Raises:
            ShapeError: the clip's frames or its size do not fit the network's strides.
        """
        self._check_shape(clips_BCTHW)
        features_BC = self._features(self.backbone(clips_BCTHW))
        logits: Tensor = self.classifier(self.dropout(features_BC))
        return logits.float()

    def _features(self, maps: list[Tensor]) -> Tensor:
        last = maps[-1]
        if self.head is not None:
            return cast("Tensor", self.head(last))
        if self.cidc is None:
            return _pooled(last)
        mixed = self.cidc(maps)
        if self.cidc.config.fusion == "channels":
            return torch.cat([_pooled(last), _pooled(mixed)], dim=1)
        # Along time (both maps are equally long) the pooled concatenation is the mean of both, and
        # the sum twice that.
        pooled = _pooled(last) + _pooled(mixed)
        return pooled if self.cidc.config.fusion == "sum" else pooled / 2

    def _check_shape(self, clips_BCTHW: Tensor) -> None:
        shape = tuple(clips_BCTHW.shape)
        frames = self.config.frames
        stride = self.config.time_stride
        if len(shape) != 5 or shape[1] != 3 or min(shape[3:]) < SMALLEST_SIDE:
            raise ShapeError(
                f"clips must be B 3 {frames} H W with H and W of at least {SMALLEST_SIDE}, got"
                f" {shape}"
            )
        if self.cidc is not None and shape[2] != frames:
            raise ShapeError(
                f"this CIDC network was built for clips of {frames} frames, got {shape[2]} in"
                f" {shape}"
            )
        if shape[2] == 0 or shape[2] % stride:
            raise ShapeError(
                f"{self.config.backbone} takes clips whose frames are a multiple of {stride}, got"
                f" {shape[2]} in {shape}"
            )


def _pooled(x_BCTHW: Tensor) -> Tensor:
    return x_BCTHW.mean(dim=(2, 3, 4), dtype=torch.promote_types(x_BCTHW.dtype, torch.float32))
