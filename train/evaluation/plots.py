"""Pictures of results, as PNG files: confusion matrix, two models side by side, ablations,
events by tolerance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from train.evaluation.clip_accuracy import Comparison, Scores

__all__ = ["plot_comparison", "plot_confusion", "plot_events", "plot_rows"]

_FIRST = "#9aa5b1"
_SECOND = "#1f6feb"
_PAPER = "#d29922"
_MOST_NAMED = 40  # more classes than this are not named on a confusion matrix


def plot_confusion(scores: Scores, path: Path) -> None:
    """Shares of each true class (rows) taken for each class (columns)."""
    counts_KK = scores.confusion().numpy().astype(float)
    shares_KK = counts_KK / np.maximum(counts_KK.sum(axis=1, keepdims=True), 1)
    classes = len(scores.labels)
    side = min(14.0, 3.0 + 0.4 * classes)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares_KK, cmap="Blues", vmin=0, vmax=1)
    axes.set(
        xlabel="taken for",
        ylabel="true class",
        title=f"top-1 {scores.top1():.3f}, {len(scores.truth_N)} videos",
    )
    if classes <= _MOST_NAMED:
        axes.set_xticks(range(classes), scores.labels, rotation=90)
        axes.set_yticks(range(classes), scores.labels)
        for (row, column), share in np.ndenumerate(shares_KK):
            if share >= 0.005:
                axes.text(
                    column,
                    row,
                    f"{share:.2f}",
                    ha="center",
                    va="center",
                    fontsize=7,
                    color="white" if share > 0.5 else "black",
                )
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the true class")
    figure.savefig(path, dpi=120, format="png")


def plot_comparison(
    comparison: Comparison, names: tuple[str, str], path: Path, *, most: int = 20
) -> None:
    """Top-1 of two models by class (those that differ most) and on the pairs that the first
    confuses most (paper, table 6).
    """
    classes = sorted(comparison.classes, key=lambda row: -abs(row[2] - row[1]))[:most]
    classes.sort(key=lambda row: row[2] - row[1])
    pairs = comparison.pairs[::-1]
    height = 1.6 + 0.32 * max(len(classes), len(pairs), 3)
    figure = Figure(figsize=(13, height), layout="constrained")
    left, right = figure.subplots(1, 2)
    _paired_bars(left, [label for label, _, _ in classes], [row[1:] for row in classes], names)
    left.set(title="top-1 by class", xlim=(0, 1))
    _paired_bars(right, [f"{a} / {b}" for a, b, _, _ in pairs], [row[2:] for row in pairs], names)
    right.set(title=f"right one of the two, pairs that {names[0]} confuses most", xlim=(0, 1))
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower right")
    figure.savefig(path, dpi=120, format="png")


def plot_rows(rows: Sequence[Mapping[str, Any]], path: Path, *, title: str) -> None:
    """Rows of `train.ablations.result_rows`: top-1 and accuracy within pairs with their spread
    over seeds, one panel a table.
    """
    tables = list(dict.fromkeys(row["table"] for row in rows))
    heights = [sum(row["table"] == table for row in rows) for table in tables]
    figure = Figure(
        figsize=(9, 1.0 + 0.55 * sum(heights) + 0.6 * len(tables)), layout="constrained"
    )
    figure.suptitle(title)
    panels = figure.subplots(len(tables), 1, sharex=True, squeeze=False, height_ratios=heights)[
        :, 0
    ]
    for axes, table in zip(panels, tables, strict=True):
        mine = [row for row in rows if row["table"] == table][::-1]
        places = np.arange(len(mine))
        for offset, key, colour, label in (
            (0.18, "top1", _SECOND, "top-1"),
            (-0.18, "pairs", _FIRST, "within time-reversed pairs"),
        ):
            if all(row[key] for row in mine):
                means, spreads = zip(
                    *((mean, spread or 0.0) for mean, spread in (row[key] for row in mine)),
                    strict=True,
                )
                axes.barh(
                    places + offset,
                    means,
                    0.34,
                    xerr=spreads,
                    color=colour,
                    label=label,
                    error_kw={"capsize": 3},
                )
        axes.set_yticks(places, [row["row"] for row in mine])
        axes.set_title(table, fontsize=10)
        axes.set_xlim(0, 100)
        axes.set_axisbelow(True)
        axes.grid(axis="x", alpha=0.3)
    panels[-1].set_xlabel("per cent, mean and standard deviation over seeds")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower right", fontsize=8)
    figure.savefig(path, dpi=120, format="png")


def plot_events(scores: Mapping[float, Mapping[str, Any]], path: Path) -> None:
    """Precision, recall and F1 of events by the tolerance of their start; `scores` maps seconds
    to `EventScore.summary()`.
    """
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for key, colour in (("precision", _FIRST), ("recall", _PAPER), ("f1", _SECOND)):
        axes.plot(
            list(scores),
            [score[key] for score in scores.values()],
            marker="o",
            color=colour,
            label=key.replace("f1", "F1"),
        )
    axes.set(
        xlabel="tolerance of the start, seconds", ylim=(0, 1.02), title="events against the truth"
    )
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120, format="png")


def _paired_bars(
    axes: Any, labels: Sequence[str], values: Sequence[Sequence[float]], names: tuple[str, str]
) -> None:
    places = np.arange(len(labels))
    for index, (offset, colour) in enumerate(((0.18, _FIRST), (-0.18, _SECOND))):
        axes.barh(
            places + offset,
            [value[index] for value in values],
            0.34,
            color=colour,
            label=names[index],
        )
    axes.set_yticks(places, labels)
    axes.grid(axis="x", alpha=0.3)
