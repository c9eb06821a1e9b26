"""Draws results as PNG files: confusion, reliability, two models, ablations, events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from configs import readable
from train.evaluation.calibration import Calibration
from train.evaluation.clip_accuracy import ModelComparison, Predictions

__all__ = [
    "plot_ablations",
    "plot_comparison",
    "plot_confusion",
    "plot_events",
    "plot_reliability",
]

_FIRST = "#9aa5b1"
_SECOND = "#1f6feb"
_PAPER = "#d29922"
_MAX_NAMED_CLASSES = 40  # a confusion matrix with more classes is drawn without class names


def plot_confusion(predictions: Predictions, path: Path, *, name: str = "") -> None:
    """Draw the confusion matrix: true classes as rows, predicted classes as columns.

    Args:
        name: name of the model, for the title.
    """
    counts_KK = predictions.confusion().numpy().astype(float)
    fractions_KK = counts_KK / np.maximum(counts_KK.sum(axis=1, keepdims=True), 1)
    classes = len(predictions.labels)
    side = min(14.0, 3.0 + 0.4 * classes)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    facts = f"top-1 {predictions.top1():.3f}, {len(predictions.truth_N)} videos"
    image = axes.imshow(fractions_KK, cmap="Blues", vmin=0, vmax=1)
    axes.set(
        xlabel="predicted class",
        ylabel="true class",
        title=", ".join([*_plain([name] if name else []), facts]),
    )
    if classes <= _MAX_NAMED_CLASSES:
        axes.set_xticks(range(classes), _plain(predictions.labels), rotation=90)
        axes.set_yticks(range(classes), _plain(predictions.labels))
        for (row, column), fraction in np.ndenumerate(fractions_KK):
            if fraction >= 0.005:
                axes.text(
                    column,
                    row,
                    f"{fraction:.2f}",
                    ha="center",
                    va="center",
                    fontsize=7,
                    color="white" if fraction > 0.5 else "black",
                )
    figure.colorbar(image, ax=axes, shrink=0.8, label="fraction of the true class")
    figure.savefig(path, dpi=120, format="png")


def plot_comparison(
    comparison: ModelComparison, names: tuple[str, str], path: Path, *, max_classes: int = 20
) -> None:
    """Draw the accuracy of two models per class and on pairs of classes (paper, table 6).

    Args:
        names: names of the two models.
        max_classes: maximum number of classes to draw; those with the largest difference are drawn.
    """
    classes = sorted(comparison.classes, key=lambda row: -abs(row[2] - row[1]))[:max_classes]
    classes.sort(key=lambda row: row[2] - row[1])
    pairs = comparison.pairs[::-1]
    names = (_plain(names)[0], _plain(names)[1])
    height = 1.6 + 0.32 * max(len(classes), len(pairs), 3)
    figure = Figure(figsize=(13, height), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_paired_bars(left, [label for label, _, _ in classes], [row[1:] for row in classes], names)
    left.set(title="top-1 by class", xlim=(0, 1))
    _draw_paired_bars(
        right, [f"{a} / {b}" for a, b, _, _ in pairs], [row[2:] for row in pairs], names
    )
    right.set(title=f"pairwise accuracy, pairs that {names[0]} confuses most", xlim=(0, 1))
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower right")
    figure.savefig(path, dpi=120, format="png")


def plot_ablations(rows: Sequence[Mapping[str, Any]], path: Path, *, title: str) -> None:
    """Draw top-1 and pairwise accuracy with their spread over seeds, one panel for each table.

    Args:
        rows: result rows, as returned by `train.ablations.result_rows`.
    """
    tables = list(dict.fromkeys(row["table"] for row in rows))
    heights = [sum(row["table"] == table for row in rows) for table in tables]
    height = 1.0 + 0.55 * sum(heights) + 0.6 * len(tables)
    figure = Figure(figsize=(9, height), layout="constrained")
    figure.suptitle(_plain([title])[0])
    grid = figure.subplots(len(tables), 1, sharex=True, squeeze=False, height_ratios=heights)
    panels = grid[:, 0]
    for axes, table in zip(panels, tables, strict=True):
        _draw_table_bars(axes, [row for row in rows if row["table"] == table][::-1])
        axes.set_title(table, fontsize=10)
    panels[-1].set_xlabel("per cent, mean and standard deviation over seeds")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower right", fontsize=8)
    figure.savefig(path, dpi=120, format="png")


def _draw_table_bars(axes: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    places = np.arange(len(rows))
    for offset, key, colour, label in (
        (0.18, "top1", _SECOND, "top-1"),
        (-0.18, "pairs", _FIRST, "pairwise accuracy, time-reversed pairs"),
    ):
        if not all(row[key] for row in rows):
            continue
        axes.barh(
            places + offset,
            [row[key][0] for row in rows],
            0.34,
            xerr=[row[key][1] or 0.0 for row in rows],
            color=colour,
            label=label,
            error_kw={"capsize": 3},
        )
    axes.set_yticks(places, _plain([row["row"] for row in rows]))
    axes.set_xlim(0, 100)
    axes.set_axisbelow(True)
    axes.grid(axis="x", alpha=0.3)


def plot_events(summaries: Mapping[float, Mapping[str, Any]], path: Path) -> None:
    """Draw precision, recall and F1 of events against the tolerance of the start time.

    Args:
        summaries: results of `EventMetrics.summary()`, by tolerance in seconds.
    """
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for key, colour in (("precision", _FIRST), ("recall", _PAPER), ("f1", _SECOND)):
        axes.plot(
            list(summaries),
            [summary[key] for summary in summaries.values()],
            marker="o",
            color=colour,
            label=key.replace("f1", "F1"),
        )
    axes.set(
        xlabel="tolerance of the start time, seconds",
        ylim=(0, 1.02),
        title="events compared with the truth",
    )
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120, format="png")


def plot_reliability(calibrations: Mapping[str, Calibration], path: Path) -> None:
    """Draw accuracy against confidence, one panel each, with the number of videos in every bin.

    Bars below the diagonal are probabilities that are too high, bars above it too low ones. Dots
    lie at the mean confidence of their bins; their areas grow with the videos.

    Args:
        calibrations: the titles of the panels, and what they show.
    """
    count = len(calibrations)
    figure = Figure(figsize=(4.6 * count + 0.4, 5.4), layout="constrained")
    panels = figure.subplots(2, count, sharex=True, squeeze=False, height_ratios=(3, 1))
    for (top, below), (title, found) in zip(panels.T, calibrations.items(), strict=True):
        middles = [(each.low + each.high) / 2 for each in found.bins]
        filled = [each for each in found.bins if each.clips]
        width = 1 / len(found.bins)
        top.bar(
            middles, [each.accuracy for each in found.bins], width, color=_FIRST, edgecolor="white"
        )
        top.plot((0, 1), (0, 1), color="black", linewidth=1, linestyle="--")
        # A bin of a few videos says little, so the area of its dot is small.
        top.scatter(
            [each.confidence for each in filled],
            [each.accuracy for each in filled],
            s=[8 + 192 * each.clips / max(bins.clips for bins in filled) for each in filled],
            color=_SECOND,
            zorder=3,
        )
        top.set(
            title=f"{_plain([title])[0]}: ECE {found.ece:.3f}",
            ylabel="fraction that is right",
            xlim=(0, 1),
            ylim=(0, 1),
        )
        below.bar(middles, [each.clips for each in found.bins], width, color=_FIRST)
        below.set(xlabel="probability of the best class", ylabel="videos")
    figure.savefig(path, dpi=120, format="png")


def _draw_paired_bars(
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
    axes.set_yticks(places, _plain(labels))
    axes.grid(axis="x", alpha=0.3)


def _plain(texts: Sequence[str]) -> list[str]:
    """Return texts that Matplotlib draws as they are; it reads what is between $ as formulas."""
    return [readable(text).replace("$", r"\$") for text in texts]
