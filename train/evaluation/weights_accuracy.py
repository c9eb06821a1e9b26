"""Measures the accuracy of a weights file on the videos of a manifest."""

from __future__ import annotations

from pathlib import Path

from model.checkpoints.weights import ModelSpec, load_model
from model.runtime import pick_device, pick_dtype
from train.config import TrainConfig
from train.data.clip_plan import EvaluationViews
from train.data.clip_store import ClipStore
from train.data.manifest import read_manifest
from train.data.readable import readable_entries
from train.data.readers import InProcessReader
from train.evaluation.clip_accuracy import Predictions, evaluate_network

__all__ = ["evaluate_weights"]


def evaluate_weights(
    checkpoint: Path,
    manifest: Path,
    views: EvaluationViews,
    *,
    config: TrainConfig,
    max_bad_fraction: float = 0.0,
) -> tuple[Predictions, ModelSpec]:
    """Return the predictions for a manifest's videos, and the description of the weights.

    Args:
        config: settings of device, precision and data; labels are those of the weights.
        max_bad_fraction: fraction of unreadable videos that may be left out. A left-out video
            changes the accuracy, so one is an error by default.

    Raises:
        CidcError: weights, manifest or a video cannot be used.
    """
    device = pick_device(config.device)
    network = load_model(checkpoint).to(device)
    spec = network.spec
    assert spec is not None
    changes = {"labels": spec.labels, "max_bad_fraction": max_bad_fraction}
    data = config.data.model_copy(update=changes)
    # Decode at the videos' own size and without the cache, as the live pipeline does.
    store = ClipStore(fps=spec.fps, frames=spec.model.frames, short_side=None, cache=None)
    predictions = evaluate_network(
        network,
        readable_entries(read_manifest(manifest), data, store, use_report=False),
        views,
        labels=spec.labels,
        background=spec.background,
        reader=InProcessReader(store),
        preprocess=spec.preprocess,
        dtype=pick_dtype(config.precision, device),
        temperature=spec.temperature,
    )
    return predictions, spec
