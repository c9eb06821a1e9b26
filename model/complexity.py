"""Compare FLOPs and parameters of the networks with the paper's tables 1 to 3.

FLOPs are counted as in the paper: twice the multiply-accumulates of the convolutions and matrix
products for one 32 x 224 x 224 clip. PyTorch's FLOP counter counts them in a forward
pass on the meta device, which does no arithmetic.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch.utils.flop_counter import FlopCounterMode

from model.cidc_network import CIDCConfig
from model.network import ModelConfig, build_model

__all__ = ["NOT_COMPARED", "PAPER_NETWORKS", "Cost", "PaperNetwork", "measure", "measure_paper"]

_SIDE = 224


@dataclasses.dataclass(frozen=True)
class Cost:
    """The cost of a network: FLOPs per clip, all parameters, and parameters of its CIDC network."""

    flops: int
    parameters: int
    cidc_parameters: int


@dataclasses.dataclass(frozen=True)
class PaperNetwork:
    """A network in the paper's tables.

    Attributes:
        name, tables: name of the network in the paper, and the numbers of the tables that list it.
        model: configuration of the network in this project.
        gflops, mparameters: cost according to the paper, in units of 10^9 and 10^6.
        note: reason why the measured cost differs.
    """

    name: str
    tables: str
    model: ModelConfig
    gflops: float | None
    mparameters: float | None
    note: str = ""


_PUBLIC_CODE = (
    "public code of the same network has {}M; inflating 3x1x1 kernels cannot give the paper's {}M"
)
_MULTI_SCALE = (
    "the paper's widths are unknown; CIDC has 40.7M here; the paper's rows imply 41M to 61M"
)


def _network(
    name: str,
    tables: str,
    backbone: str,
    gflops: float | None,
    mparameters: float | None,
    note: str = "",
    *,
    non_local: bool = False,
    cidc: bool = False,
) -> PaperNetwork:
    fields = {"backbone": backbone, "non_local": non_local, "cidc": CIDCConfig() if cidc else None}
    return PaperNetwork(name, tables, ModelConfig.model_validate(fields), gflops, mparameters, note)


PAPER_NETWORKS: tuple[PaperNetwork, ...] = (
    _network("R2D", "1, 2, 3", "r2d", 42, 24),
    _network("R2D-NL", "1, 2", "r2d", 64, 31, non_local=True),
    _network("TSM", "1, 2, 3", "tsm", 65, 24, "the paper has 64G in table 1, 65G in 2 and 3"),
    _network("I3D", "1, 2, 3", "i3d", 65, 44, _PUBLIC_CODE.format(28, 44)),
    _network("I3D-NL", "1, 2", "i3d", 94, 62, _PUBLIC_CODE.format(35, 62), non_local=True),
    _network("CIDC on R2D", "1, 2, 3", "r2d", 72, 85, _MULTI_SCALE, cidc=True),
    _network("CIDC on R2D-NL", "1, 2", "r2d", 91, 90, _MULTI_SCALE, non_local=True, cidc=True),
    _network("CIDC on I3D", "1, 2, 3", "i3d", 92, 87, _MULTI_SCALE, cidc=True),
    _network("CIDC on I3D-NL", "1, 2", "i3d", 121, 103, _MULTI_SCALE, non_local=True, cidc=True),
    _network(
        "CIDC on SlowOnly",
        "2",
        "slow_only",
        101,
        None,
        "two columns of units: with its T = 8, four would cost 114G",
        cidc=True,
    ),
)

# This project can build these networks, but the numbers in the paper belong to other networks.
NOT_COMPARED: tuple[PaperNetwork, ...] = (
    _network(
        "TSN",
        "1, 2, 3",
        "tsn",
        19,
        11,
        "19G and 11M are not a ResNet-50's: one frame costs 8.2G; 8 segments here",
    ),
    _network("SlowOnly", "-", "slow_only", None, None, "not in the tables alone"),
)


def measure(config: ModelConfig) -> Cost:
    """Measure the cost of one clip of `config.frames` frames of 224 x 224."""
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        network = build_model(config).eval()
        network(torch.empty(1, 3, config.frames, _SIDE, _SIDE))
    cidc = sum(p.numel() for p in network.cidc.parameters()) if network.cidc is not None else 0
    return Cost(counter.get_total_flops(), sum(p.numel() for p in network.parameters()), cidc)


def measure_paper(
    networks: Sequence[PaperNetwork] = PAPER_NETWORKS,
) -> list[tuple[PaperNetwork, Cost]]:
    """Measure every network of the list."""
    return [(network, measure(network.model)) for network in networks]
