"""The multi-scale CIDC network on the backbone's last three maps (paper, 3.2 and figure 3).

Each map has its own branch with one CIDC unit per column. After each column, the maps with higher
resolution are added to the maps with lower resolution.

Letters: B clips, C channels, T time, H and W space.
"""

from __future__ import annotations

import itertools
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from configs import StrictModel
from model.backbones.conv import ConvNorm
from model.backbones.pool import average_pool_space, unfold_time
from model.cidc import CIDCUnit, Direction
from model.mixing import Normalisation

__all__ = ["CIDCConfig", "CIDCNetwork", "Fusion", "attention_map", "propagate_attention"]

Fusion = Literal["time", "channels", "sum"]
Scales = Literal["single", "multi", "multi_attention"]


class CIDCConfig(StrictModel):
    """Layers of the CIDC network; the defaults have the same cost as the paper's network."""

    direction: Direction = Field(
        "bi", description="direction in time in which units read frames (table 4b)"
    )
    normalisation: Normalisation = Field(
        "affine", description="how softmax values are mapped to mixing weights in [-1, 1]"
    )
    scales: Scales = Field(
        "multi_attention",
        description="use the last map, the last three maps, or three with attention (table 4a)",
    )
    fusion: Fusion = Field(
        "time", description="how the result is combined with the last map (table 5b)"
    )
    columns: int | None = Field(
        None, ge=1, le=16, description="number of unit columns; null: as many as in the paper"
    )
    t_hidden: int = Field(
        4,
        ge=1,
        le=64,
        description="number of rows between columns; for bi, of both directions together",
    )
    tail: bool = Field(
        True, description="add one more unit to the last map's branch, after the last column"
    )

    @model_validator(mode="after")
    def _check_t_hidden(self) -> CIDCConfig:
        if self.direction == "bi" and self.t_hidden % 2:
            raise ValueError(f"t_hidden must be even for direction bi, got {self.t_hidden}")
        return self

    def columns_for(self, time: int) -> int:
        """Return the number of columns for maps with T = `time`; default: 4 up to T = 4, else 2."""
        return self.columns or (4 if time <= 4 else 2)


class CIDCNetwork(nn.Module):
    """The CIDC network: columns of units, then one unit on the lowest resolution.

    After each column, maps are aggregated from higher to lower resolutions.

    Args:
        config: the configuration.
        channels: number of channels of each map, highest resolution first.
        time: number of time positions (T) of the maps and of the result.
    """

    def __init__(self, config: CIDCConfig, channels: tuple[int, ...], time: int) -> None:
        super().__init__()
        self.config = config
        branches = channels[-1:] if config.scales == "single" else channels
        count = config.columns_for(time)
        sizes = [time] + [config.t_hidden] * (count if config.tail else count - 1) + [time]

        def unit(width: int, t_in: int, t_out: int) -> CIDCUnit:
            return CIDCUnit(width, t_in, t_out, config.direction, config.normalisation)

        columns = list(itertools.pairwise(sizes))
        self.tail = unit(branches[-1], *columns.pop()) if config.tail else None
        self.columns = nn.ModuleList(
            nn.ModuleList(unit(c, *column) for c in branches) for column in columns
        )
        lowest = len(branches) - 1
        # After the last column, only the lowest resolution is used, so only it is a target. Targets
        # are processed from the lowest resolution up: a sum may overwrite its target, and no later
        # link reads that target.
        targets = [range(lowest, 0, -1)] * (len(columns) - 1) + [range(lowest, 0, -1)[:1]]
        self.links = nn.ModuleList(
            nn.ModuleDict(
                {
                    f"{i}_{j}": ConvNorm(branches[i], branches[j], norm=False)
                    for j in column
                    for i in range(j)
                }
            )
            for column in targets
        )

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Compute one map, with the shape of the last map, from maps with falling resolution."""
        if self.config.scales == "single":
            maps = maps[-1:]
        elif self.config.scales == "multi_attention":
            maps = propagate_attention(maps)
        for units, links in zip(self.columns, self.links, strict=True):
            assert isinstance(units, nn.ModuleList)
            assert isinstance(links, nn.ModuleDict)
            maps = [unit(x) for unit, x in zip(units, maps, strict=True)]
            _aggregate(maps, links)
        y = maps[-1]
        return y if self.tail is None else self.tail(y)


def attention_map(x_BCTHW: Tensor) -> Tensor:
    """Compute `att(F)`, the sigmoid of the mean over channels: `B 1 T H W` (equation 3)."""
    return torch.sigmoid(x_BCTHW.mean(dim=1, keepdim=True))


def propagate_attention(maps: list[Tensor]) -> list[Tensor]:
    """Weight each map by the attention of the map after it, starting from the last map.

    This is equation 3 of the paper.
    """
    attended = [maps[-1]]
    for early in reversed(maps[:-1]):
        time, height, width = early.shape[2:]
        attention = attention_map(attended[0]).flatten(0, 2).unsqueeze(1)
        enlarged = functional.interpolate(
            attention, (height, width), mode="bilinear", align_corners=False
        )
        weights_B1THW = unfold_time(enlarged, time)
        attended.insert(0, early * (1 + weights_B1THW))
    return attended


def _aggregate(maps: list[Tensor], links: nn.ModuleDict) -> None:
    """Add higher-resolution maps, pooled and projected, to lower-resolution maps, in place."""
    for name, project in links.items():
        source, target = (int(part) for part in name.split("_"))
        height, width = maps[target].shape[3:]
        maps[target] = project(
            average_pool_space(maps[source], height, width), add=maps[target], relu=False
        )
