"""Plots show names as they are, also those that Matplotlib would read as formulas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.text import Text

from train.evaluation.calibration import Calibration
from train.evaluation.clip_accuracy import ModelComparison, Predictions
from train.evaluation.plots import (
    plot_ablations,
    plot_comparison,
    plot_confusion,
    plot_reliability,
)

ODD = r"$\frac{1$ a_b"


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The texts that Matplotlib draws as plain text, not as a formula."""
    found: set[str] = set()
    preprocess = Text._preprocess_math

    def record(self: Text, text: str) -> tuple[str, bool | str]:
        shown, is_math = preprocess(self, text)
        if not is_math:
            found.add(shown)
        return shown, is_math

    monkeypatch.setattr(Text, "_preprocess_math", record)
    return found


def test_labels_are_drawn_as_they_are(drawn: set[str], tmp_path: Path) -> None:
    predictions = Predictions(
        torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([0, 1]), (ODD, "b\x1b")
    )
    plot_confusion(predictions, tmp_path / "a.png")
    assert {ODD, r"b\x1b"} <= drawn


def test_names_of_models_and_rows_are_drawn_as_they_are(drawn: set[str], tmp_path: Path) -> None:
    comparison = ModelComparison(classes=((ODD, 0.5, 0.6),), pairs=((ODD, "b", 0.5, 0.6),))
    plot_comparison(comparison, (ODD, "b"), tmp_path / "a.png")
    assert {ODD, f"{ODD} / b", f"pairwise accuracy, pairs that {ODD} confuses most"} <= drawn
    drawn.clear()
    row = {"table": "t", "row": ODD, "top1": (50.0, 1.0), "pairs": None}
    plot_ablations([row], tmp_path / "b.png", title=f"{ODD} title")
    assert {ODD, f"{ODD} title"} <= drawn


def test_the_reliability_is_drawn_as_it_was_measured(
    drawn: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heights: list[list[float]] = []
    draw = Axes.bar

    def record(self: Axes, *arguments: Any, **options: Any) -> Any:
        heights.append(list(arguments[1]))
        return draw(self, *arguments, **options)

    monkeypatch.setattr(Axes, "bar", record)
    one = Calibration.of(
        torch.tensor([[0.9, 0.1], [0.1, 0.9], [0.62, 0.38]]), torch.tensor([0, 0, 0])
    )
    other = Calibration.of(torch.tensor([[0.9, 0.1]]), torch.tensor([0]))
    plot_reliability({ODD: one, "b": other}, tmp_path / "a.png")
    assert {f"{ODD}: ECE {one.ece:.3f}", f"b: ECE {other.ece:.3f}"} <= drawn
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    accuracy, clips = heights[:2]
    assert (sum(clips), len(heights)) == (3, 4)
    filled = {index: (clips[index], accuracy[index]) for index in range(15) if clips[index]}
    assert filled == {9: (1, 1.0), 13: (2, 0.5)}
