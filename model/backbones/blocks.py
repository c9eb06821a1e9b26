"""Residual blocks, and the shift of channels along time (TSM).

Letters: B clips, C channels, T time, H and W space.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.backbones.conv import ConvNorm, Size3
from model.backbones.pool import mean_pool_space

__all__ = ["BasicBlock", "Bottleneck", "shift_time"]

# TSM shifts 1/8 of the channels one step forwards in time, and another 1/8 one step backwards.
_SHIFTED_DIVISOR = 8


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; the first convolution is 3x3x3 if `temporal`."""

    expansion = 1

    def __init__(
        self, channels_in: int, channels: int, *, stride: int, temporal: bool, shift: bool
    ) -> None:
        super().__init__()
        step = (1, stride, stride)
        kernel_time = 3 if temporal else 1
        self.shift = shift
        self.conv1 = ConvNorm(channels_in, channels, (kernel_time, 3, 3), stride=step)
        self.conv2 = ConvNorm(channels, channels, (1, 3, 3))
        self.shortcut = _shortcut(channels_in, channels, step)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Map `B C T H W` to `B C' T H/stride W/stride`."""
        y = self.conv1(shift_time(x_BCTHW) if self.shift else x_BCTHW)
        kept = x_BCTHW if self.shortcut is None else self.shortcut(x_BCTHW, relu=False)
        out: Tensor = self.conv2(y, add=kept)
        return out


class Bottleneck(nn.Module):
    """Three convolutions and a shortcut.

    Their kernels are 1x1x1 (3x1x1 if `temporal`), 1x3x3 with the stride, and 1x1x1.

    Args:
        channels_in: number of input channels.
        channels: number of output channels; the first two convolutions have a quarter of them.
        stride: spatial stride.
        temporal: whether the first convolution has a temporal kernel.
        shift: whether the convolutions read channels that are shifted along time.
        pooled_shortcut: whether an average over 3x3 pixels makes the shortcut smaller, instead of
            the stride of its convolution (big-little networks).
        last_relu: whether a ReLU follows the addition of the shortcut.
    """

    expansion = 4

    def __init__(
        self,
        channels_in: int,
        channels: int,
        *,
        stride: int,
        temporal: bool,
        shift: bool,
        pooled_shortcut: bool = False,
        last_relu: bool = True,
    ) -> None:
        super().__init__()
        step = (1, stride, stride)
        inner = channels // self.expansion
        self.shift = shift
        self.last_relu = last_relu
        self.pool = stride if pooled_shortcut else 1
        self.conv1 = ConvNorm(channels_in, inner, (3 if temporal else 1, 1, 1))
        self.conv2 = ConvNorm(inner, inner, (1, 3, 3), stride=step)
        self.conv3 = ConvNorm(inner, channels)
        self.shortcut = _shortcut(channels_in, channels, (1, 1, 1) if pooled_shortcut else step)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Map `B C T H W` to `B C' T H/stride W/stride`."""
        y = self.conv2(self.conv1(shift_time(x_BCTHW) if self.shift else x_BCTHW))
        out: Tensor = self.conv3(y, add=self.kept(x_BCTHW), relu=self.last_relu)
        return out

    def kept(self, x_BCTHW: Tensor) -> Tensor:
        """Return what the shortcut adds."""
        x = x_BCTHW if self.pool == 1 else mean_pool_space(x_BCTHW, 3, stride=self.pool)
        return x if self.shortcut is None else self.shortcut(x, relu=False)


def shift_time(x_BCTHW: Tensor) -> Tensor:
    """Take 1/8 of the channels from the next frame and another 1/8 from the previous frame.

    The other channels are unchanged. At the start and end of the clip, missing values are zero.
    """
    part = x_BCTHW.shape[1] // _SHIFTED_DIVISOR
    earlier = x_BCTHW[:, :part]
    later = x_BCTHW[:, part : 2 * part]
    kept = x_BCTHW[:, 2 * part :]
    earlier = functional.pad(earlier[:, :, 1:], (0, 0, 0, 0, 0, 1))
    later = functional.pad(later[:, :, :-1], (0, 0, 0, 0, 1, 0))
    return torch.cat([earlier, later, kept], dim=1)


def _shortcut(channels_in: int, channels: int, stride: Size3) -> ConvNorm | None:
    if channels_in == channels and stride == (1, 1, 1):
        return None
    return ConvNorm(channels_in, channels, stride=stride)
