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
from train.evaluation.clip_accuracy import Predictions, evaluate_network

__all__ = ["validate"]

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
    pairs = zip(mine.probabilities_NK.tolist(), mine.truth_N.tolist(), strict=True)
    rows = ranks.gather(list(pairs))
    if entries and not rows:
        raise DataError(
            "every validation video has become unreadable; check that their disk is mounted"
        )
    probabilities_NK = torch.tensor([row for row, _ in rows])
    truth_N = torch.tensor([label for _, label in rows])
    return Predictions(probabilities_NK, truth_N, mine.labels, mine.background)
