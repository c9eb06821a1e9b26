"""The whole network: backbone, multi-scale CIDC network, fusion, head (paper, section 3.2, figure 3).

Letters: B clips, C channels, T time, H and W space, K classes.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from configs import ShapeError, StrictModel
from model.cidc import CIDCUnit, Direction
from model.mixing.reference import Normalisation
from model.resnet import TIME_STRIDE, ResNet, stage_channels, unfold_time

if TYPE_CHECKING:
    from model.weights import ModelSpec

__all__ = ["ActionNetwork", "CIDCConfig", "CIDCNetwork", "ModelConfig", "build_model", "to_channels_last"]


class CIDCConfig(StrictModel):
    """The multi-scale CIDC network."""

    direction: Direction = Field("bi", description="which way each unit looks along time")
    normalisation: Normalisation = Field("affine", description="how mixing weights are mapped to [-1, 1]")
    columns: int = Field(2, ge=1, le=16, description="units in a row on each of the three branches")
    t_hidden: int = Field(8, ge=1, le=64, description="time length between columns; a bi unit's two halves together")

    @model_validator(mode="after")
    def _check(self) -> CIDCConfig:
        if self.direction == "bi" and self.t_hidden % 2:
            raise ValueError(f"t_hidden must be even for direction bi, got {self.t_hidden}")
        return self


class ModelConfig(StrictModel):
    """Everything that decides the network's shape."""

    backbone: Literal["r2d"] = Field("r2d", description="which residual net")
    depth: Literal[18] = Field(18, description="how deep it is")
    non_local: Literal[False] = Field(False, description="non-local blocks in stages 3 and 4")
    cidc: CIDCConfig | None = Field(CIDCConfig(), description="the CIDC network; null for global average pooling alone")
    num_classes: int = Field(400, ge=2, description="size of the last layer")
    width: int = Field(64, ge=8, le=256, description="channels of stage 2; 64 in the paper")
    frames: int = Field(32, ge=TIME_STRIDE, description="frames in a clip")
    dropout: float = Field(0.6, ge=0, lt=1, description="dropout before the last layer")

    @model_validator(mode="after")
    def _check(self) -> ModelConfig:
        if self.frames % TIME_STRIDE:
            raise ValueError(f"frames must be a multiple of {TIME_STRIDE}, got {self.frames}")
        if self.cidc is not None and self.cidc.direction == "bi" and (self.frames // TIME_STRIDE) % 2:
            raise ValueError(f"frames must be a multiple of {2 * TIME_STRIDE} for direction bi, got {self.frames}")
        return self


def build_model(config: ModelConfig) -> ActionNetwork:
    """A freshly initialised network that maps normalised `clips_BCTHW` to `logits_BK`."""
    return ActionNetwork(config)


def to_channels_last(network: nn.Module) -> nn.Module:
    """Lay the convolution weights out channels-last, in place; the mixing logits have no such layout."""
    for parameter in network.parameters():
        if parameter.dim() == 5:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
    return network


class ActionNetwork(nn.Module):
    """Clips to class logits. `config` is the shape it was built from; `spec` the description it was loaded with."""

    spec: ModelSpec | None = None

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = ResNet(config.depth, config.width)
        channels = stage_channels(config.width)[1:]
        self.cidc: CIDCNetwork | None = None
        if config.cidc is not None:
            self.cidc = CIDCNetwork(config.cidc, channels, config.frames // TIME_STRIDE)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(channels[-1], config.num_classes)

    def forward(self, clips_BCTHW: Tensor) -> Tensor:
        """Normalised clips `B 3 T H W` to `logits_BK` in float32.

        Raises:
            ShapeError: the clip is not `B 3 frames H W`, or smaller than 32 pixels.
        """
        self._check_shape(clips_BCTHW)
        maps = self.backbone(clips_BCTHW)
        features = maps[-1]
        if self.cidc is not None:
            # Fusion along time, the paper's default (table 5b).
            features = torch.cat([features, self.cidc(maps)], dim=2)
        pooled_BC = features.float().mean(dim=(2, 3, 4))
        logits: Tensor = self.classifier(self.dropout(pooled_BC))
        return logits.float()

    def _check_shape(self, clips_BCTHW: Tensor) -> None:
        shape, frames = tuple(clips_BCTHW.shape), self.config.frames
        if len(shape) != 5 or shape[1] != 3 or shape[2] != frames or min(shape[3:]) < 32:
            raise ShapeError(f"clips must be B 3 {frames} H W with H and W of at least 32, got {shape}")


class CIDCNetwork(nn.Module):
    """Columns of CIDC units on the last three maps, aggregated from high to low resolution after each column."""

    def __init__(self, config: CIDCConfig, channels: tuple[int, ...], time: int) -> None:
        super().__init__()
        sizes = [time] + [config.t_hidden] * (config.columns - 1) + [time]
        self.columns = nn.ModuleList(
            nn.ModuleList(CIDCUnit(c, t_in, t_out, config.direction, config.normalisation) for c in channels)
            for t_in, t_out in itertools.pairwise(sizes)
        )
        lowest = len(channels) - 1
        # After the last column only the lowest resolution is read, so only it is aggregated into.
        targets = [list(range(1, len(channels)))] * (config.columns - 1) + [[lowest]]
        self.links = nn.ModuleList(
            nn.ModuleDict({f"{i}_{j}": nn.Conv3d(channels[i], channels[j], 1) for j in column for i in range(j)}) for column in targets
        )

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Maps of stages 3, 4, 5 to one map of the shape of the last."""
        maps = propagate_attention(maps)
        for units, links in zip(self.columns, self.links, strict=True):
            assert isinstance(units, nn.ModuleList)
            assert isinstance(links, nn.ModuleDict)
            maps = [unit(x) for unit, x in zip(units, maps, strict=True)]
            maps = _aggregate(maps, links)
        return maps[-1]


def attention_map(x_BCTHW: Tensor) -> Tensor:
    """`att(F)`, the sigmoid of the channel mean at each place: `B 1 T H W` (equation 3)."""
    return torch.sigmoid(x_BCTHW.mean(dim=1, keepdim=True))


def propagate_attention(maps: list[Tensor]) -> list[Tensor]:
    """Weight each early map by the attention of the next later one, from the last stage backwards (equation 3)."""
    attended = [maps[-1]]
    for early in reversed(maps[:-1]):
        time, height, width = early.shape[2:]
        attention = attention_map(attended[0]).flatten(0, 2).unsqueeze(1)
        enlarged = functional.interpolate(attention, (height, width), mode="bilinear", align_corners=False)
        attended.insert(0, early * enlarged.view(-1, 1, time, height, width) + early)
    return attended


def _aggregate(maps: list[Tensor], links: nn.ModuleDict) -> list[Tensor]:
    """Add every higher-resolution map, pooled and projected, into the lower-resolution ones."""
    sums = list(maps)
    for name, project in links.items():
        source, target = (int(part) for part in name.split("_"))
        sums[target] = sums[target] + project(_pool_space_to(maps[source], maps[target].shape[3:]))
    return sums


def _pool_space_to(x_BCTHW: Tensor, size: torch.Size) -> Tensor:
    """Average pooling in each frame to an exact size."""
    height, width = size
    frames = x_BCTHW.transpose(1, 2).flatten(0, 1)
    pooled = functional.adaptive_avg_pool2d(frames, (height, width))
    return unfold_time(pooled, x_BCTHW.shape[2])
