"""Loads the weights that a run starts from: a backbone, as in the paper, or a whole network."""

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
    """Load the backbone weights of a trained network, as the paper does before it trains CIDC.

    Raises:
        CheckpointError: the file has a different backbone, or its network was trained with a
            different channel mean or standard deviation.
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
                f"backbone_from: {path} was trained with preprocess.{name} {list(there)}, but"
                f" this configuration has {list(here)}; use the value of the weights file"
            )
    network.backbone.load_state_dict(source.backbone.state_dict())


def load_whole(network: ActionNetwork, path: Path) -> None:
    """Load all weights of a trained network, except a classifier for another number of classes.

    Raises:
        CheckpointError: the file holds a network with other settings.
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
            "weights_from: the classifier starts from random weights: it has %d classes, the file's"
            " classifier has %d",
            network.config.num_classes,
            source.config.num_classes,
        )
    network.load_state_dict(state)
