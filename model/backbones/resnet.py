"""One residual net over clips, for every backbone of the paper; `BACKBONES` says in one line each
how they differ.

    stem     t x 7 x 7 convolution, spatial stride 2
    pool     3 x 3 maximum, spatial stride 2
    stage 2  and, for r2d and i3d, the maximum of each two frames after it
    stage 3, 4, 5, each with spatial stride 2

32 x 224 x 224 reaches the last three stages as 28, 14 and 7 places square at T = 4 (r2d, i3d) or 8
(the others). On the way to stage 2 every clip loses a factor of four in time; `Entry` names the
three ways that public nets do it.

Letters: B clips, C channels, T time, H and W space.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from model.backbones.conv import ConvNorm, Size3
from model.backbones.non_local import NonLocalPooling, non_local_block, non_local_blocks
from model.backbones.pool import max_pool_space, max_pool_time
from model.backbones.stem import Stem

__all__ = [
    "BACKBONES",
    "STAGE_BLOCKS",
    "Backbone",
    "BackboneName",
    "Depth",
    "Entry",
    "ResNet",
    "stage_channels",
]

BackboneName = Literal["r2d", "i3d", "slow_only", "tsn", "tsm"]
Depth = Literal[18, 50, 101]
Entry = Literal["strided", "pooled", "sampled"]

STAGE_BLOCKS: dict[int, tuple[int, int, int, int]] = {
    18: (2, 2, 2, 2),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
}
_BOTTLENECK_DEPTHS = (50, 101)
# Frames lost on the way to stage 2: 32 frames become 8.
_ENTRY_STRIDE = 4
# TSM moves this share of the channels one step forwards in time, and as many one step backwards.
_SHIFTED_SHARE = 8


@dataclass(frozen=True)
class Backbone:
    """What makes one backbone of the family.

    Attributes:
        entry: how the first factor of four in time goes; see `ResNet`.
        stem_time: size of the stem's kernel along time.
        inflated: for stages 2 to 5, which residual blocks have a temporal kernel of 3: all, none,
            or every second one beginning with the first or the second.
        pool_time: whether the maximum of each two frames is taken after stage 2.
        shift: whether blocks shift channels along time (TSM).
    """

    entry: Entry
    stem_time: int = 1
    inflated: tuple[Literal["all", "none", "first", "second"], ...] = ("none",) * 4
    pool_time: bool = False
    shift: bool = False

    @property
    def time_stride(self) -> int:
        """Frames of a clip behind one position in time of the last stages."""
        return _ENTRY_STRIDE * (2 if self.pool_time else 1)


BACKBONES: dict[BackboneName, Backbone] = {
    # Wang et al., Non-local Neural Networks: C2D (called R2D in the paper) and I3D.
    "r2d": Backbone("strided", pool_time=True),
    "i3d": Backbone(
        "strided", stem_time=5, inflated=("all", "first", "first", "second"), pool_time=True
    ),
    # Feichtenhofer et al., SlowFast Networks: the slow pathway alone, 8 x 8.
    "slow_only": Backbone("sampled", inflated=("none", "none", "all", "all")),
    # Wang et al., Temporal Segment Networks: one frame of each of 8 segments, consensus by
    # averaging.
    "tsn": Backbone("sampled"),
    # Lin et al., TSM: the same with a shift along time in every block.
    "tsm": Backbone("sampled", shift=True),
}


def stage_channels(depth: int, width: int) -> tuple[int, int, int, int]:
    """Channels of stages 2 to 5."""
    expansion = Bottleneck.expansion if depth in _BOTTLENECK_DEPTHS else BasicBlock.expansion
    return expansion * width, 2 * expansion * width, 4 * expansion * width, 8 * expansion * width


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; the first is 3x3x3 where the block is inflated."""

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
        """`B C T H W` to `B C' T H/stride W/stride`."""
        y = self.conv1(shift_time(x_BCTHW) if self.shift else x_BCTHW)
        kept = x_BCTHW if self.shortcut is None else self.shortcut(x_BCTHW, relu=False)
        out: Tensor = self.conv2(y, add=kept)
        return out


class Bottleneck(nn.Module):
    """1x1x1 (3x1x1 where inflated), 1x3x3 with the stride, 1x1x1, and a shortcut."""

    expansion = 4

    def __init__(
        self, channels_in: int, channels: int, *, stride: int, temporal: bool, shift: bool
    ) -> None:
        super().__init__()
        step = (1, stride, stride)
        inner = channels // self.expansion
        self.shift = shift
        self.conv1 = ConvNorm(channels_in, inner, (3 if temporal else 1, 1, 1))
        self.conv2 = ConvNorm(inner, inner, (1, 3, 3), stride=step)
        self.conv3 = ConvNorm(inner, channels)
        self.shortcut = _shortcut(channels_in, channels, step)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """`B C T H W` to `B C' T H/stride W/stride`."""
        y = self.conv2(self.conv1(shift_time(x_BCTHW) if self.shift else x_BCTHW))
        kept = x_BCTHW if self.shortcut is None else self.shortcut(x_BCTHW, relu=False)
        out: Tensor = self.conv3(y, add=kept)
        return out


