"""One residual network class for all backbones that have residual stages in a row.

    stem     t x 7 x 7 convolution, spatial stride 2
    pool     3 x 3 maximum, spatial stride 2
    stage 2  for r2d and i3d, then the maximum of every pair of frames
    stage 3, 4, 5, each with spatial stride 2

For a clip of 32 x 224 x 224, the maps of the last three stages have 28 x 28, 14 x 14 and 7 x 7
pixels, with T = 4 (r2d, i3d) or T = 8 (the others). Before stage 2, the number of frames is divided
by four; `Entry` names the three ways in which public networks do that. Each pathway of SlowFast is
such a network too.

Letters: B clips, C channels, T time, H and W space.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import cast

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from model.backbones.blocks import BasicBlock, Bottleneck
from model.backbones.non_local import NonLocalPooling, non_local_block, non_local_blocks
from model.backbones.pool import max_pool_space, max_pool_time
from model.backbones.stem import Stem
from model.backbones.table import (
    STAGE_BLOCKS,
    Backbone,
    Entry,
    has_bottlenecks,
    stage_channels,
)

__all__ = ["ResNet", "recomputed"]


class ResNet(nn.Module):
    """The backbone: computes the maps of stages 3, 4 and 5 from clips.

    Args:
        backbone: the properties of the network, such as an entry of `BACKBONES`.
        depth: 18, 50 or 101.
        width: number of channels of the stem (64 in the paper).
        entry: how the number of frames is divided by four before stage 2. `strided`: the stem has
            stride 2 in time, and the pool reads every second frame of the stem's output.
            `pooled`: the same stem, but the pool takes the maximum of every pair of frames.
            `sampled`: the stem reads every fourth frame of the clip, or as `backbone.stride` says.
        non_local: where the non-local blocks pool (see `non_local_block`); None for a network
            without non-local blocks.
        lateral: number of channels that another pathway adds to the input of each stage.

    Attributes:
        channels: number of channels of the maps of stages 3, 4 and 5.
        checkpointing: whether the backward pass recomputes the activations of residual blocks, to
            save memory.
    """

    def __init__(
        self,
        backbone: Backbone,
        depth: int,
        width: int,
        *,
        entry: Entry,
        non_local: NonLocalPooling | None = None,
        lateral: tuple[int, ...] = (0, 0, 0, 0),
    ) -> None:
        super().__init__()
        self.entry: Entry = entry
        self.stride = backbone.stride
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
        self.channels = stage_channels(depth, width)[1:]
        for stage, channels in enumerate(stage_channels(depth, width)):
            blocks = _stage(depth, stage, channels_in + lateral[stage], channels, backbone)
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
        x = self.enter(clips_BCTHW)
        maps = []
        for stage in range(len(self.stages)):
            x = self.stage(stage, x)
            maps.append(x)
        return maps[1:]

    def enter(self, clips_BCTHW: Tensor) -> Tensor:
        """Return the input of stage 2: the stem's output after the pools."""
        if self.entry == "sampled":
            clips_BCTHW = clips_BCTHW[:, :, :: self.stride]
        x = max_pool_space(self.stem(clips_BCTHW), 3, stride=2)
        return max_pool_time(x) if self.entry == "pooled" else x

    def stage(self, stage: int, x_BCTHW: Tensor) -> Tensor:
        """Return the map of a stage (0 for stage 2) for the map of the stage before it."""
        x = x_BCTHW
        for block in self._blocks(stage):
            x = recomputed(block, x) if self.checkpointing else block(x)
        return max_pool_time(x) if stage == 0 and self.pool_time else x

    def _blocks(self, stage: int) -> Iterator[nn.Module]:
        """Yield each residual block of a stage, followed by its non-local block if it has one."""
        for number, block in enumerate(cast("nn.ModuleList", self.stages[stage])):
            yield block
            name = f"{stage}_{number}"
            if name in self.non_local:
                yield self.non_local[name]


def recomputed(block: nn.Module, x_BCTHW: Tensor) -> Tensor:
    """Run a block so that the backward pass computes its activations again, to save memory."""

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
    block = Bottleneck if has_bottlenecks(depth) else BasicBlock
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
