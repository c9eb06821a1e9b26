"""Find out from tensor names and shapes which network a set of weights belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from torch import Tensor

from configs import CheckpointError
from model.backbones.table import BACKBONES, STAGE_BLOCKS, BackboneName
from model.checkpoints.naming import NAMINGS, PackageName
from model.config import ModelConfig

__all__ = ["config_of"]


def config_of(
    state: Mapping[str, Tensor],
    *,
    package: PackageName,
    backbone: BackboneName | None = None,
    name: str = "checkpoint",
) -> ModelConfig:
    """Return the configuration of the network that these weights belong to.

    Args:
        state: tensors, under the names that this project uses.
        package: package that the weights come from.
        backbone: backbone to build; None: the backbone of the weights.
        name: name of the checkpoint in error messages.

    Raises:
        CheckpointError: the weights do not belong to a residual network with a classifier, or this
            project cannot build the network.
    """
    naming = NAMINGS[package]
    depth, stem, classifier = _depth_stem_classifier(state, name)
    non_local = any(key.startswith("backbone.non_local.") for key in state)
    if non_local and naming.non_local_pooling is None:
        raise CheckpointError(
            f"{name}: the non-local blocks of {package} compute something else than those here;"
            " import a network without them"
        )
    fields: dict[str, Any] = {
        "backbone": backbone or _backbone_of(state, stem),
        "depth": depth,
        "cidc": None,
        "non_local": non_local,
        "num_classes": classifier.shape[0],
        "width": stem.shape[0],
        "non_local_pooling": naming.non_local_pooling or "paper",
    }
    if BACKBONES[fields["backbone"]].entry == "strided":
        is_sampled = naming.frames_sampled and stem.dim() == 5
        fields["entry"] = "sampled" if is_sampled else "strided"
    try:
        return ModelConfig.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "network"
        raise CheckpointError(
            f"{name}: {place}: {first['msg']}, but it is {first['input']}"
        ) from None


def _depth_stem_classifier(state: Mapping[str, Tensor], name: str) -> tuple[int, Tensor, Tensor]:
    """Return the depth of the backbone, the stem's weight and the classifier's weight."""
    blocks = tuple(
        len({key.split(".")[3] for key in state if key.startswith(f"backbone.stages.{stage}.")})
        for stage in range(4)
    )
    bottleneck = "backbone.stages.0.0.conv3.conv.weight" in state
    depths = [
        depth
        for depth, counts in STAGE_BLOCKS.items()
        if counts == blocks and (depth > 18) == bottleneck
    ]
    stem = state.get("backbone.stem.conv.weight")
    classifier = state.get("classifier.weight")
    has_stem = stem is not None and stem.dim() in (4, 5) and stem.numel() > 0
    has_classifier = classifier is not None and classifier.dim() == 2 and classifier.numel() > 0
    if not depths or not has_stem or not has_classifier:
        raise CheckpointError(
            f"{name}: no ResNet-18, -50 or -101 with a classifier; its stages have"
            f" {', '.join(map(str, blocks))} blocks"
        )
    assert stem is not None
    assert classifier is not None
    return depths[0], stem, classifier


def _backbone_of(state: Mapping[str, Tensor], stem: Tensor) -> BackboneName:
    if stem.dim() == 4:
        return "tsn"
    if stem.shape[2] > 1:
        return "i3d"
    late = state.get("backbone.stages.3.0.conv1.conv.weight")
    return "slow_only" if late is not None and late.dim() == 5 and late.shape[2] > 1 else "r2d"
