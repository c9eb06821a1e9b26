"""The first convolution: 3 channels in, stride 2, the costliest layer of the whole net when
computed as written.

Convolutions are fast when a pixel holds many channels; here it holds three. So two neighbouring
pixels are read as one with six channels (a view), the frames a temporal kernel covers are stacked
behind each other, and one 2D convolution with the same weights, rearranged, does the rest.

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

# Measured on CPUs with AMX: 32 input channels run 1.3 times as fast as 30; 8 as fast as 6.
_CHANNEL_MULTIPLE = 8
_WORDS = {2: torch.int32, 4: torch.int64}


class Stem(ConvNorm):
    """A `t x 7 x 7` convolution with spatial stride 2, batch norm and ReLU.

    Args:
        channels: C of the output.
        kernel_time: size along T.
        stride_time: stride along T.
        keep_every: of the output's frames, the network reads only every so manieth; folded and in
            training, no others are computed.
    """

    def __init__(
        self, channels: int, *, kernel_time: int, stride_time: int, keep_every: int = 1
    ) -> None:
        super().__init__(3, channels, (kernel_time, 7, 7), stride=(stride_time, 2, 2))
        self.keep_every = keep_every

    def forward(self, x_BCTHW: Tensor, *, add: Tensor | None = None, relu: bool = True) -> Tensor:
        """`B 3 T H W` to `B C T' H/2 W/2`, every `keep_every`-th frame of it.

        In training the other frames are not computed, so batch norm's statistics are those of the
        frames that are used.
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
        """The inference twin, in `dtype`."""
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
    """Whether the pixels of every frame lie in memory one after the other, so that two can be
    read as one.
    """
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
    """The frames under each step of a temporal kernel, side by side as channels, two pixels in one.

    Args:
        x_BCTHW: `B 3 T H W`, W even, each frame in channels-last memory; frames may lie apart.

    Returns:
        `B*T' C H W/2+3` in channels-last memory, where C is `6 kernel_time` (tap, pixel, colour)
        rounded up and zero beyond, and the width holds the zeros that a 7-wide kernel needs: two
        pairs before, one after.
    """
    batch, colours, time, height, width = x_BCTHW.shape
    word = _WORDS[x_BCTHW.element_size()]
    # Three machine words hold two pixels; copying words, not numbers, is what makes this cheap.
    pairs = (
        x_BCTHW.permute(0, 2, 3, 4, 1).view(batch, time, height, width // 2, 2 * colours).view(word)
    )
    reach = kernel_time // 2
    steps = (time - 1) // stride_time + 1
    channels = _padded(6 * kernel_time)
    out = pairs.new_empty(batch, steps, height, width // 2 + 3, channels // 2)
    out[..., :2, :], out[..., -1, :], out[..., 3 * kernel_time :] = 0, 0, 0
    for tap in range(kernel_time):
        first = max(0, -((tap - reach) // stride_time))
        last = min(steps - 1, (time - 1 + reach - tap) // stride_time)
        (
            out[:, :first, :, :, 3 * tap : 3 * tap + 3],
            out[:, last + 1 :, :, :, 3 * tap : 3 * tap + 3],
        ) = 0, 0
        source = pairs[
            :,
            first * stride_time + tap - reach : last * stride_time + tap - reach + 1 : stride_time,
        ]
        out[:, first : last + 1, :, 2:-1, 3 * tap : 3 * tap + 3] = source
    return out.view(x_BCTHW.dtype).flatten(0, 1).permute(0, 3, 1, 2)


def stacked_weight(weight_OCTHW: Tensor) -> Tensor:
    """The `O 3 t 7 7` weight as the `O C 7 4` weight that belongs to `stack_frames`."""
    out, colours, time = weight_OCTHW.shape[:3]
    # A zero tap in front makes the 7 columns four pairs.
    pairs = functional.pad(weight_OCTHW, (1, 0)).view(out, colours, time, 7, 4, 2)
    channels = pairs.permute(0, 2, 5, 1, 3, 4).reshape(out, time * 2 * colours, 7, 4)
    return functional.pad(channels, (0, 0, 0, 0, 0, _padded(channels.shape[1]) - channels.shape[1]))


def _padded(channels: int) -> int:
    return -(-channels // _CHANNEL_MULTIPLE) * _CHANNEL_MULTIPLE
