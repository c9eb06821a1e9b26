"""Measures whether probabilities mean what they say, and fits the temperature of a network.

Calibrated means: of all clips to which the network gives its best class 0.8, 80 % are of that
class. Sources: Guo et al., 2017, On Calibration of Modern Neural Networks (temperature, expected
calibration error); Kull et al., 2019, Beyond temperature scaling (classwise error).

Letters: N clips, K classes. Everything is computed in float64.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from configs import DataError
from model.spec import MAX_TEMPERATURE, MIN_TEMPERATURE

__all__ = [
    "BINS",
    "MIN_CLIPS",
    "MIN_WRONG",
    "Calibration",
    "ReliabilityBin",
    "fit_temperature",
    "negative_log_likelihood",
]

BINS = 15
# With fewer clips, or fewer clips that are classified wrong, the data do not say how sure the
# network may be: if every clip is right, the likelihood grows for ever as the temperature falls.
MIN_CLIPS = 50
MIN_WRONG = 5
_HALVINGS = 60
_SMALLEST = 1.2e-38  # a float32 softmax rounds smaller probabilities to 0


@dataclasses.dataclass(frozen=True)
class ReliabilityBin:
    """The clips whose best class has a probability above `low` and up to `high`.

    `confidence` is the mean of these probabilities, `accuracy` the fraction of these clips that is
    right; both are 0 if there are no such clips.
    """

    low: float
    high: float
    clips: int
    confidence: float
    accuracy: float


@dataclasses.dataclass(frozen=True)
class Calibration:
    """How well probabilities agree with what is true.

    Attributes:
        bins: 15 bins of equal width, by the probability of the best class.
        ece: expected calibration error: mean difference of confidence and accuracy over the bins,
            weighted by their clips.
        classwise_ece: the same for the probability of each class, not only of the best one; mean
            over classes.
        brier: mean squared distance of the probabilities from 0 and 1; from 0 to 2.
        nll: mean negative log-likelihood of the true class, in nats.
        confidence, accuracy: mean probability of the best class, and fraction that is right.
    """

    bins: tuple[ReliabilityBin, ...]
    ece: float
    classwise_ece: float
    brier: float
    nll: float
    confidence: float
    accuracy: float

    @classmethod
    def of(cls, probabilities_NK: Tensor, truth_N: Tensor) -> Calibration:
        """Measure the probabilities of at least one clip.

        Raises:
            DataError: there are no clips.
        """
        if not len(truth_N):
            raise DataError("calibration cannot be measured: there are no clips")
        probabilities = probabilities_NK.double()
        true_NK = torch.nn.functional.one_hot(truth_N, probabilities.shape[1]).double()
        best_N, index_N = probabilities.max(dim=1)
        right_N = (index_N == truth_N).double()
        bins = tuple(_bins(best_N, right_N))
        classwise = [
            _error(tuple(_bins(of_class, is_class)), len(truth_N))
            for of_class, is_class in zip(probabilities.T, true_NK.T, strict=True)
        ]
        of_truth = probabilities.gather(1, truth_N.unsqueeze(1)).clamp(min=_SMALLEST)
        return cls(
            bins=bins,
            ece=_error(bins, len(truth_N)),
            classwise_ece=sum(classwise) / len(classwise),
            brier=float((probabilities - true_NK).square().sum(dim=1).mean()),
            nll=float(-of_truth.log().mean()),
            confidence=float(best_N.mean()),
            accuracy=float(right_N.mean()),
        )

    def summary(self) -> dict[str, float]:
        """Return the figures, without the bins, as one JSON value."""
        names = ("ece", "classwise_ece", "brier", "nll", "confidence", "accuracy")
        return {name: round(float(getattr(self, name)), 4) for name in names}

    def reliability(self) -> list[dict[str, Any]]:
        """Return the bins as one JSON value."""
        return [
            {name: round(value, 4) for name, value in dataclasses.asdict(each).items()}
            for each in self.bins
        ]


def fit_temperature(logits_NK: Tensor, truth_N: Tensor) -> float:
    """Return the temperature with the smallest negative log-likelihood of the true classes.

    The likelihood is convex in 1 / temperature, so its slope has one zero, which is found by
    halving an interval. If it lies outside of the allowed temperatures, the nearest is returned.

    Raises:
        DataError: there are fewer than `MIN_CLIPS` clips, or fewer than `MIN_WRONG` wrong ones.
    """
    wrong = int((logits_NK.argmax(dim=1) != truth_N).sum())
    if len(truth_N) < MIN_CLIPS or wrong < MIN_WRONG:
        raise DataError(
            f"a temperature cannot be fitted to {len(truth_N)} clips, {wrong} of them wrong; it"
            f" needs {MIN_CLIPS} clips with {MIN_WRONG} wrong ones: use more or harder clips that"
            " training has not seen"
        )
    logits = logits_NK.double()
    of_truth = logits.gather(1, truth_N.unsqueeze(1)).squeeze(1)
    low, high = 1 / MAX_TEMPERATURE, 1 / MIN_TEMPERATURE
    for _ in range(_HALVINGS):
        inverse = (low + high) / 2
        expected = (torch.softmax(logits * inverse, dim=1) * logits).sum(dim=1)
        if float((expected - of_truth).mean()) > 0:
            high = inverse
        else:
            low = inverse
    return min(max(2 / (low + high), MIN_TEMPERATURE), MAX_TEMPERATURE)


def negative_log_likelihood(logits_NK: Tensor, truth_N: Tensor, temperature: float) -> float:
    """Return the mean negative log-likelihood of the true classes, in nats."""
    scaled = logits_NK.double() / temperature
    return float(torch.nn.functional.cross_entropy(scaled, truth_N))


def _bins(probabilities_N: Tensor, hits_N: Tensor) -> list[ReliabilityBin]:
    """Divide clips into bins that are closed above: a probability of 1 is in the last one."""
    places = (probabilities_N * BINS).ceil().long().clamp(1, BINS) - 1
    found = []
    for index in range(BINS):
        inside = places == index
        clips = int(inside.sum())
        confidence = float(probabilities_N[inside].mean()) if clips else 0.0
        accuracy = float(hits_N[inside].mean()) if clips else 0.0
        low, high = index / BINS, (index + 1) / BINS
        found.append(ReliabilityBin(low, high, clips, confidence, accuracy))
    return found


def _error(bins: tuple[ReliabilityBin, ...], clips: int) -> float:
    return sum(each.clips * abs(each.accuracy - each.confidence) for each in bins) / clips
