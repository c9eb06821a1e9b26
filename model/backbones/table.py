"""The table of backbones: the properties in which they differ, and sizes of residual networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from model.backbones.blocks import BasicBlock, Bottleneck

__all__ = [
    "BACKBONES",
    "FAST_PATHWAY",
    "STAGE_BLOCKS",
    "Backbone",
    "BackboneName",
    "Depth",
    "Entry",
    "has_bottlenecks",
    "stage_channels",
]

BackboneName = Literal[
    "r2d", "i3d", "slow_only", "tsn", "tsm", "slowfast_4x16", "slowfast_8x8", "blvnet_tam"
]
Depth = Literal[18, 50, 101]
Entry = Literal["strided", "pooled", "sampled"]
Inflation = Literal["all", "none", "first", "second"]

STAGE_BLOCKS: dict[int, tuple[int, int, int, int]] = {
    18: (2, 2, 2, 2),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
}
_BOTTLENECK_DEPTHS = (50, 101)


@dataclass(frozen=True)
class Backbone:
    """The properties in which one backbone differs from the others.

    Attributes:
        entry: how the number of frames is divided by `stride` before stage 2; see `ResNet`. None:
            all frames are read.
        stem_time: length of the stem's kernel in time.
        inflated: for each of stages 2 to 5, which residual blocks have a temporal kernel of 3:
            `all`, `none`, or every second block, starting with the `first` or the `second`.
        pool_time: whether the maximum of every pair of frames is taken after stage 2.
        shift: whether blocks shift channels along time (TSM).
        stride: temporal stride before stage 2.
        lateral_time: length in time of the kernels that connect the fast to the slow pathway; 0
            for a backbone with one pathway.
        big_little: whether two branches of different resolution read the frames in turn.
    """

    entry: Entry | None
    stem_time: int = 1
    inflated: tuple[Inflation, ...] = ("none",) * 4
    pool_time: bool = False
    shift: bool = False
    stride: int = 4
    lateral_time: int = 0
    big_little: bool = False

    @property
    def time_stride(self) -> int:
        """Temporal stride of the last stages: clip frames per time position."""
        return self.stride * (2 if self.pool_time else 1)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The ways in which this backbone can divide the number of frames."""
        if self.entry == "strided":
            return "strided", "pooled", "sampled"
        return () if self.entry is None else (self.entry,)

    @property
    def takes_non_local(self) -> bool:
        """Whether the backbone can have non-local blocks."""
        return not (self.lateral_time or self.big_little)


_SLOW: tuple[Inflation, ...] = ("none", "none", "all", "all")

BACKBONES: dict[BackboneName, Backbone] = {
    # Wang et al., Non-local Neural Networks: C2D (called R2D in the paper) and I3D.
    "r2d": Backbone("strided", pool_time=True),
    "i3d": Backbone(
        "strided", stem_time=5, inflated=("all", "first", "first", "second"), pool_time=True
    ),
    # Feichtenhofer et al., SlowFast Networks: the slow pathway alone, 8 x 8.
    "slow_only": Backbone("sampled", inflated=_SLOW),
    # Wang et al., Temporal Segment Networks: one frame from each of 8 segments; the results are
    # averaged.
    "tsn": Backbone("sampled"),
    # Lin et al., TSM: TSN with a shift of channels along time in every block.
    "tsm": Backbone("sampled", shift=True),
    # Feichtenhofer et al., SlowFast Networks. The names count the frames of the slow pathway in 64
    # frames of the video; a clip has every other frame of the video.
    "slowfast_4x16": Backbone("sampled", inflated=_SLOW, stride=8, lateral_time=5),
    "slowfast_8x8": Backbone("sampled", inflated=_SLOW, stride=4, lateral_time=7),
    # Fan et al., More Is Less: bLVNet-TAM. Its branches merge pairs of frames.
    "blvnet_tam": Backbone(None, stride=2, big_little=True),
}
# The fast pathway of SlowFast reads every frame of the clip.
FAST_PATHWAY = Backbone("sampled", stem_time=5, inflated=("all",) * 4, stride=1)


def has_bottlenecks(depth: int) -> bool:
    """Tell whether networks of this depth consist of bottlenecks; the others have basic blocks."""
    return depth in _BOTTLENECK_DEPTHS


def stage_channels(depth: int, width: int) -> tuple[int, int, int, int]:
    """Return the number of channels of the maps of stages 2 to 5 of a residual network."""
    expansion = Bottleneck.expansion if has_bottlenecks(depth) else BasicBlock.expansion
    return expansion * width, 2 * expansion * width, 4 * expansion * width, 8 * expansion * width
