"""One residual network class for all backbones of the paper; `BACKBONES` lists them.

    stem     t x 7 x 7 convolution, spatial stride 2
    pool     3 x 3 maximum, spatial stride 2
    stage 2  for r2d and i3d, then the maximum of every pair of frames
    stage 3, 4, 5, each with spatial stride 2

For a clip of 32 x 224 x 224, the maps of the last three stages have 28 x 28, 14 x 14 and 7 x 7
pixels, with T = 4 (r2d, i3d) or T = 8 (the others). Before stage 2, the number of frames is divided
by four; `Entry` names the three ways in which public networks do that.

Letters: B clips, C channels, T time, H and W space.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, cast

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from model.backbones.blocks import BasicBlock, Bottleneck
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
# Temporal stride before stage 2: 32 frames become 8.
_ENTRY_STRIDE = 4


@dataclass(frozen=True)
class Backbone:
    """The properties in which one backbone differs from the others.

    Attributes:
        entry: how the number of frames is divided by four before stage 2; see `ResNet`.
        stem_time: length of the stem's kernel in time.
        inflated: for each of stages 2 to 5, which residual blocks have a temporal kernel of 3:
            `all`, `none`, or every second block, starting with the `first` or the `second`.
        pool_time: whether the maximum of every pair of frames is taken after stage 2.
        shift: whether blocks shift channels along time (TSM).
    """

    entry: Entry
    stem_time: int = 1
    inflated: tuple[Literal["all", "none", "first", "second"], ...] = ("none",) * 4
    pool_time: bool = False
    shift: bool = False

    @property
    def time_stride(self) -> int:
        """Temporal stride of the last stages: clip frames per time position."""
        return _ENTRY_STRIDE * (2 if self.pool_time else 1)


BACKBONES: dict[BackboneName, Backbone] = {
    # Wang et al., Non-local Neural Networks: C2D (called R2D in the paper) and I3D.
    "r2d": Backbone("strided", pool_time=True),
    "i3d": Backbone(
        "strided", stem_time=5, inflated=("all", "first", "first", "second"), pool_time=True
    ),
    # Feichtenhofer et al., SlowFast Networks: the slow pathway alone, 8 x 8.
    "slow_only": Backbone("sampled", inflated=("none", "none", "all", "all")),
    # Wang et al., Temporal Segment Networks: one frame from each of 8 segments; the results are
    # averaged.
    "tsn": Backbone("sampled"),
    # Lin et al., TSM: TSN with a shift of channels along time in every block.
    "tsm": Backbone("sampled", shift=True),
}


def stage_channels(depth: int, width: int) -> tuple[int, int, int, int]:
    """Return the number of channels of the maps of stages 2 to 5."""
    expansion = Bottleneck.expansion if depth in _BOTTLENECK_DEPTHS else BasicBlock.expansion
    return expansion * width, 2 * expansion * width, 4 * expansion * width, 8 * expansion * width


class ResNet(nn.Module):
    """The backbone: computes the maps of stages 3, 4 and 5 from clips.

    Args:
        name: a key of `BACKBONES`.
        depth: 18, 50 or 101.
        width: number of channels of the stem (64 in the paper).
        entry: how the number of frames is divided by four before stage 2. `strided`: the stem has
            stride 2 in time, and the pool reads every second frame of the stem's output.
            `pooled`: the same stem, but the pool takes the maximum of every pair of frames.
            `sampled`: the stem reads every fourth frame of the clip.
        non_local: where the non-local blocks pool (see `non_local_block`); None for a network
            without non-local blocks.

    Attributes:
        checkpointing: whether the backward pass recomputes the activations of residual blocks, to
            save memory.
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
        """Return the maps of stages 3, 4 and 5.

        Their H and W are 1/8, 1/16 and 1/32 of the clips' H and W, rounded up.
        """
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
        """Yield each residual block of a stage, followed by its non-local block if it has one."""
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
    """Keep batch norm's running statistics while a forward pass is computed for the second time."""
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