class ResNet(nn.Module):
    """The backbone; returns the maps of stages 3, 4 and 5.

    Args:
        name: a key of `BACKBONES`.
        depth: 18, 50 or 101.
        width: channels of the stem (64 in the paper).
        entry: how four frames become one before stage 2. `strided`: the stem has stride 2 in time
            and the pool reads every second frame; `pooled`: the pool takes the maximum of both
            instead; `sampled`: only every fourth frame of the clip enters.
        non_local: None, or where the non-local blocks pool; see `non_local_block`.

    Attributes:
        checkpointing: True recomputes each residual block in the backward pass instead of keeping
            its activations.
    """

    def __init__(
        self,
        name: BackboneName,
        depth: int,
        width: int,
        *,
        entry: Entry,
        non_local: NonLocalPooling | None,
    ) -> None:
        super().__init__()
        backbone = BACKBONES[name]
        self.entry: Entry = entry
        self.pool_time = backbone.pool_time
        self.checkpointing = False
        stride_time = 1 if entry == "sampled" else 2
        self.stem = Stem(
            width,
            kernel_time=backbone.stem_time,
            stride_time=stride_time,
            keep_every=2 if entry == "strided" else 1,
        )
        self.stages = nn.ModuleList()
        self.non_local = nn.ModuleDict()
        channels_in = width
        for stage, channels in enumerate(stage_channels(depth, width)):
            blocks = _stage(depth, stage, channels_in, channels, backbone)
            self.stages.append(nn.ModuleList(blocks))
            if non_local is not None:
                for number in non_local_blocks(len(blocks), stage):
                    self.non_local[f"{stage}_{number}"] = non_local_block(
                        channels, stage, non_local
                    )
            channels_in = channels

    def forward(self, clips_BCTHW: Tensor) -> list[Tensor]:
        """Maps of stages 3, 4, 5 with H and W of 1/8, 1/16 and 1/32 rounded up."""
        if self.entry == "sampled":
            clips_BCTHW = clips_BCTHW[:, :, ::_ENTRY_STRIDE]
        x = max_pool_space(self.stem(clips_BCTHW), 3, stride=2)
        if self.entry == "pooled":
            x = max_pool_time(x)
        maps = []
        for stage in range(len(self.stages)):
            for block in self._blocks(stage):
                x = _recomputed(block, x) if self.checkpointing else block(x)
            if stage == 0 and self.pool_time:
                x = max_pool_time(x)
            maps.append(x)
        return maps[1:]

    def _blocks(self, stage: int) -> Iterator[nn.Module]:
        """The residual blocks of a stage, each followed by its non-local block if it has one."""
        for number, block in enumerate(cast("nn.ModuleList", self.stages[stage])):
            yield block
            name = f"{stage}_{number}"
            if name in self.non_local:
                yield self.non_local[name]


def _recomputed(block: nn.Module, x_BCTHW: Tensor) -> Tensor:
    def contexts() -> tuple[
        contextlib.AbstractContextManager[None], contextlib.AbstractContextManager[None]
    ]:
        return contextlib.nullcontext(), _statistics_kept(block)

    y: Tensor = checkpoint(block, x_BCTHW, use_reentrant=False, context_fn=contexts)
    return y


@contextlib.contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """Within it, batch norm leaves its running statistics alone: the second forward pass must
    not count twice.
    """
    norms = [
        module
        for module in block.modules()
        if isinstance(module, (nn.BatchNorm3d, nn.SyncBatchNorm))
    ]
    kept = [
        (norm.momentum, norm.num_batches_tracked.clone())
        for norm in norms
        if norm.num_batches_tracked is not None
    ]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, kept, strict=True):
            norm.momentum = momentum
            assert norm.num_batches_tracked is not None
            norm.num_batches_tracked.copy_(count)


def shift_time(x_BCTHW: Tensor) -> Tensor:
    """One eighth of the channels from the next frame, one eighth from the last, the rest in
    place; zeros at the ends.
    """
    part = x_BCTHW.shape[1] // _SHIFTED_SHARE
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


def _stage(
    depth: int, stage: int, channels_in: int, channels: int, backbone: Backbone
) -> list[nn.Module]:
    block = Bottleneck if depth in _BOTTLENECK_DEPTHS else BasicBlock
    pattern = backbone.inflated[stage]
    blocks: list[nn.Module] = []
    for number in range(STAGE_BLOCKS[depth][stage]):
        temporal = pattern == "all" or pattern == ("first", "second")[number % 2]
        stride = 2 if number == 0 and stage > 0 else 1
        blocks.append(
            block(channels_in, channels, stride=stride, temporal=temporal, shift=backbone.shift)
        )
        channels_in = channels
    return blocks
