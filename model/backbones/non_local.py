"""The non-local block: attention of every place of a map to every other.

From Wang, Girshick, Gupta, He: Non-local Neural Networks, CVPR 2018, with their sub-sampling.

Letters: B clips, C channels, T time, H and W space, N and M places.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from model.backbones.conv import ConvNorm
from model.backbones.pool import max_pool_space

__all__ = ["NonLocalBlock", "NonLocalPooling", "non_local_block", "non_local_blocks"]

NonLocalPooling = Literal["paper", "before", "after", "none"]

# Non-local blocks in stages 2 to 5: five, as in the paper.
_BLOCKS_IN_STAGE = (0, 2, 3, 0)


def non_local_blocks(blocks: int, stage: int) -> tuple[int, ...]:
    """The residual blocks of a stage that a non-local block follows, evenly spread.

    In ResNet-50 these are the second and fourth block of stage 3, and the second, fourth and sixth
    of stage 4; in ResNet-101 the seventh, fourteenth and twenty-first of stage 4. In a stage with
    fewer blocks, one follows each.

    Args:
        blocks: residual blocks of the stage.
        stage: 0 to 3 for stages 2 to 5.
    """
    wanted = min(_BLOCKS_IN_STAGE[stage], blocks)
    step = blocks // max(wanted, 1)
    return tuple(step * (i + 1) - 1 for i in range(wanted))


def non_local_block(channels: int, stage: int, pooling: NonLocalPooling) -> NonLocalBlock:
    """Make the block for a stage (1 or 2 for stages 3 and 4).

    `paper` pools after the convolutions, and only in stage 3, where the map is large. The paper
    does not say this; with it, the cost is within 5 % of all four rows of table 1 that have
    non-local blocks.
    """
    if pooling == "paper":
        return NonLocalBlock(channels, pool="after" if stage == 1 else "none")
    return NonLocalBlock(channels, pool=pooling)


class NonLocalBlock(nn.Module):
    """Embedded-Gaussian attention of every place to every other, added to the map.

    Args:
        channels: C of input and output; inside there are half as many.
        pool: where keys and values are pooled over 2 x 2 places: before their convolutions, after
            them, or not at all.
    """

    def __init__(self, channels: int, *, pool: Literal["before", "after", "none"]) -> None:
        super().__init__()
        inner = channels // 2
        self.theta = ConvNorm(channels, inner, norm=False)
        self.phi = ConvNorm(channels, inner, norm=False)
        self.g = ConvNorm(channels, inner, norm=False)
        self.out = ConvNorm(inner, channels, bias=True)
        assert self.out.norm is not None
        nn.init.zeros_(self.out.norm.weight)
        self.pool = pool

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """`B C T H W` to the same shape."""
        query_BNC = _places(self.theta(x_BCTHW, relu=False))
        key_BMC, value_BMC = (
            _places(self._pooled(x_BCTHW, project)) for project in (self.phi, self.g)
        )
        # Exporters need the axis of attention heads, even for one head.
        heads = (query_BNC.unsqueeze(1), key_BMC.unsqueeze(1), value_BMC.unsqueeze(1))
        mixed_BNC = functional.scaled_dot_product_attention(*heads).squeeze(1)
        batch, _, time, height, width = x_BCTHW.shape
        mixed = mixed_BNC.view(batch, time, height, width, -1).permute(0, 4, 1, 2, 3)
        y: Tensor = self.out(mixed, add=x_BCTHW, relu=False)
        return y

    def _pooled(self, x_BCTHW: Tensor, project: nn.Module) -> Tensor:
        if self.pool == "before":
            x_BCTHW = max_pool_space(x_BCTHW, 2, stride=2)
        y: Tensor = project(x_BCTHW, relu=False)
        return max_pool_space(y, 2, stride=2) if self.pool == "after" else y


def _places(x_BCTHW: Tensor) -> Tensor:
    """`B C T H W` to `B T*H*W C`; a view in channels-last memory."""
    return x_BCTHW.permute(0, 2, 3, 4, 1).flatten(1, 3)
