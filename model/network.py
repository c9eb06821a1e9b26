"""The whole network: backbone, CIDC network or another temporal head, fusion and classifier.

Section 3.2 of the paper describes it.

Letters: B clips, C channels, T time, H and W space, K classes.
"""

from __future__ import annotations

from typing import Self, cast

import torch
from torch import Tensor, nn

from configs import ShapeError
from model.backbones.build import build_backbone
from model.backbones.conv import fold_network
from model.cidc_network import CIDCNetwork
from model.config import ModelConfig
from model.heads import RELATION_HEADS, FilterBankHead, build_head
from model.spec import ModelSpec

__all__ = [
    "ActionNetwork",
    "ModelConfig",
    "build_model",
    "fold_for_inference",
    "shapes_of",
    "to_channels_last",
]

SMALLEST_SIDE = 32


def build_model(config: ModelConfig) -> ActionNetwork:
    """Build an untrained network that maps normalised `clips_BCTHW` to `logits_BK`."""
    return ActionNetwork(config)


def shapes_of(config: ModelConfig) -> dict[str, Tensor]:
    """Return the tensors of a network without their values, which need no memory."""
    with torch.device("meta"):
        return ActionNetwork(config).state_dict()


def to_channels_last(network: nn.Module) -> nn.Module:
    """Put convolution weights into channels-last memory, in place."""
    # Only convolution weights have five dimensions; mixing logits have four.
    for parameter in network.parameters():
        if parameter.dim() == 5:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
    return network


def fold_for_inference(network: ActionNetwork, dtype: torch.dtype) -> ActionNetwork:
    """Make a network faster, in place: merge batch norm into convolutions and fix mixing weights.

    The folded network computes the same function. Its input clips must be in `dtype`; it is fastest
    with channels-last-3d memory. It can no longer be trained or saved.

    Raises:
        ValueError: the network is in training mode or was folded before, or `dtype` is not
            float32, bfloat16 or float16.
    """
    if network.folded or dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise ValueError(
            "a network can be folded once, into float32, bfloat16 or float16;"
            f" folded: {network.folded}, requested: {dtype}"
        )
    fold_network(network, dtype)
    network.folded = True
    return network


class ActionNetwork(nn.Module):
    """The network: computes class logits from clips.

    Attributes:
        config: configuration from which the network was built.
        spec: description from the weights file; None if the network was not loaded from a file.
        folded: whether `fold_for_inference` was applied.
        branch_dropout: probability that a clip in training is classified from the backbone's map
            alone or from CIDC's map alone, each half of the time.
    """

    spec: ModelSpec | None = None
    folded = False
    branch_dropout = 0.0

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = build_backbone(
            config.backbone,
            config.depth,
            config.width,
            entry=config.entry,
            non_local=config.non_local_pooling if config.non_local else None,
            lateral_norm=config.lateral_norm,
        )
        channels = self.backbone.channels
        features = channels[-1]
        self.cidc = (
            CIDCNetwork(config.cidc, channels, config.time) if config.cidc is not None else None
        )
        self.head = build_head(config.head, features, config.time, config.num_classes)
        if self.head is not None:
            features = self.head.features
        elif config.cidc is not None and config.cidc.fusion == "channels":
            features *= 2
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(features, config.num_classes)

    def train(self, mode: bool = True) -> Self:
        """Set training or evaluation mode; a folded network supports evaluation mode only.

        Raises:
            ValueError: training mode was requested for a folded network.
        """
        if mode and self.folded:
            raise ValueError("a folded network cannot be trained; load it again")
        return super().train(mode)

    def forward(self, clips_BCTHW: Tensor) -> Tensor:
        """Map normalised clips `B 3 T H W` to `logits_BK` in float32.

        Raises:
            ShapeError: the number of frames or their size does not fit the network's strides.
        """
        self._check_shape(clips_BCTHW)
        return self.logits_of(self.backbone(clips_BCTHW))

    def logits_of(self, maps: list[Tensor]) -> Tensor:
        """Return `logits_BK` in float32 from the backbone's maps, highest resolution first.

        The last map is enough for a network without CIDC, or with `scales: single`.
        """
        features_BC = self._features(maps)
        logits: Tensor = self.classifier(self.dropout(features_BC))
        if isinstance(self.head, FilterBankHead):
            logits = logits + self.head.votes(features_BC)
        return logits.float()

    @property
    def _is_for_one_length(self) -> bool:
        return self.cidc is not None or self.config.head in RELATION_HEADS

    def _features(self, maps: list[Tensor]) -> Tensor:
        last = maps[-1]
        if self.head is not None:
            return cast("Tensor", self.head(last))
        if self.cidc is None:
            return _pooled(last)
        last_BC, mixed_BC = self._drop_branches(_pooled(last), _pooled(self.cidc(maps)))
        if self.cidc.config.fusion == "channels":
            return torch.cat([last_BC, mixed_BC], dim=1)
        # Both maps have the same T. Pooling their concatenation along time gives the mean of both
        # pooled maps; the sum is twice that mean.
        sum_BC = last_BC + mixed_BC
        return sum_BC if self.cidc.config.fusion == "sum" else sum_BC / 2

    def _drop_branches(self, last_BC: Tensor, mixed_BC: Tensor) -> tuple[Tensor, Tensor]:
        """In training, drop one of two features of some clips, and double the other."""
        if not self.training or not self.branch_dropout:
            return last_BC, mixed_BC
        draw_B1 = torch.rand(len(last_BC), 1, device=last_BC.device)
        half = self.branch_dropout / 2
        drop_last_B1 = (draw_B1 < half).to(last_BC.dtype)
        drop_mixed_B1 = (draw_B1 >= 1 - half).to(last_BC.dtype)
        keep_B1 = drop_mixed_B1 - drop_last_B1
        return last_BC * (1 + keep_B1), mixed_BC * (1 - keep_B1)

    def _check_shape(self, clips_BCTHW: Tensor) -> None:
        shape = tuple(clips_BCTHW.shape)
        frames = self.config.frames
        stride = self.config.time_stride
        if len(shape) != 5 or shape[1] != 3 or min(shape[3:]) < SMALLEST_SIDE:
            raise ShapeError(
                f"clips must be B 3 {frames} H W with H and W of at least {SMALLEST_SIDE},"
                f" got {shape}"
            )
        if self._is_for_one_length and shape[2] != frames:
            kind = "CIDC" if self.cidc is not None else "TRN"
            raise ShapeError(
                f"this {kind} network was built for clips of {frames} frames,"
                f" got {shape[2]} in {shape}"
            )
        if shape[2] == 0 or shape[2] % stride:
            raise ShapeError(
                f"{self.config.backbone} needs clips whose number of frames is a multiple of"
                f" {stride}, got {shape[2]} in {shape}"
            )


def _pooled(x_BCTHW: Tensor) -> Tensor:
    return x_BCTHW.mean(dim=(2, 3, 4), dtype=torch.promote_types(x_BCTHW.dtype, torch.float32))
