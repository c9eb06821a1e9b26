"""The ablation tables of the paper: the network and the published accuracy of each row."""

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


@dataclasses.dataclass(frozen=True)
class PaperTable:
    """A table of the paper; each column is a data set, each row a network."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[PaperRow, ...]


_DATASETS = ("UCF-101", "HMDB-51", "Kinetics-400")
_AVERAGE_POOLING = (92.9, 69.1, 73.8)
_FULL_NETWORK = (97.2, 74.9, 74.5)

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
}
