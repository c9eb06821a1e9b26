"""Weights that scale one axis of a picture: antialiased triangles, or copies of the samples.

They are those of FFmpeg's converter (BILINEAR), so both give the same picture.
"""

from __future__ import annotations

import dataclasses
import functools

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Axis", "scale_both", "taps"]


@dataclasses.dataclass(frozen=True)
class Axis:
    """How the samples along one axis become pixels.

    The pixels of a position have the same value. Position p lies at sample
    `(p + 1/2) * samples / positions - 1/2 + quarters / 4`. Its value is the mean of the samples
    around it, weighted by a triangle. The triangle reaches as far as the positions are apart, but
    at least to the next sample. Beyond the ends of the axis, the samples at the ends are repeated.

    Args:
        samples: number of samples.
        pixels: number of pixels.
        sharing: number of pixels that share a position: 1 or 2.
        quarters: how far all positions are moved, in quarters of a sample: 0 or 1.
    """

    samples: int
    pixels: int
    sharing: int = 1
    quarters: int = 0

    @property
    def positions(self) -> int:
        """Number of positions; the last one may have fewer pixels than the others."""
        return -(-self.pixels // self.sharing)

    @property
    def reach(self) -> float:
        """Half the width of the triangle, in samples."""
        return max(1.0, self.samples / self.positions)


def scale_both(samples_YX: Tensor, rows: Axis, columns: Axis) -> Tensor:
    """Scale a plane along both axes.

    Args:
        samples_YX: samples of any type; rows and columns beyond those of the axes are not read.

    Returns:
        float32, columns first: `X Y`.
    """
    plane = samples_YX[: rows.samples, : columns.samples].float()
    return _scale_first(_scale_first(plane, rows).t(), columns)


def _scale_first(plane: Tensor, axis: Axis) -> Tensor:
    if axis == Axis(axis.samples, axis.samples):
        return plane.contiguous()
    indices, weights = taps(axis, plane.device)
    scaled = functional.embedding_bag(
        indices, plane.contiguous(), per_sample_weights=weights, mode="sum"
    )
    if axis.sharing == 1:
        return scaled
    return scaled.repeat_interleave(axis.sharing, dim=0)[: axis.pixels]


@functools.lru_cache(maxsize=256)
def taps(axis: Axis, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the samples of every position and their weights.

    Returns:
        Indices int32 and weights float32, both `positions taps`. The weights of a position sum to
        1; some are 0.
    """
    step = axis.samples / axis.positions
    places = torch.arange(axis.positions, dtype=torch.float64)
    centres = (places + 0.5) * step - 0.5 + axis.quarters / 4
    first = torch.floor(centres - axis.reach).long() + 1
    near = first[:, None] + torch.arange(int(2 * axis.reach) + 1)
    weights = (1 - (near - centres[:, None]).abs() / axis.reach).clamp(min=0)
    weights /= weights.sum(1, keepdim=True)
    inside = near.clamp(0, axis.samples - 1)
    return inside.int().to(device), weights.float().to(device)
