"""Builds the backbone that a name stands for."""

from __future__ import annotations

from model.backbones.blvnet import BigLittleNet
from model.backbones.non_local import NonLocalPooling
from model.backbones.resnet import ResNet
from model.backbones.slowfast import SlowFast
from model.backbones.table import BACKBONES, BackboneName, Entry

__all__ = ["AnyBackbone", "build_backbone"]

# Each computes the maps of stages 3, 4 and 5 from clips, and has the attributes `channels` and
# `checkpointing`.
AnyBackbone = ResNet | SlowFast | BigLittleNet


def build_backbone(
    name: BackboneName,
    depth: int,
    width: int,
    *,
    entry: Entry | None,
    non_local: NonLocalPooling | None,
    lateral_norm: bool,
) -> AnyBackbone:
    """Build an untrained backbone.

    Args:
        name: a key of `BACKBONES`.
        depth: number of layers; bLVNet-TAM has no depth 18.
        width: number of channels of the stem.
        entry: see `ResNet`; None: the backbone's default.
        non_local: see `ResNet`.
        lateral_norm: see `SlowFast`.
    """
    backbone = BACKBONES[name]
    if backbone.big_little:
        return BigLittleNet(depth, width)
    if backbone.lateral_time:
        return SlowFast(backbone, depth, width, lateral_norm=lateral_norm)
    entry = entry or backbone.entry
    assert entry is not None
    return ResNet(backbone, depth, width, entry=entry, non_local=non_local)
