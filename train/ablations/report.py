"""Formats the results of the ablations as rows and as Markdown, with the paper's figures."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from train.ablations.config import AblationConfig
from train.ablations.paper_tables import PAPER_TABLES
from train.ablations.runs import RunResult
from train.ablations.variants import model_of, variants

__all__ = ["cells", "header", "markdown", "result_rows", "tables_of"]


def result_rows(
    config: AblationConfig, results: Mapping[str, Sequence[RunResult]]
) -> list[dict[str, Any]]:
    """Return the measured accuracies for each row of the configured tables.

    An accuracy is a pair: mean and standard deviation over seeds, in per cent.
    """
    names = {model.model_dump_json(): name for name, model in variants(config).items()}
    rows = []
    for key in config.tables:
        table = PAPER_TABLES[key]
        for row in table.rows:
            found = results[names[model_of(row, config).model_dump_json()]]
            pairs = [100 * result.pairs for result in found if result.pairs is not None]
            rows.append(
                {
                    "table": table.title,
                    "row": row.name,
                    "top1": _mean_and_spread([100 * result.top1 for result in found]),
                    "pairs": _mean_and_spread(pairs) if pairs else None,
                    "paper": dict(zip(table.columns, row.paper, strict=True)),
                }
            )
    return rows


def tables_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Group result rows by the title of their table."""
    tables: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        tables.setdefault(row["table"], []).append(row)
    return tables


def header(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the column titles of a table with these rows."""
    paper = [f"paper, {column}" for column in rows[0]["paper"]]
    return ["", "top-1", "pairwise accuracy", *paper]


def cells(row: Mapping[str, Any]) -> list[str]:
    """Return a row as text, one cell for each column of the header."""
    paper = ["" if figure is None else str(figure) for figure in row["paper"].values()]
    return [row["row"], _cell(row["top1"]), _cell(row["pairs"]), *paper]


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows as one Markdown table for each of the paper's tables."""
    lines: list[str] = []
    for title, mine in tables_of(rows).items():
        columns = header(mine)
        lines += [f"**{title}**", "", _line(columns), "|---" * len(columns) + "|"]
        lines += [_line(cells(row)) for row in mine]
        lines.append("")
    return "\n".join(lines)


def _line(texts: Sequence[str]) -> str:
    return "| " + " | ".join(texts) + " |"


def _mean_and_spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Return mean and standard deviation; a single value has no deviation."""
    spread = round(statistics.stdev(values), 2) if len(values) > 1 else None
    return round(statistics.fmean(values), 2), spread


def _cell(value: tuple[float, float | None] | None) -> str:
    """Format mean and standard deviation; leave out a value that is None."""
    if value is None:
        return ""
    mean, spread = value
    return f"{mean:.1f}" if spread is None else f"{mean:.1f} ± {spread:.1f}"
