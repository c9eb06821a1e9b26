"""Measures accuracy on labelled clips: top-1, per class, and on pairs of similar classes.

Letters: B clips, K classes, N videos, V views of a video.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from configs import DataError, MediaError
from model.calibration import probabilities_of
from model.media.preprocess import PreprocessConfig, normalise_clips
from model.network import ActionNetwork
from train.data.clip_plan import EvaluationViews
from train.data.loader import batches
from train.data.manifest import ManifestEntry
from train.data.readers import ClipReader
from train.evaluation.calibration import Calibration, fit_temperature
from train.synthetic.actions import PAIRS

__all__ = [
    "ModelComparison",
    "Predictions",
    "evaluate_network",
    "parse_views",
    "predictions_of",
]

_BATCH = 16


@dataclasses.dataclass(frozen=True)
class Predictions:
    """The predictions of a network for labelled videos, with methods that measure accuracy.

    `probabilities_NK` are the probabilities of the classes; `truth_N` are the indices of the true
    classes in `labels`. `logits_NVK` are the logits of all views, if they were kept.
    """

    probabilities_NK: Tensor
    truth_N: Tensor
    labels: tuple[str, ...]
    background: str | None = None
    logits_NVK: Tensor | None = None

    def at_temperature(self, temperature: float) -> Predictions:
        """Return the predictions with the logits divided by a temperature.

        The probabilities of a video are the mean over its views. The logits must have been kept.
        """
        assert self.logits_NVK is not None
        views = probabilities_of(self.logits_NVK.flatten(0, 1), temperature)
        probabilities_NK = views.view(self.logits_NVK.shape).mean(dim=1)
        return dataclasses.replace(self, probabilities_NK=probabilities_NK)

    def fit_temperature(self) -> float:
        """Return the temperature that fits the logits best; each view counts as a clip.

        Raises:
            DataError: there are too few clips, or too few wrong ones.
        """
        assert self.logits_NVK is not None
        views = self.logits_NVK.shape[1]
        return fit_temperature(self.logits_NVK.flatten(0, 1), self.truth_N.repeat_interleave(views))

    def calibration(self) -> Calibration:
        """Measure whether the probabilities of the videos mean what they say.

        Raises:
            DataError: there are no videos.
        """
        return Calibration.of(self.probabilities_NK, self.truth_N)

    def top1(self) -> float:
        """Return the fraction of videos whose most probable class is the true one."""
        return _mean(self.probabilities_NK.argmax(1) == self.truth_N)

    def top5(self) -> float:
        """Return the fraction of videos whose true class is among the five most probable ones."""
        best = self.probabilities_NK.topk(min(5, len(self.labels)), dim=1).indices
        return _mean((best == self.truth_N.unsqueeze(1)).any(1))

    def actions_top1(self) -> float:
        """Return top-1 without background: only videos of actions and only action classes count."""
        classes = [index for index, label in enumerate(self.labels) if label != self.background]
        chosen = torch.isin(self.truth_N, torch.tensor(classes))
        best = torch.tensor(classes)[self.probabilities_NK[chosen][:, classes].argmax(1)]
        return _mean(best == self.truth_N[chosen])

    def pairwise_accuracy(self) -> dict[str, float]:
        """Return `pair_accuracy` of each time-reversed pair that has videos."""
        known = set(self.labels)
        seen = set(self.per_class())
        return {
            f"{first}/{second}": self.pair_accuracy(first, second)
            for first, second in PAIRS
            if {first, second} <= known and {first, second} & seen
        }

    def per_class(self) -> dict[str, float]:
        """Return the top-1 of each class that has videos."""
        best = self.probabilities_NK.argmax(1)
        return {
            label: _mean(best[self.truth_N == index] == index)
            for index, label in enumerate(self.labels)
            if (self.truth_N == index).any()
        }

    def confusion(self) -> Tensor:
        """Return the confusion matrix `K K`: rows are true classes, columns predicted classes."""
        classes = len(self.labels)
        return torch.bincount(
            self.truth_N * classes + self.probabilities_NK.argmax(1), minlength=classes**2
        ).view(classes, classes)

    def most_confused(self, count: int = 10) -> list[tuple[str, str, float]]:
        """Return the pairs of classes that are most often confused (paper, table 6).

        With each pair: the fraction of both classes' videos that were classified as the other
        class.
        """
        taken = self.confusion()
        videos = torch.bincount(self.truth_N, minlength=len(self.labels))
        pairs = []
        for first in range(len(self.labels)):
            for second in range(first + 1, len(self.labels)):
                wrong = int(taken[first, second] + taken[second, first])
                both = int(videos[first] + videos[second])
                if wrong:
                    pairs.append((self.labels[first], self.labels[second], wrong / both))
        return sorted(pairs, key=lambda pair: (-pair[2], pair[:2]))[:count]

    def pair_accuracy(self, first: str, second: str) -> float:
        """Return the fraction of videos whose true class is more probable than the other class.

        Only videos of these two classes count; chance is 0.5.
        """
        pair = torch.tensor([self.labels.index(first), self.labels.index(second)])
        chosen = torch.isin(self.truth_N, pair)
        return _mean(pair[self.probabilities_NK[chosen][:, pair].argmax(1)] == self.truth_N[chosen])

    def summary(self) -> dict[str, Any]:
        """Return the figures as one JSON value."""
        pairs = self.pairwise_accuracy()
        facts: dict[str, Any] = {
            "videos": len(self.truth_N),
            "top1": round(self.top1(), 4),
            "top5": round(self.top5(), 4),
        }
        if self.background is not None:
            facts["actions_top1"] = round(self.actions_top1(), 4)
        if pairs:
            facts["within_pairs_mean"] = round(sum(pairs.values()) / len(pairs), 4)
            facts["within_pairs"] = {name: round(value, 4) for name, value in pairs.items()}
        facts["per_class"] = {name: round(value, 4) for name, value in self.per_class().items()}
        if len(self.truth_N):
            facts["calibration"] = self.calibration().summary()
        return facts


@dataclasses.dataclass(frozen=True)
class ModelComparison:
    """Compares two models on the same videos, per class and on pairs of classes (paper, table 6).

    Each entry of `classes` holds a label and the top-1 of both models. Each entry of `pairs` holds
    two labels and the pairwise accuracy of both models; these are the pairs that the first model
    confuses most.
    """

    classes: tuple[tuple[str, float, float], ...]
    pairs: tuple[tuple[str, str, float, float], ...]

    @classmethod
    def of(cls, first: Predictions, second: Predictions, *, max_pairs: int = 10) -> ModelComparison:
        """Compare two models; sort classes by how much the second model is better.

        Raises:
            DataError: the models have different labels, or were evaluated on different videos.
        """
        if first.labels != second.labels:
            raise DataError(
                f"the models have different labels: {list(first.labels)} and {list(second.labels)}"
            )
        if not torch.equal(first.truth_N, second.truth_N):
            raise DataError("the models were evaluated on different videos")
        one = first.per_class()
        other = second.per_class()
        classes = [(label, one[label], other[label]) for label in one]
        classes.sort(key=lambda row: row[1] - row[2])
        pairs = [
            (a, b, first.pair_accuracy(a, b), second.pair_accuracy(a, b))
            for a, b, _ in first.most_confused(max_pairs)
        ]
        return cls(tuple(classes), tuple(pairs))

    def summary(self) -> dict[str, Any]:
        """Return the figures as one JSON value."""
        return {
            "classes": {
                label: [round(one, 4), round(other, 4)] for label, one, other in self.classes
            },
            "pairs": {
                f"{a}/{b}": [round(one, 4), round(other, 4)] for a, b, one, other in self.pairs
            },
        }


def parse_views(text: str) -> EvaluationViews:
    """Parse a text such as `10x3`: ten clips with three crops each.

    Raises:
        DataError: the text is not of the form CLIPSxCROPS with two positive integers.
    """
    match = re.fullmatch(r"(\d+)x(\d+)", text, re.ASCII)
    views = EvaluationViews(int(match[1]), int(match[2])) if match else EvaluationViews(0, 0)
    if not views.clips or not views.crops:
        raise DataError(f"--views takes CLIPSxCROPS such as 10x3 or 1x1, got {text!r}")
    return views


@torch.no_grad()
def evaluate_network(
    network: ActionNetwork,
    entries: Sequence[ManifestEntry],
    views: EvaluationViews,
    *,
    labels: tuple[str, ...],
    background: str | None,
    reader: ClipReader,
    preprocess: PreprocessConfig,
    dtype: torch.dtype,
    temperature: float = 1.0,
    left_out: dict[ManifestEntry, MediaError] | None = None,
) -> Predictions:
    """Run the network on all views of each entry and average their probabilities.

    The method is that of the paper, section 3.3.

    Args:
        temperature: logits are divided by it before the softmax.
        left_out: collects entries that became unreadable; the predictions do not contain them. None
            raises an error instead.

    Raises:
        MediaError: a video became unreadable, and `left_out` is None; the message names it.
    """
    network.eval()
    device = next(network.parameters()).device
    planned = views.clip_plan(entries, labels)
    parts = []
    feed = batches(
        planned, _BATCH, reader=reader, preprocess=preprocess, device=device, left_out=left_out
    )
    with contextlib.closing(feed):
        for batch in feed:
            clips = normalise_clips(batch.clips_BTHWC.to(device), preprocess, dtype=dtype)
            with torch.autocast(device.type, dtype, enabled=dtype is torch.bfloat16):
                logits_BK = network(clips)
            parts.append(logits_BK.float().cpu())
    logits = torch.cat(parts) if parts else torch.zeros(0, len(labels))
    logits_NVK = logits.view(len(entries), views.clips * views.crops, len(labels))
    kept = [index for index, entry in enumerate(entries) if entry not in (left_out or {})]
    truth = torch.tensor([labels.index(entries[index].label) for index in kept], dtype=torch.long)
    return predictions_of(
        logits_NVK[kept], truth, labels=labels, background=background, temperature=temperature
    )


def predictions_of(
    logits_NVK: Tensor,
    truth_N: Tensor,
    *,
    labels: tuple[str, ...],
    background: str | None,
    temperature: float = 1.0,
) -> Predictions:
    """Return the predictions that logits give at a temperature, and keep the logits."""
    nothing = torch.zeros(len(truth_N), len(labels))
    found = Predictions(nothing, truth_N, labels, background, logits_NVK)
    return found.at_temperature(temperature)


def _mean(hits: Tensor) -> float:
    return float(hits.float().mean()) if len(hits) else float("nan")
