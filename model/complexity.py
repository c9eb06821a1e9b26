"""FLOPs and parameters of every network of the paper's tables 1 to 3 that can be built, beside the
paper's figures.

FLOPs are twice the multiply-accumulates of the convolutions and matrix products of one 32 x 224 x
224 clip, as the paper counts them: PyTorch's own counter over a forward pass on the meta device,
which computes nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch.utils.flop_counter import FlopCounterMode

from model.cidc_network import CIDCConfig
from model.network import ModelConfig, build_model

__all__ = ["NOT_COMPARED", "PAPER_ROWS", "Cost", "PaperRow", "measure", "measure_paper"]

_SIDE = 224


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one network costs: FLOPs of a clip, parameters, and those of the CIDC network alone."""

    flops: int
    parameters: int
    cidc_parameters: int


@dataclasses.dataclass(frozen=True)
class PaperRow:
    """A row of the paper: its name and tables, the network here, its figures in units of 10^9
    and 10^6, and why they differ.
    """

    name: str
    tables: str
    model: ModelConfig
    gflops: float | None
    mparameters: float | None
    note: str = ""


_CODE_HAS = (
    "public code of the same net has {}M; the paper's {}M cannot be reached by inflating 3x1x1"
    " kernels"
)
_GRID = "the figure's widths are lost; CIDC has 40.7M here; the paper's rows imply 41M to 61M"


def _row(
    name: str,
    tables: str,
    backbone: str,
    gflops: float | None,
    mparameters: float | None,
    note: str = "",
    *,
    non_local: bool = False,
    cidc: bool = False,
) -> PaperRow:
    fields = {"backbone": backbone, "non_local": non_local, "cidc": CIDCConfig() if cidc else None}
    return PaperRow(name, tables, ModelConfig.model_validate(fields), gflops, mparameters, note)


PAPER_ROWS: tuple[PaperRow, ...] = (
    _row("R2D", "1, 2, 3", "r2d", 42, 24),
    _row("R2D-NL", "1, 2", "r2d", 64, 31, non_local=True),
    _row("TSM", "1, 2, 3", "tsm", 65, 24, "the paper has 64G in table 1, 65G in tables 2 and 3"),
    _row("I3D", "1, 2, 3", "i3d", 65, 44, _CODE_HAS.format(28, 44)),
    _row("I3D-NL", "1, 2", "i3d", 94, 62, _CODE_HAS.format(35, 62), non_local=True),
    _row("CIDC on R2D", "1, 2, 3", "r2d", 72, 85, _GRID, cidc=True),
    _row("CIDC on R2D-NL", "1, 2", "r2d", 91, 90, _GRID, non_local=True, cidc=True),
    _row("CIDC on I3D", "1, 2, 3", "i3d", 92, 87, _GRID, cidc=True),
    _row("CIDC on I3D-NL", "1, 2", "i3d", 121, 103, _GRID, non_local=True, cidc=True),
    _row(
        "CIDC on SlowOnly",
        "2",
        "slow_only",
        101,
        None,
        "two columns of units: with its T = 8, four would cost 114G",
        cidc=True,
    ),
)

# Built, but the paper's figures are not of this network.
NOT_COMPARED: tuple[PaperRow, ...] = (
    _row(
        "TSN",
        "1, 2, 3",
        "tsn",
        19,
        11,
        "19G and 11M are not of a ResNet-50, whose single picture costs 8.2G; 8 segments here",
    ),
    _row("SlowOnly", "-", "slow_only", None, None, "not in the tables alone"),
)


def measure(config: ModelConfig) -> Cost:
    """Cost of one clip of `config.frames` frames of 224 x 224."""
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        network = build_model(config).eval()
        network(torch.empty(1, 3, config.frames, _SIDE, _SIDE))
    cidc = sum(p.numel() for p in network.cidc.parameters()) if network.cidc is not None else 0
    return Cost(counter.get_total_flops(), sum(p.numel() for p in network.parameters()), cidc)


def measure_paper(rows: Sequence[PaperRow] = PAPER_ROWS) -> list[tuple[PaperRow, Cost]]:
    """Every row with its cost."""
    return [(row, measure(row.model)) for row in rows]
