"""Formats measured costs beside those of the paper, for the command and for its JSON file."""

from __future__ import annotations

from typing import Any

from model.complexity import Cost, PaperNetwork

__all__ = ["COLUMNS", "RIVAL_COLUMNS", "cells", "facts", "rival_cells"]

COLUMNS = (
    *("network", "tables", "GFLOPs", "paper", "differ"),
    *("M params", "paper", "differ", "CIDC params", "remark"),
)
RIVAL_COLUMNS = (
    *("network", "tables", "clip", "unit", "10^9", "published", "differ"),
    *("M params", "published", "differ", "remark"),
)


def facts(row: PaperNetwork, cost: Cost, *, compared: bool) -> dict[str, Any]:
    """Return what is known about a network, for a JSON file.

    Costs are numbers of FLOPs, or of multiply-accumulates where the published figure counts them.
    """
    flops = cost.flops if row.unit == "FLOPs" else cost.flops // 2
    paper_flops = None if row.gflops is None else round(row.gflops * 1e9)
    paper_parameters = None if row.mparameters is None else round(row.mparameters * 1e6)
    return {
        "network": row.name,
        "tables": row.tables,
        "compared": compared and paper_flops is not None,
        "frames": row.model.frames,
        "side": row.side,
        "unit": row.unit,
        "flops": flops,
        "paper_flops": paper_flops,
        "flops_difference": flops / paper_flops - 1 if compared and paper_flops else None,
        "parameters": cost.parameters,
        "paper_parameters": paper_parameters,
        "parameters_difference": (
            cost.parameters / paper_parameters - 1 if compared and paper_parameters else None
        ),
        "cidc_parameters": cost.cidc_parameters,
        "note": row.note,
        "model": row.model.model_dump(),
    }


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """Return the cells of a network of the paper, from its facts."""
    return (
        row["network"],
        row["tables"],
        _number(row["flops"], 1e9),
        _number(row["paper_flops"], 1e9, 0),
        _per_cent(row["flops_difference"]),
        _number(row["parameters"], 1e6),
        _number(row["paper_parameters"], 1e6, 0),
        _per_cent(row["parameters_difference"]),
        _number(row["cidc_parameters"] or None, 1e6),
        row["note"],
    )


def rival_cells(row: dict[str, Any]) -> tuple[str, ...]:
    """Return the cells of a network of others, from its facts."""
    return (
        row["network"],
        row["tables"],
        f"{row['frames']} x {row['side']} x {row['side']}",
        row["unit"],
        _number(row["flops"], 1e9),
        _number(row["paper_flops"], 1e9),
        _per_cent(row["flops_difference"]),
        _number(row["parameters"], 1e6),
        _number(row["paper_parameters"], 1e6),
        _per_cent(row["parameters_difference"]),
        row["note"],
    )


def _number(value: float | None, unit: float, digits: int = 1) -> str:
    return "-" if value is None else f"{value / unit:.{digits}f}"


def _per_cent(value: float | None) -> str:
    """Format a relative difference in per cent; mark it if it is above 5 %."""
    if value is None:
        return ""
    return f"{value:+.1%}" if abs(value) <= 0.05 else f"{value:+.0%} !"
