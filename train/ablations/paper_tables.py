"""The tables of the paper: the network and the published accuracy of each row."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

__all__ = ["PAPER_TABLES", "PaperRow", "PaperTable"]


@dataclasses.dataclass(frozen=True)
class PaperRow:
    """A row of a table: the settings that its network changes in `model` and `model.cidc`.

    If `cidc` is None, the network has no CIDC part. `paper` holds the paper's top-1 accuracies in
    per cent, one for each column of the table.
    """

    name: str
    model: Mapping[str, Any]
    cidc: Mapping[str, Any] | None
    paper: tuple[float | None, ...] = ()


def _network(
    name: str,
    backbone: str,
    paper: tuple[float | None, ...],
    *,
    cidc: bool = False,
    **fields: Any,
) -> PaperRow:
    """Return a row of tables 1 to 3: a network that does not depend on the run's backbone."""
    model = {"backbone": backbone, "entry": None, "non_local": False, **fields}
    return PaperRow(name, model, {} if cidc else None, paper)


@dataclasses.dataclass(frozen=True)
class PaperTable:
    """A table of the paper; each column is a data set, each row a network."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[PaperRow, ...]


_DATASETS = ("UCF-101", "HMDB-51", "Kinetics-400")
_AVERAGE_POOLING = (92.9, 69.1, 73.8)
_FULL_NETWORK = (97.2, 74.9, 74.5)
_UNKNOWN = (None, None, None, None)
_NL = {"non_local": True}

PAPER_TABLES: dict[str, PaperTable] = {
    "4a": PaperTable(
        "Table 4a: parts of the CIDC network",
        _DATASETS,
        (
            PaperRow("backbone, average pooling", {}, None, _AVERAGE_POOLING),
            PaperRow("single-scale", {}, {"scales": "single"}, (95.2, 73.6, 74.0)),
            PaperRow("multi-scale", {}, {"scales": "multi"}, (95.9, 74.1, 74.4)),
            PaperRow("multi-scale, attention", {}, {"scales": "multi_attention"}, _FULL_NETWORK),
        ),
    ),
    "4b": PaperTable(
        "Table 4b: direction",
        _DATASETS,
        (
            PaperRow("backbone, average pooling", {}, None, _AVERAGE_POOLING),
            PaperRow("no direction", {}, {"direction": "none"}, (94.1, 72.5, 73.9)),
            PaperRow("one direction", {}, {"direction": "uni"}, (95.5, 73.1, 74.2)),
            PaperRow("two directions", {}, {"direction": "bi"}, _FULL_NETWORK),
        ),
    ),
    "5a": PaperTable(
        "Table 5a: other temporal models",
        _DATASETS,
        (
            PaperRow("backbone, average pooling", {}, None, _AVERAGE_POOLING),
            PaperRow("LSTM", {"head": "lstm"}, None, (63.2, 31.3, 63.4)),
            PaperRow("self-attention", {"head": "self_attention"}, None, (94.7, 69.7, 74.2)),
            PaperRow("CIDC", {}, {}, (95.3, 73.6, 74.5)),
        ),
    ),
    "5b": PaperTable(
        "Table 5b: fusion with the backbone's map",
        ("Kinetics-400",),
        (
            PaperRow("backbone, average pooling", {}, None, (73.8,)),
            PaperRow("along time", {}, {"fusion": "time"}, (74.5,)),
            PaperRow("along channels", {}, {"fusion": "channels"}, (74.1,)),
            PaperRow("sum", {}, {"fusion": "sum"}, (73.7,)),
        ),
    ),
    "normalisation": PaperTable(
        "Normalisation of the mixing weights (not in the paper)",
        (),
        (
            PaperRow("affine", {}, {"normalisation": "affine"}),
            PaperRow("minmax", {}, {"normalisation": "minmax"}),
        ),
    ),
    # Keep this table last: its rows must not name networks of the tables above.
    "networks": PaperTable(
        "Tables 1 to 3: networks",
        ("HMDB-51", "UCF-101", "Kinetics-400", "Something-Something V2"),
        (
            _network("R2D", "r2d", (69.0, 92.6, 70.2, 35.5)),
            _network("R2D-NL", "r2d", (72.5, 93.3, 72.4, None), **_NL),
            _network("TSN", "tsn", (64.7, 91.7, 70.6, 30.0)),
            _network("TSM", "tsm", (73.5, 95.9, 74.1, 63.4)),
            _network("I3D", "i3d", (69.1, 92.9, 73.8, 49.6)),
            _network("I3D-NL", "i3d", (72.2, 94.6, 75.2, None), **_NL),
            _network("TRN", "tsn", _UNKNOWN, head="trn"),
            _network("MS-TRN", "tsn", (None, None, None, 48.8), head="trn_multiscale"),
            _network("Fine-grain", "i3d", (None, None, None, 53.4), head="filter_bank"),
            # Its smallest depth is 50, whatever the run's is.
            _network("bLVNet", "blvnet_tam", (None, None, 74.3, 61.7), depth=50),
            _network("SlowFast 4x16", "slowfast_4x16", (None, None, 75.3, None)),
            _network("SlowFast 8x8", "slowfast_8x8", _UNKNOWN),
            _network("CIDC on R2D", "r2d", (72.6, 95.6, 72.2, 40.2), cidc=True),
            _network("CIDC on R2D-NL", "r2d", (73.3, 95.9, 72.8, None), cidc=True, **_NL),
            _network("CIDC on I3D", "i3d", (74.9, 97.2, 74.5, 56.3), cidc=True),
            _network("CIDC on I3D-NL", "i3d", (75.2, 97.9, 75.6, None), cidc=True, **_NL),
            _network("CIDC on SlowOnly", "slow_only", (None, None, 75.5, None), cidc=True),
            _network("CIDC on SlowFast 4x16", "slowfast_4x16", _UNKNOWN, cidc=True),
            _network("CIDC on SlowFast 8x8", "slowfast_8x8", _UNKNOWN, cidc=True),
        ),
    ),
}
