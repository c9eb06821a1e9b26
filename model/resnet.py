"""One residual net over clips. Here: `r2d`, a 2D ResNet applied to every frame, with pooling along time.

Letters: B clips, C channels, T time, H and W space. Strides for a 32 x 224 x 224 clip, as in the paper:

    stem     1x7x7 convolution, stride 2,2,2     16 x 112 x 112
    pool     max, stride 2,2,2                    8 x  56 x  56
    stage 2  then max along time, stride 2        4 x  56 x  56
    stage 3, 4, 5                                 4 x  28, 14, 7
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["STAGE_BLOCKS", "TIME_STRIDE", "ResNet", "stage_channels"]

STAGE_BLOCKS: dict[int, tuple[int, int, int, int]] = {18: (2, 2, 2, 2)}
TIME_STRIDE = 8


def stage_channels(width: int) -> tuple[int, int, int, int]:
    """Channels of stages 2 to 5 of a net of basic blocks."""
    return width, 2 * width, 4 * width, 8 * width


class BasicBlock(nn.Module):
    """Two 1x3x3 convolutions and a shortcut."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(channels_in, channels, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False)
        self.norm1 = nn.BatchNorm3d(channels)
        self.conv2 = nn.Conv3d(channels, channels, (1, 3, 3), padding=(0, 1, 1), bias=False)
        self.norm2 = nn.BatchNorm3d(channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(nn.Conv3d(channels_in, channels, 1, (1, stride, stride), bias=False), nn.BatchNorm3d(channels))

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """`B C T H W` to `B C' T H/stride W/stride`."""
        y = torch.relu(self.norm1(self.conv1(x_BCTHW)))
        return torch.relu(self.norm2(self.conv2(y)) + self.shortcut(x_BCTHW))


class ResNet(nn.Module):
    """The backbone; returns the maps of stages 3, 4 and 5.

    Args:
        depth: a key of `STAGE_BLOCKS`.
        width: channels of the stem and of stage 2 (64 in the paper).
    """

    def __init__(self, depth: int, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv3d(3, width, (1, 7, 7), (2, 2, 2), (0, 3, 3), bias=False)
        self.stem_norm = nn.BatchNorm3d(width)
        channels_in = width
        stages = []
        for stage, (channels, blocks) in enumerate(zip(stage_channels(width), STAGE_BLOCKS[depth], strict=True)):
            strides = [1 if stage == 0 else 2] + [1] * (blocks - 1)
            stages.append(_stage(channels_in, channels, strides))
            channels_in = channels
        self.stages = nn.ModuleList(stages)
        _initialise(self)

    def forward(self, clips_BCTHW: Tensor) -> list[Tensor]:
        """Maps of stages 3, 4, 5, each `B C T/8 H' W'` with H' and W' of 1/8, 1/16 and 1/32 rounded up."""
        x = torch.relu(self.stem_norm(self.stem(clips_BCTHW)))
        x = self.stages[0](max_pool_space(max_pool_time(x)))
        x = max_pool_time(x)
        maps = []
        for stage in list(self.stages)[1:]:
            x = stage(x)
            maps.append(x)
        return maps


def max_pool_space(x_BCTHW: Tensor) -> Tensor:
    """3x3 maximum with stride 2 in each frame."""
    # In channels-last-3d memory, folding time into the batch is a view, and the 2D kernel is the vectorised one.
    frames = x_BCTHW.transpose(1, 2).flatten(0, 1)
    return unfold_time(functional.max_pool2d(frames, 3, 2, 1), x_BCTHW.shape[2])


def max_pool_time(x_BCTHW: Tensor) -> Tensor:
    """Maximum of each two neighbours in time."""
    # Rows and columns folded into one axis: again a view in channels-last memory, and a 2D kernel.
    batch, channels, _, height, width = x_BCTHW.shape
    pooled = functional.max_pool2d(x_BCTHW.flatten(3), (2, 1))
    return pooled.view(batch, channels, -1, height, width)


def unfold_time(frames_NCHW: Tensor, time: int) -> Tensor:
    """`B*T C H W` back to `B C T H W`."""
    _, channels, height, width = frames_NCHW.shape
    return frames_NCHW.view(-1, time, channels, height, width).transpose(1, 2)


def _stage(channels_in: int, channels: int, strides: Sequence[int]) -> nn.Sequential:
    blocks = []
    for stride in strides:
        blocks.append(BasicBlock(channels_in, channels, stride))
        channels_in = channels
    return nn.Sequential(*blocks)


def _initialise(net: nn.Module) -> None:
    for module in net.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
