"""Find out from tensor names and shapes which network a set of weights belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import ValidationError
from torch import Tensor

from configs import CheckpointError
from model.backbones.blvnet import BLVNET_BLOCKS
from model.backbones.table import BACKBONES, STAGE_BLOCKS, BackboneName, has_bottlenecks
from model.checkpoints.packages import NAMINGS, PackageName
from model.config import ModelConfig
from model.heads import RELATION_HIDDEN

__all__ = ["config_of"]

Kind = Literal["resnet", "slowfast", "big_little"]
_KINDS: dict[Kind, str] = {
    "resnet": "one residual network",
    "slowfast": "SlowFast",
    "big_little": "bLVNet-TAM",
}


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
    kind = _kind_of(state)
    depth, stem, classifier = _depth_stem_classifier(state, kind, name)
    fields: dict[str, Any] = {
        "backbone": backbone or _backbone_of(state, kind, stem),
        "depth": depth,
        "cidc": None,
        "num_classes": classifier.shape[0],
        "width": stem.shape[0],
    }
    _check_kind(fields["backbone"], kind, name)
    if kind == "slowfast":
        if depth == 101 and backbone is None:
            raise CheckpointError(
                f"{name}: SlowFast-101 is 4x16 or 8x8 with the same tensors; if its slow pathway"
                " reads every 8th frame, ask for the backbone slowfast_4x16; 8x8 is not supported"
            )
        fields["lateral_norm"] = "backbone.laterals.0.norm.weight" in state
    elif kind == "resnet":
        fields |= _residual_fields(state, package, fields["backbone"], stem, name)
        fields |= _relation_fields(state, fields["backbone"])
    try:
        return ModelConfig.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "network"
        raise CheckpointError(
            f"{name}: {place}: {first['msg']}, but it is {first['input']}"
        ) from None


def _kind_of(state: Mapping[str, Tensor]) -> Kind:
    if any(key.startswith("backbone.fast.") for key in state):
        return "slowfast"
    return "big_little" if any(key.startswith("backbone.entry.") for key in state) else "resnet"


def _check_kind(backbone: BackboneName, kind: Kind, name: str) -> None:
    """Check that the backbone that was asked for consists of the layers in the file."""
    wanted = BACKBONES[backbone]
    found: Kind = "resnet"
    if wanted.lateral_time:
        found = "slowfast"
    elif wanted.big_little:
        found = "big_little"
    if found != kind:
        raise CheckpointError(
            f"{name}: {backbone} has other layers; this file's network is {_KINDS[kind]}"
        )


def _residual_fields(
    state: Mapping[str, Tensor],
    package: PackageName,
    backbone: BackboneName,
    stem: Tensor,
    name: str,
) -> dict[str, Any]:
    """Return the settings in which residual networks of packages differ."""
    naming = NAMINGS[package]
    non_local = any(key.startswith("backbone.non_local.") for key in state)
    if non_local and naming.non_local_pooling is None:
        raise CheckpointError(
            f"{name}: the non-local blocks of {package} compute something else than those here;"
            " import a network without them"
        )
    fields: dict[str, Any] = {
        "non_local": non_local,
        "non_local_pooling": naming.non_local_pooling or "paper",
    }
    if BACKBONES[backbone].entry == "strided":
        is_sampled = naming.frames_sampled and stem.dim() == 5
        fields["entry"] = "sampled" if is_sampled else "strided"
    return fields


def _relation_fields(state: Mapping[str, Tensor], backbone: BackboneName) -> dict[str, Any]:
    """Return the head and the number of frames of a TRN."""
    first = state.get("head.relations.0.weight")
    if first is None:
        return {}
    features = len(state["head.frame.bias"])
    several = "head.relations.1.weight" in state or len(first) != RELATION_HIDDEN["single"]
    return {
        "head": "trn_multiscale" if several else "trn",
        "frames": first.shape[1] // features * BACKBONES[backbone].time_stride,
    }


def _depth_stem_classifier(
    state: Mapping[str, Tensor], kind: Kind, name: str
) -> tuple[int, Tensor, Tensor]:
    """Return the depth of the backbone, the stem's weight and the classifier's weight."""
    net = "backbone.slow." if kind == "slowfast" else "backbone."
    if kind == "big_little":
        # The block that reads the sum of both branches has a name of its own.
        prefixes = [f"{net}stages.{stage}.big." for stage in range(3)] + [f"{net}last."]
        blocks = tuple(_count(state, prefix) + (i < 3) for i, prefix in enumerate(prefixes))
        known = BLVNET_BLOCKS
        is_bottleneck = True
    else:
        blocks = tuple(_count(state, f"{net}stages.{stage}.") for stage in range(4))
        known = STAGE_BLOCKS
        is_bottleneck = f"{net}stages.0.0.conv3.conv.weight" in state
    depths = [
        depth
        for depth, counts in known.items()
        if counts == blocks and has_bottlenecks(depth) == is_bottleneck
    ]
    stem = state.get(f"{net}stem.conv.weight")
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


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    """Count the blocks under a prefix."""
    return len({key[len(prefix) :].split(".")[0] for key in state if key.startswith(prefix)})


def _backbone_of(state: Mapping[str, Tensor], kind: Kind, stem: Tensor) -> BackboneName:
    if kind == "big_little":
        return "blvnet_tam"
    if kind == "slowfast":
        lateral = state.get("backbone.laterals.0.conv.weight")
        time = lateral.shape[2] if lateral is not None and lateral.dim() == 5 else 0
        return "slowfast_8x8" if time == 7 else "slowfast_4x16"
    if stem.dim() == 4:
        return "tsn"
    if stem.shape[2] > 1:
        return "i3d"
    late = state.get("backbone.stages.3.0.conv1.conv.weight")
    return "slow_only" if late is not None and late.dim() == 5 and late.shape[2] > 1 else "r2d"
