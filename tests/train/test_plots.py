"""Plots show names as they are, also those that Matplotlib would read as formulas."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from matplotlib.text import Text

from train.evaluation.clip_accuracy import ModelComparison, Predictions
from train.evaluation.plots import plot_ablations, plot_comparison, plot_confusion

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
