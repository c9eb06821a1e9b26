"""Weights that a run starts from: a trained backbone, as in the paper, or a whole network."""

from __future__ import annotations

import logging
from pathlib import Path

from configs import CheckpointError
from model.checkpoints.weights import load_model
from model.media.preprocess import PreprocessConfig
from model.network import ActionNetwork

__all__ = ["load_backbone", "load_whole"]

_log = logging.getLogger(__name__)


def load_backbone(network: ActionNetwork, path: Path, preprocess: PreprocessConfig) -> None:
    """Take the backbone of a trained network, as the paper does before it trains the CIDC network.

    Raises:
        CheckpointError: it is another backbone, or was trained on other channel statistics.
    """
    source = load_model(path)
    theirs = source.config.backbone_facts
    ours = network.config.backbone_facts
    if theirs != ours:
        different = ", ".join(
            f"model.{name} is {theirs[name]!r} there and {ours[name]!r} here"
            for name in ours
            if theirs[name] != ours[name]
        )
        raise CheckpointError(f"backbone_from: {path} has another backbone: {different}")
    assert source.spec is not None
    for name in ("mean_rgb", "std_rgb"):
        there = getattr(source.spec.preprocess, name)
        here = getattr(preprocess, name)
        if there != here:
            raise CheckpointError(
                f"backbone_from: {path} was trained with preprocess.{name} {list(there)}, here it"
                f" is {list(here)}; set it to that"
            )
    network.backbone.load_state_dict(source.backbone.state_dict())


def load_whole(network: ActionNetwork, path: Path) -> None:
    """Take all of a trained network; the classifier is left out if the classes are others.

    Raises:
        CheckpointError: it is another network.
    """
    source = load_model(path)
    ours = {"dropout": network.config.dropout, "num_classes": network.config.num_classes}
    if source.config.model_copy(update=ours) != network.config:
        raise CheckpointError(f"weights_from: {path} is of another network ({source.config!r})")
    state = source.state_dict()
    if source.config.num_classes != network.config.num_classes:
        classifier = network.classifier.state_dict()
        state |= {f"classifier.{name}": value for name, value in classifier.items()}
        _log.info(
            "weights_from: the classifier is new, it has %d classes instead of %d",
            network.config.num_classes,
            source.config.num_classes,
        )
    network.load_state_dict(state)
