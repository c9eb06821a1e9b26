"""Compare FLOPs and parameters of the networks with the paper's tables 1 to 3.

FLOPs are counted as in the paper: twice the multiply-accumulates of the convolutions and matrix
products for one 32 x 224 x 224 clip. PyTorch's FLOP counter counts them in a forward
pass on the meta device, which does no arithmetic. For networks of others, the paper copies their
authors' figures, which count multiply-accumulates once and some of them larger clips.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

import torch
from torch.utils.flop_counter import FlopCounterMode

from model.cidc_network import CIDCConfig
from model.network import ModelConfig, build_model

__all__ = [
    "NOT_COMPARED",
    "PAPER_NETWORKS",
    "RIVALS",
    "Cost",
    "PaperNetwork",
    "measure",
    "measure_paper",
]


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
        note: reason why the measured cost differs, or the source of figures.
        side: height and width of the clip, in pixels.
        unit: `FLOPs` for twice the multiply-accumulates, `MACs` if they are counted once.
    """

    name: str
    tables: str
    model: ModelConfig
    gflops: float | None
    mparameters: float | None
    note: str = ""
    side: int = 224
    unit: Literal["FLOPs", "MACs"] = "FLOPs"


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


def _rival(
    name: str,
    tables: str,
    fields: dict[str, object],
    gflops: float | None,
    mparameters: float | None,
    note: str,
    *,
    side: int = 224,
    unit: Literal["FLOPs", "MACs"] = "MACs",
) -> PaperNetwork:
    model = ModelConfig.model_validate({"cidc": None} | fields)
    return PaperNetwork(name, tables, model, gflops, mparameters, note, side, unit)


_SOMETHING = {"num_classes": 174}
_PARAMETERS = "parameters: model list of mmaction2"
_WITH_CIDC = "table 2 has 101G for `Ours (Slowonly)`, and the text names Slowfast"

# Networks of others in the tables, with their authors' way of counting.
RIVALS: tuple[PaperNetwork, ...] = (
    _rival(
        "SlowFast 4x16",
        "2",
        {"backbone": "slowfast_4x16"},
        36.1,
        34.5,
        f"GMACs: SlowFast paper; {_PARAMETERS}",
        side=256,
    ),
    _rival(
        "SlowFast 8x8",
        "-",
        {"backbone": "slowfast_8x8"},
        65.7,
        34.6,
        f"GMACs: SlowFast paper; {_PARAMETERS}",
        side=256,
    ),
    *(
        _rival(
            f"CIDC on SlowFast {size}",
            "-",
            {"backbone": f"slowfast_{size}", "cidc": CIDCConfig()},
            None,
            None,
            _WITH_CIDC,
            unit="FLOPs",
        )
        for size in ("4x16", "8x8")
    ),
    _rival(
        "bLVNet-TAM 16x2",
        "3",
        {"backbone": "blvnet_tam", **_SOMETHING},
        48,
        None,
        "GMACs: table 3",
    ),
    _rival(
        "bLVNet-TAM 24x2",
        "2",
        {"backbone": "blvnet_tam", "frames": 48},
        93,
        None,
        "GMACs: table 2; they fit 48 frames",
        side=256,
    ),
    _rival("TRN", "-", {"backbone": "tsn", "head": "trn", **_SOMETHING}, None, None, "8 frames"),
    _rival(
        "TRN, multi-scale",
        "3",
        {"backbone": "tsn", "head": "trn_multiscale", **_SOMETHING},
        33,
        26.64,
        f"8 frames; GMACs: table 3; {_PARAMETERS}",
    ),
    _rival(
        "Fine-grained on I3D",
        "3",
        {"backbone": "i3d", "head": "filter_bank", **_SOMETHING},
        69,
        None,
        "without the branch of higher resolution",
        unit="FLOPs",
    ),
)


def measure(config: ModelConfig, *, side: int = 224) -> Cost:
    """Measure the cost of one clip of `config.frames` frames of `side x side`."""
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        network = build_model(config).eval()
        network(torch.empty(1, 3, config.frames, side, side))
    cidc = sum(p.numel() for p in network.cidc.parameters()) if network.cidc is not None else 0
    return Cost(counter.get_total_flops(), sum(p.numel() for p in network.parameters()), cidc)


def measure_paper(
    networks: Sequence[PaperNetwork] = PAPER_NETWORKS,
) -> list[tuple[PaperNetwork, Cost]]:
    """Measure every network of the list."""
    return [(network, measure(network.model, side=network.side)) for network in networks]
