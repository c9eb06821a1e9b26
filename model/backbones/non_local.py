"""The non-local block: attention between all positions of a map.

The block and its sub-sampling are from Wang, Girshick, Gupta, He: Non-local Neural Networks,
CVPR 2018.

Letters: B clips, C channels, T time, H and W space, N and M positions.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from model.backbones.conv import ConvNorm
from model.backbones.pool import max_pool_space

__all__ = ["NonLocalBlock", "NonLocalPooling", "non_local_block", "non_local_blocks"]

NonLocalPooling = Literal["paper", "before", "after", "none"]

# Number of non-local blocks in each of stages 2 to 5; five in total, as in the paper.
_BLOCKS_IN_STAGE = (0, 2, 3, 0)


def non_local_blocks(blocks: int, stage: int) -> tuple[int, ...]:
    """Return the indices of the residual blocks in a stage that a non-local block follows.

    The indices are evenly spread. ResNet-50 has non-local blocks after the second and fourth block
    of stage 3, and after the second, fourth and sixth of stage 4. In stage 4 of ResNet-101 they
    are after the seventh, fourteenth and twenty-first block. If a stage has too few residual
    blocks, a non-local block follows each of them.

    Args:
        blocks: number of residual blocks in the stage.
        stage: index of the stage: 0 to 3 for stages 2 to 5.
    """
    wanted = min(_BLOCKS_IN_STAGE[stage], blocks)
    step = blocks // max(wanted, 1)
    return tuple(step * (i + 1) - 1 for i in range(wanted))


def non_local_block(channels: int, stage: int, pooling: NonLocalPooling) -> NonLocalBlock:
    """Make a non-local block for a stage (index 1 or 2, for stage 3 or 4).

    With `paper`, blocks pool after the convolutions, and only in stage 3, where the map is large.
    The paper does not describe this. It was chosen because the cost then differs by at most 5 %
    from table 1, in all four rows that have non-local blocks.
    """
    if pooling == "paper":
        return NonLocalBlock(channels, pool="after" if stage == 1 else "none")
    return NonLocalBlock(channels, pool=pooling)


class NonLocalBlock(nn.Module):
    """Embedded-Gaussian attention between all positions in time and space, added to the input.

    Args:
        channels: number of input and output channels; the attention uses half as many.
        pool: whether keys and values are max-pooled over 2 x 2 pixels before their convolutions,
            after their convolutions, or not at all.
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
        """Map `B C T H W` to the same shape."""
        query_BNC = _positions(self.theta(x_BCTHW, relu=False))
        key_BMC, value_BMC = (
            _positions(self._pooled(x_BCTHW, project)) for project in (self.phi, self.g)
        )
        # ONNX export needs an axis for the attention heads, even with one head.
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


def _positions(x_BCTHW: Tensor) -> Tensor:
    """Reshape `B C T H W` to `B T*H*W C`; in channels-last memory the result is a view."""
    return x_BCTHW.permute(0, 2, 3, 4, 1).flatten(1, 3)
