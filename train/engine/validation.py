"""Measures accuracy on the validation videos; each rank evaluates some of the videos."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch

from configs import DataError, MediaError
from model.network import ActionNetwork
from train.config import TrainConfig
from train.data.clip_plan import EvaluationViews
from train.data.manifest import ManifestEntry
from train.data.readers import ClipReader
from train.distributed import Ranks
from train.evaluation.clip_accuracy import Predictions, evaluate_network, predictions_of

__all__ = ["temperature_or_1", "validate"]

_log = logging.getLogger(__name__)


def validate(
    network: ActionNetwork,
    entries: Sequence[ManifestEntry],
    config: TrainConfig,
    *,
    reader: ClipReader,
    dtype: torch.dtype,
    ranks: Ranks,
) -> Predictions:
    """Return the predictions for all entries; every rank gets the complete result.

    Videos that became unreadable during the run are logged and left out.

    Raises:
        DataError: all videos became unreadable.
    """
    left_out: dict[ManifestEntry, MediaError] = {}
    mine = evaluate_network(
        network,
        ranks.part_of(entries),
        EvaluationViews(),
        labels=config.data.labels,
        background=config.data.background,
        reader=reader,
        preprocess=config.preprocess,
        dtype=dtype,
        left_out=left_out,
    )
    for error in left_out.values():
        _log.warning("left out of this validation: %s", error)
    assert mine.logits_NVK is not None
    pairs = zip(mine.logits_NVK[:, 0].tolist(), mine.truth_N.tolist(), strict=True)
    rows = ranks.gather(list(pairs))
    if entries and not rows:
        raise DataError(
            "every validation video has become unreadable; check that their disk is mounted"
        )
    logits_NVK = torch.tensor([row for row, _ in rows]).view(len(rows), 1, len(mine.labels))
    truth_N = torch.tensor([label for _, label in rows], dtype=torch.long)
    return predictions_of(logits_NVK, truth_N, labels=mine.labels, background=mine.background)


def temperature_or_1(predictions: Predictions) -> float:
    """Return the temperature that fits predictions best, or 1 if too few of them are wrong."""
    try:
        return round(predictions.fit_temperature(), 4)
    except DataError as error:
        _log.info("the weights keep temperature 1: %s", error)
        return 1.0
