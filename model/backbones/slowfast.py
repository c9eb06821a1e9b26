"""SlowFast: a slow pathway for appearance and a thin, fast one for motion.

Feichtenhofer, Fan, Malik, He: SlowFast Networks for Video Recognition, ICCV 2019. The fast pathway
reads every frame with an eighth of the channels. Before each of stages 2 to 5, a convolution with
a stride in time brings its map to the slow pathway's T, and the slow pathway reads both.

    slowfast_4x16   slow: every 8th frame of the clip, so T = 4; kernels between pathways: 5
    slowfast_8x8    slow: every 4th frame of the clip, so T = 8; kernels between pathways: 7

Letters: B clips, C channels, T time of the slow pathway, H and W space, A the number of frames of
the fast pathway for each one of the slow pathway.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.backbones.conv import ConvNorm
from model.backbones.resnet import ResNet
from model.backbones.table import FAST_PATHWAY, Backbone, stage_channels

__all__ = ["SlowFast"]

# The fast pathway has an eighth of the channels; connections to the slow pathway double them.
_WIDTH_RATIO = 8
_LATERAL_RATIO = 2


class SlowFast(nn.Module):
    """Two residual networks and the connections from the fast to the slow one.

    The maps hold both pathways, so that pooling, CIDC and every head read both. The maps of stages
    3 and 4 are what the slow pathway's next stage reads. The last map is the slow pathway's, and
    after it, the mean of each `A` frames of the fast one: its average over all positions is the
    feature vector of the paper.

    Args:
        backbone: the properties of the slow pathway and of the connections.
        depth: 18, 50 or 101, of both pathways.
        width: number of channels of the slow pathway's stem (64 in the paper).
        lateral_norm: whether batch norm and ReLU follow the connections' convolutions.

    Attributes:
        channels: number of channels of the three maps.
    """

    def __init__(self, backbone: Backbone, depth: int, width: int, *, lateral_norm: bool) -> None:
        super().__init__()
        thin = width // _WIDTH_RATIO
        # Inputs of stages 2 to 5, and the last map.
        fast = (thin, *stage_channels(depth, thin))
        lateral = tuple(_LATERAL_RATIO * channels for channels in fast[:-1])
        self.ratio = backbone.stride // FAST_PATHWAY.stride
        self.lateral_norm = lateral_norm
        self.slow = ResNet(backbone, depth, width, entry="sampled", lateral=lateral)
        self.fast = ResNet(FAST_PATHWAY, depth, thin, entry="sampled")
        self.laterals = nn.ModuleList(
            ConvNorm(
                channels,
                _LATERAL_RATIO * channels,
                (backbone.lateral_time, 1, 1),
                stride=(self.ratio, 1, 1),
                norm=lateral_norm,
            )
            for channels in fast[:-1]
        )
        slow = self.slow.channels
        self.channels = (slow[0] + lateral[2], slow[1] + lateral[3], slow[2] + fast[-1])

    @property
    def checkpointing(self) -> bool:
        """Whether the backward pass recomputes the activations of residual blocks."""
        return self.slow.checkpointing

    @checkpointing.setter
    def checkpointing(self, value: bool) -> None:
        self.slow.checkpointing = self.fast.checkpointing = value

    def forward(self, clips_BCTHW: Tensor) -> list[Tensor]:
        """Return the maps of stages 3, 4 and 5, with the T of the slow pathway."""
        slow = self.slow.enter(clips_BCTHW)
        fast = self.fast.enter(clips_BCTHW)
        inputs = []
        for stage, lateral in enumerate(self.laterals):
            # A folded block may overwrite its input; so the connection reads the map before.
            slow = torch.cat([slow, lateral(fast, relu=self.lateral_norm)], dim=1)
            inputs.append(slow)
            slow = self.slow.stage(stage, slow)
            fast = self.fast.stage(stage, fast)
        return [*inputs[2:], torch.cat([slow, _mean_of_frames(fast, self.ratio)], dim=1)]


def _mean_of_frames(x_BCTHW: Tensor, count: int) -> Tensor:
    """Average every `count` frames: `B C A*T H W` to `B C T H W`."""
    batch, channels, _, height, width = x_BCTHW.shape
    return x_BCTHW.reshape(batch, channels, -1, count, height, width).mean(dim=3)
