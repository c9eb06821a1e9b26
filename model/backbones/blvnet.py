"""bLVNet-TAM: big and little branches that read frames in turn, and temporal aggregation.

Fan, Chen, Kuehne, Pistoia, Cox: More Is Less: Learning Efficient Video Representations by
Big-Little Network and Depthwise Temporal Aggregation, NeurIPS 2019. The layers follow the public
code of the paper (IBM/bLVNet-TAM) with its published settings: the little branch has 1/2 of the
channels (alpha) and 1/4 of the blocks (beta), and aggregation sees three frames.

In every module before stage 5, the big branch reads the second frame of each pair at half the
resolution, and the little branch reads the first frame. The sum of both stands for the pair.

Letters: B clips, C channels, T time, H and W space; 2T counts frames, T counts pairs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.backbones.blocks import Bottleneck
from model.backbones.conv import ConvNorm
from model.backbones.resnet import recomputed
from model.backbones.stem import Stem
from model.backbones.table import stage_channels

__all__ = ["BLVNET_BLOCKS", "BigLittleNet", "TemporalAggregation"]

_ALPHA, _BETA = 2, 4
# The number of blocks of stages 2 to 5, for each depth.
BLVNET_BLOCKS = {50: (3, 4, 6, 3), 101: (4, 8, 18, 3)}


class TemporalAggregation(nn.Module):
    """`relu(previous_c x[t-1] + current_c x[t] + next_c x[t+1])`, for each channel c alone.

    Frames beyond the clip are zero. The three weights of each channel are a depthwise convolution
    along time.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        # The scale is that of the public code.
        self.previous, self.current, self.next = (
            nn.Parameter(torch.randn(channels, 1, 1, 1, 1) * (2 / channels) ** 0.5)
            for _ in range(3)
        )

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Map `B C T H W` to the same shape."""
        return _aggregated(x_BCTHW, self._weight())

    def folded(self, dtype: torch.dtype) -> nn.Module:
        """Return an equivalent module for inference, with one weight in `dtype`."""
        return _FoldedAggregation(self._weight().detach().to(dtype))

    def _weight(self) -> Tensor:
        return torch.cat([self.previous, self.current, self.next], dim=2)


class _FoldedAggregation(nn.Module):
    def __init__(self, weight_C1311: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight_C1311)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        return _aggregated(x_BCTHW, self.get_buffer("weight"))


def _aggregated(x_BCTHW: Tensor, weight_C1311: Tensor) -> Tensor:
    y = functional.conv3d(x_BCTHW, weight_C1311, padding=(1, 0, 0), groups=x_BCTHW.shape[1])
    return y.relu_()


class BigLittleNet(nn.Module):
    """The backbone: computes the maps of stages 3, 4 and 5 from clips.

    Their H and W are 1/16, 1/16 and 1/32 of the clips' H and W, rounded up: as in the public code,
    stage 4 keeps the resolution. T is half the number of frames.

    Args:
        depth: 50 or 101.
        width: number of channels of the stem (64 in the paper).

    Attributes:
        channels: number of channels of the three maps.
        checkpointing: whether the backward pass recomputes the activations of residual blocks.
    """

    def __init__(self, depth: int, width: int) -> None:
        super().__init__()
        blocks = BLVNET_BLOCKS[depth]
        channels = stage_channels(depth, width)
        self.channels = channels[1:]
        self.checkpointing = False
        self.stem = Stem(width, kernel_time=1, stride_time=1)
        self.entry = _Entry(width)
        inputs = (width, *channels)
        self.stages = nn.ModuleList(
            _Stage(inputs[i], channels[i], blocks[i], stride=1 if i == 2 else 2) for i in range(3)
        )
        self.last = nn.ModuleList(
            _AggregatingBlock(inputs[3] if i == 0 else channels[3], channels[3], first=i == 0)
            for i in range(blocks[3])
        )

    def forward(self, clips_BCTHW: Tensor) -> list[Tensor]:
        """Return the maps of stages 3, 4 and 5."""
        x = self.entry(self.stem(clips_BCTHW))
        maps = []
        for stage in self.stages:
            x = self._run(stage, _each_twice(x))
            maps.append(x)
        for block in self.last:
            x = self._run(block, x)
        return [*maps[1:], x]

    def _run(self, module: nn.Module, x_BCTHW: Tensor) -> Tensor:
        y: Tensor = recomputed(module, x_BCTHW) if self.checkpointing else module(x_BCTHW)
        return y


class _Entry(nn.Module):
    """What stands before stage 2: the big branch is one convolution, the little one is three."""

    def __init__(self, width: int) -> None:
        super().__init__()
        thin = width // _ALPHA
        self.aggregate = TemporalAggregation(width)
        self.big = ConvNorm(width, width, (1, 3, 3), stride=(1, 2, 2))
        self.little = nn.ModuleList(
            [
                ConvNorm(width, thin, (1, 3, 3)),
                ConvNorm(thin, thin, (1, 3, 3), stride=(1, 2, 2)),
            ]
        )
        self.widen = ConvNorm(thin, width)
        self.merge = ConvNorm(width, width)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Map `B C 2T H W` to `B C T H/2 W/2`."""
        first, second = _frames_in_turn(self.aggregate(x_BCTHW))
        big = self.big(second, relu=False)
        merged: Tensor = self.merge(self.widen(_through(self.little, first), add=big))
        return merged


