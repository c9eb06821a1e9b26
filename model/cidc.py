"""The CIDC unit: channel-independent directional convolution (paper, 3.1, 3.3 and figure 2).

Letters: B clips, C channels, T time, H and W space, D directions.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from configs import ShapeError
from model.backbones.conv import ConvNorm
from model.mixing import (
    FixedMixer,
    MixingPath,
    Normalisation,
    directional_mix_logits,
    directional_weights,
)

__all__ = ["CIDCUnit", "Direction", "use_mixing"]

Direction = Literal["none", "uni", "bi"]


class CIDCUnit(nn.Module):
    """Directional mixing over time, then a 1x1x1 convolution, batch norm and ReLU.

    Args:
        channels: number of input and output channels.
        t_in: number of input frames.
        t_out: number of output rows; even for `bi`, where each direction has half of the rows.
        direction: `none` (every output row uses all frames), `uni` (a row uses no frames later
            than its own time), `bi` (half of the rows read time forwards, half backwards).
        normalisation: how softmax values are mapped to [-1, 1]; see `directional_weights`.

    Raises:
        ShapeError: a size is below 1, or `t_out` is odd for `bi`.
    """

    def __init__(
        self,
        channels: int,
        t_in: int,
        t_out: int,
        direction: Direction = "bi",
        normalisation: Normalisation = "affine",
    ) -> None:
        super().__init__()
        if min(channels, t_in, t_out) < 1:
            raise ShapeError(
                "CIDCUnit sizes must be at least 1,"
                f" got channels={channels}, t_in={t_in}, t_out={t_out}"
            )
        if direction == "bi" and t_out % 2:
            raise ShapeError(f"a bi unit's t_out counts both halves and must be even, got {t_out}")
        if direction not in ("none", "uni", "bi"):
            raise ValueError(f"direction must be 'none', 'uni' or 'bi', got {direction!r}")
        directions = 2 if direction == "bi" else 1
        self.direction: Direction = direction
        self.normalisation: Normalisation = normalisation
        self.mixing: MixingPath = "auto"
        self.logits_DCTT = nn.Parameter(
            torch.randn(directions, channels, t_out // directions, t_in)
        )
        self.project = ConvNorm(channels, channels)

    @property
    def masked(self) -> bool:
        """Whether rows use no frames beyond their own time."""
        return self.direction != "none"

    def mixing_weights(self) -> Tensor:
        """Compute the mixing weights `D C T' T` from the logits."""
        return directional_weights(
            self._wide_logits(), normalisation=self.normalisation, masked=self.masked
        )

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Map `B C t_in H W` to `B C t_out H W`."""
        mixed = directional_mix_logits(
            x_BCTHW,
            self._wide_logits(),
            normalisation=self.normalisation,
            masked=self.masked,
            path=self.mixing,
        )
        y: Tensor = self.project(mixed)
        return y

    def folded(self, dtype: torch.dtype) -> nn.Module:
        """Return an equivalent module for inference.

        Its mixing weights are fixed, and its convolution includes the batch norm.
        """
        mixer = FixedMixer(self.mixing_weights(), dtype, masked=self.masked)
        mixer.mixing = self.mixing
        return nn.Sequential(mixer, self.project.folded(dtype))

    def _wide_logits(self) -> Tensor:
        """Return the logits in float32 or wider; a softmax in bfloat16 would be too inaccurate."""
        return self.logits_DCTT.to(torch.promote_types(self.logits_DCTT.dtype, torch.float32))


def use_mixing(network: nn.Module, path: MixingPath) -> None:
    """Set which code every CIDC unit uses for mixing; see `path` of `directional_mix`."""
    for module in network.modules():
        if isinstance(module, CIDCUnit | FixedMixer):
            module.mixing = path
