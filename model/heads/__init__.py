"""Heads for comparison with CIDC: they compute features from the backbone's last map."""

from __future__ import annotations

from typing import Literal

from model.heads.filter_bank import FilterBankHead
from model.heads.relations import (
    MAX_RELATION_TIME,
    RELATION_HIDDEN,
    RelationHead,
    tuples_of_scale,
)
from model.heads.sequence import LSTMHead, SelfAttentionHead

__all__ = [
    "MAX_RELATION_TIME",
    "RELATION_HEADS",
    "RELATION_HIDDEN",
    "AnyHead",
    "FilterBankHead",
    "HeadName",
    "LSTMHead",
    "RelationHead",
    "SelfAttentionHead",
    "build_head",
    "tuples_of_scale",
]

HeadName = Literal["pool", "lstm", "self_attention", "trn", "trn_multiscale", "filter_bank"]
RELATION_HEADS: tuple[HeadName, ...] = ("trn", "trn_multiscale")
AnyHead = LSTMHead | SelfAttentionHead | RelationHead | FilterBankHead


def build_head(name: HeadName, channels: int, time: int, classes: int) -> AnyHead | None:
    """Build an untrained head; None for average pooling.

    Args:
        name: name of the head.
        channels: number of channels of the last map.
        time: T of the last map.
        classes: number of classes.
    """
    if name == "lstm":
        return LSTMHead(channels)
    if name == "self_attention":
        return SelfAttentionHead(channels)
    if name in RELATION_HEADS:
        return RelationHead(channels, time, multi_scale=name == "trn_multiscale")
    return FilterBankHead(channels, classes) if name == "filter_bank" else None