class _Stage(nn.Module):
    """A module of big and little branches, and a block that reads their sum."""

    def __init__(self, channels_in: int, channels: int, blocks: int, *, stride: int) -> None:
        super().__init__()
        thin = channels // _ALPHA
        big, little = blocks - 1, max(1, blocks // _BETA - 1)
        self.aggregate = TemporalAggregation(channels_in)
        self.big = nn.ModuleList(
            _block(
                channels if i else channels_in,
                channels,
                stride=1 if i else 2,
                # The sum with the little branch follows; then comes the ReLU.
                last_relu=i < big - 1,
            )
            for i in range(big)
        )
        self.little = nn.ModuleList(
            _block(thin if i else channels_in, thin, stride=1) for i in range(little)
        )
        self.widen = ConvNorm(thin, channels)
        self.merge = _block(channels, channels, stride=stride)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Map `B C 2T H W` to `B C' T H/stride W/stride`."""
        first, second = _frames_in_turn(self.aggregate(x_BCTHW))
        big = _through(self.big, second)
        little = _through(self.little, first)
        big = functional.interpolate(big, little.shape[2:])
        merged: Tensor = self.merge(self.widen(little, add=big))
        return merged


class _AggregatingBlock(Bottleneck):
    """A block of stage 5: its convolutions read the aggregated frames.

    So does the shortcut if it has a convolution; otherwise it adds the frames as they are.
    """

    def __init__(self, channels_in: int, channels: int, *, first: bool) -> None:
        super().__init__(
            channels_in,
            channels,
            stride=2 if first else 1,
            temporal=False,
            shift=False,
            pooled_shortcut=True,
        )
        self.aggregate = TemporalAggregation(channels_in)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Map `B C T H W` to `B C' T H/stride W/stride`."""
        mixed = self.aggregate(x_BCTHW)
        kept = x_BCTHW if self.shortcut is None else self.kept(mixed)
        out: Tensor = self.conv3(self.conv2(self.conv1(mixed)), add=kept)
        return out


def _block(channels_in: int, channels: int, *, stride: int, last_relu: bool = True) -> Bottleneck:
    return Bottleneck(
        channels_in,
        channels,
        stride=stride,
        temporal=False,
        shift=False,
        pooled_shortcut=True,
        last_relu=last_relu,
    )


def _through(layers: nn.ModuleList | Sequence[nn.Module], x_BCTHW: Tensor) -> Tensor:
    for layer in layers:
        x_BCTHW = layer(x_BCTHW)
    return x_BCTHW


def _frames_in_turn(x_BCTHW: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first and the second frame of each pair."""
    return x_BCTHW[:, :, ::2], x_BCTHW[:, :, 1::2]


def _each_twice(x_BCTHW: Tensor) -> Tensor:
    """Give both frames of a pair the map of the pair, in channels-last memory."""
    batch, channels, time, height, width = x_BCTHW.shape
    pairs = x_BCTHW.permute(0, 2, 3, 4, 1).unsqueeze(2).expand(-1, -1, 2, -1, -1, -1)
    frames = pairs.reshape(batch, 2 * time, height, width, channels)
    return frames.permute(0, 4, 1, 2, 3)
