"""Figures of clip accuracy, by hand."""

import json

import pytest
import torch

from configs import DataError
from train.evaluation.clip_accuracy import ModelComparison, Predictions


def test_confusions_and_comparisons_by_hand() -> None:
    labels = ("a", "b", "c")
    truth = torch.tensor([0, 0, 1, 1, 2])
    first = Predictions(
        torch.tensor(
            [[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.5, 0.4, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]]
        ),
        truth,
        labels,
    )
    second = Predictions(torch.eye(3)[truth], truth, labels)
    assert first.confusion().tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert first.most_confused() == [("a", "b", 0.5)]
    comparison = ModelComparison.of(first, second)
    assert set(comparison.classes[:2]) == {("a", 0.5, 1.0), ("b", 0.5, 1.0)}
    assert comparison.classes[2] == ("c", 1.0, 1.0)
    assert comparison.pairs == (("a", "b", 0.5, 1.0),)
    assert comparison.summary()["pairs"] == {"a/b": [0.5, 1.0]}
    with pytest.raises(DataError, match="different videos"):
        ModelComparison.of(first, Predictions(second.probabilities_NK, truth.flip(0), labels))
    with pytest.raises(DataError, match="different labels"):
        ModelComparison.of(first, Predictions(second.probabilities_NK, truth, ("a", "b", "d")))


def test_accuracies_by_hand() -> None:
    labels = ("background", "fall", "get_up", "enter")
    probabilities = torch.tensor(
        [[0.6, 0.3, 0.1, 0.0], [0.5, 0.1, 0.4, 0.0], [0.1, 0.2, 0.6, 0.1], [0.9, 0.05, 0.03, 0.02]]
    )
    predictions = Predictions(probabilities, torch.tensor([1, 1, 2, 0]), labels, "background")
    assert predictions.top1() == 0.5
    assert predictions.actions_top1() == pytest.approx(2 / 3)
    assert predictions.pairwise_accuracy() == {"fall/get_up": pytest.approx(2 / 3)}
    assert predictions.per_class() == {"background": 1.0, "fall": 0.0, "get_up": 1.0}


def test_pairs_without_videos_are_left_out() -> None:
    labels = ("fall", "get_up", "enter", "leave")
    predictions = Predictions(torch.eye(4)[:2], torch.tensor([0, 0]), labels)
    assert predictions.pairwise_accuracy() == {"fall/get_up": 0.5}
    json.loads(json.dumps(predictions.summary(), allow_nan=False))
