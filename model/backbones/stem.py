"""The first convolution, from 3 channels with spatial stride 2, in a form that is fast on CPUs.

Convolutions are fast when pixels have many channels. Input pixels have only three, so a plain 3D
convolution would make this the slowest layer of the network. Here, two adjacent pixels are treated
as one pixel with six channels, and the frames under the temporal kernel are stacked as additional
channels. One 2D convolution with rearranged weights then computes the same result.

Letters: B clips, C channels, T time, H and W space.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.backbones.conv import ConvNorm, FoldedConv, Size3
from model.backbones.pool import unfold_time

__all__ = ["Stem", "stack_frames", "stacked_weight"]

# Measured on CPUs with AMX: a convolution with 32 input channels is 1.3 times as fast as one with
# 30, and one with 8 is as fast as one with 6.
_CHANNEL_MULTIPLE = 8
# Size of an element in bytes -> the integer type that is twice as wide.
_WORDS = {2: torch.int32, 4: torch.int64}


class Stem(ConvNorm):
    """A `t x 7 x 7` convolution with spatial stride 2, batch norm and ReLU.

    Args:
        channels: number of output channels.
        kernel_time: kernel size along T.
        stride_time: stride along T.
        keep_every: 2 if the network uses only every second frame of the output, 1 if it uses all.
            Unused frames are not computed in training and after folding.
    """

    def __init__(
        self, channels: int, *, kernel_time: int, stride_time: int, keep_every: int = 1
    ) -> None:
        super().__init__(3, channels, (kernel_time, 7, 7), stride=(stride_time, 2, 2))
        self.keep_every = keep_every

    def forward(self, x_BCTHW: Tensor, *, add: Tensor | None = None, relu: bool = True) -> Tensor:
        """Map `B 3 T H W` to `B C T' H/2 W/2`; return every `keep_every`-th frame.

        In training, only the returned frames are computed, so batch norm's statistics come from
        them alone.
        """
        assert add is None
        assert self.norm is not None
        if not self.training:
            return super().forward(x_BCTHW, relu=relu)[:, :, :: self.keep_every]
        y: Tensor = self.norm(self._convolve_kept(x_BCTHW))
        return y.relu_() if relu else y

    def _convolve_kept(self, x_BCTHW: Tensor) -> Tensor:
        conv = self.conv
        stride_time = conv.stride[0] * self.keep_every
        kernel_time = conv.kernel_size[0]
        if x_BCTHW.requires_grad or not _stackable(x_BCTHW):
            padding = cast("Size3", conv.padding)
            return functional.conv3d(
                x_BCTHW, conv.weight, stride=(stride_time, 2, 2), padding=padding
            )
        if torch.is_autocast_enabled(x_BCTHW.device.type):
            x_BCTHW = x_BCTHW.to(torch.get_autocast_dtype(x_BCTHW.device.type))
        frames = stack_frames(x_BCTHW, kernel_time=kernel_time, stride_time=stride_time)
        y = functional.conv2d(frames, stacked_weight(conv.weight), stride=(2, 1), padding=(3, 0))
        return unfold_time(y, y.shape[0] // x_BCTHW.shape[0])

    def folded(self, dtype: torch.dtype) -> nn.Module:
        """Return an equivalent module for inference that computes in `dtype`."""
        weight, bias = self.folded_weights()
        stride = cast("Size3", self.conv.stride)
        return _FoldedStem(
            weight.to(dtype), bias.to(dtype), stride_time=stride[0] * self.keep_every
        )


class _FoldedStem(nn.Module):
    def __init__(self, weight: Tensor, bias: Tensor, *, stride_time: int) -> None:
        super().__init__()
        self.kernel_time = weight.shape[2]
        self.stride_time = stride_time
        padding = (self.kernel_time // 2, 3, 3)
        self.plain = FoldedConv(weight, bias, stride=(stride_time, 2, 2), padding=padding)
        self.stacked = FoldedConv(stacked_weight(weight), bias, stride=(2, 1), padding=(3, 0))

    def forward(self, x_BCTHW: Tensor, *, relu: bool = True) -> Tensor:
        if not _stackable(x_BCTHW):
            return cast("Tensor", self.plain(x_BCTHW, relu=relu))
        frames = stack_frames(x_BCTHW, kernel_time=self.kernel_time, stride_time=self.stride_time)
        y = self.stacked(frames, relu=relu)
        return unfold_time(y, y.shape[0] // x_BCTHW.shape[0])


def _stackable(x_BCTHW: Tensor) -> bool:
    """Tell whether two adjacent pixels of a frame can be viewed as one pixel without a copy."""
    if (
        x_BCTHW.device.type != "cpu"
        or x_BCTHW.element_size() not in _WORDS
        or x_BCTHW.shape[4] % 2
        or 0 in x_BCTHW.shape
    ):
        return False
    frame_HWC = x_BCTHW.permute(0, 2, 3, 4, 1)[0, 0]
    places = (x_BCTHW.stride(0), x_BCTHW.stride(2), x_BCTHW.storage_offset())
    return frame_HWC.is_contiguous() and all(place % 2 == 0 for place in places)


def stack_frames(x_BCTHW: Tensor, *, kernel_time: int, stride_time: int) -> Tensor:
    """Stack the frames under each step of a temporal kernel as channels; pair adjacent pixels.

    Args:
        x_BCTHW: `B 3 T H W` with even W, each frame in channels-last memory; the frames need not
            be adjacent.
        kernel_time: size of the kernel along T.
        stride_time: stride along T.

    Returns:
        `B*T' C H W/2+3` in channels-last memory. C is `6 kernel_time` (tap, pixel, colour), filled
        with zeros up to a multiple of 8. The width includes the zero padding for a kernel that is 7
        pixels wide: two pairs of pixels on the left and one on the right.
    """
    batch, colours, time, height, width = x_BCTHW.shape
    word = _WORDS[x_BCTHW.element_size()]
    # Three words hold two pixels; copying words is faster than copying single elements.
    pairs = x_BCTHW.permute(0, 2, 3, 4, 1).view(batch, time, height, width // 2, 2 * colours)
    pairs = pairs.view(word)
    reach = kernel_time // 2
    steps = (time - 1) // stride_time + 1
    channels = _padded(6 * kernel_time)
    out = pairs.new_empty(batch, steps, height, width // 2 + 3, channels // 2)
    out[..., :2, :] = 0
    out[..., -1, :] = 0
    out[..., 3 * kernel_time :] = 0
    for tap in range(kernel_time):
        # For steps `first` to `last`, the frame under this tap lies inside the clip.
        first = max(0, -((tap - reach) // stride_time))
        last = min(steps - 1, (time - 1 + reach - tap) // stride_time)
        target = out[..., 3 * tap : 3 * tap + 3]
        target[:, :first] = 0
        target[:, last + 1 :] = 0
        start = first * stride_time + tap - reach
        stop = last * stride_time + tap - reach + 1
        target[:, first : last + 1, :, 2:-1] = pairs[:, start:stop:stride_time]
    return out.view(x_BCTHW.dtype).flatten(0, 1).permute(0, 3, 1, 2)


def stacked_weight(weight_OCTHW: Tensor) -> Tensor:
    """Rearrange an `O 3 t 7 7` weight into the `O C 7 4` weight for `stack_frames` output."""
    out, colours, time = weight_OCTHW.shape[:3]
    # A column of zeros on the left turns the 7 columns into four pairs.
    pairs = functional.pad(weight_OCTHW, (1, 0)).view(out, colours, time, 7, 4, 2)
    channels = pairs.permute(0, 2, 5, 1, 3, 4).reshape(out, time * 2 * colours, 7, 4)
    return functional.pad(channels, (0, 0, 0, 0, 0, _padded(channels.shape[1]) - channels.shape[1]))


def _padded(channels: int) -> int:
    return -(-channels // _CHANNEL_MULTIPLE) * _CHANNEL_MULTIPLE
