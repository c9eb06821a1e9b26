"""State dicts of random weights in the layout of a public package, made from our own networks."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from model import ModelConfig, build_model

__all__ = ["mmaction2_state"]

_RULES = (
    (r"^backbone\.stem\.conv\.", "backbone.conv1.conv."),
    (r"^backbone\.stem\.norm\.", "backbone.conv1.bn."),
    (r"\.shortcut\.norm\.", ".downsample.bn."),
    (r"\.shortcut\.conv\.", ".downsample.conv."),
    (r"\.norm\.", ".bn."),
    (r"^classifier\.", "cls_head.fc_cls."),
)


def mmaction2_state(
    backbone: str = "i3d", *, classes: int = 400, width: int = 8, seed: int = 0
) -> dict[str, Tensor]:
    """Random weights of a ResNet-50 under the names of mmaction2."""
    torch.manual_seed(seed)
    config = ModelConfig(
        backbone=backbone,  # type: ignore[arg-type]
        cidc=None,
        width=width,
        num_classes=classes,
    )
    network = build_model(config)
    torch.nn.init.normal_(network.classifier.weight, std=3.0)
    state = {}
    for name, value in network.state_dict().items():
        renamed = re.sub(
            r"^backbone\.stages\.(\d)\.",
            lambda match: f"backbone.layer{int(match[1]) + 1}.",
            name,
        )
        for pattern, replacement in _RULES:
            renamed = re.sub(pattern, replacement, renamed)
        state[renamed] = value
    return state
