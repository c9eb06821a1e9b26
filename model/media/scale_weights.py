"""Scale planes of samples with antialiased triangles, as FFmpeg's converter (BILINEAR) does.

Letters: Y rows and X columns of a plane.
"""

from __future__ import annotations

import dataclasses
import functools

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Axis", "scale_both", "scaled_size", "taps"]


def scaled_size(width: int, height: int, short_side: int | None) -> tuple[int, int]:
    """Return width and height after scaling down, in pixels.

    Args:
        width, height: size before, in pixels.
        short_side: maximum length of the shorter side; None: the size is kept.
    """
    if short_side is None or short_side >= min(width, height):
        return width, height
    scale = short_side / min(width, height)
    return round(width * scale), round(height * scale)


@dataclasses.dataclass(frozen=True)
class Axis:
    """How the samples along one axis become pixels.

    Pixel p lies at sample `(p + 1/2) * samples / pixels - 1/2 + quarters / 4`. Its value is the
    mean of the samples around it, weighted by a triangle. The triangle reaches as far as the pixels
    are apart, but at least to the next sample. Beyond the ends of the axis, the samples at the ends
    are repeated.

    Attributes:
        samples: number of samples.
        pixels: number of pixels.
        quarters: how far all pixels are moved, in quarters of a sample: 0 or 1.
    """

    samples: int
    pixels: int
    quarters: int = 0


def scale_both(samples_YX: Tensor, rows: Axis, columns: Axis) -> Tensor:
    """Scale a plane along both axes.

    Args:
        samples_YX: samples of any type; rows and columns beyond those of the axes are not read.
        rows, columns: the axes.

    Returns:
        float32, columns first: `X Y`.
    """
    plane = samples_YX[: rows.samples, : columns.samples].float()
    return _scale_first(_scale_first(plane, rows).t(), columns)


def _scale_first(plane: Tensor, axis: Axis) -> Tensor:
    if axis == Axis(axis.samples, axis.samples):
        return plane.contiguous()
    indices, weights = taps(axis, plane.device)
    return functional.embedding_bag(
        indices, plane.contiguous(), per_sample_weights=weights, mode="sum"
    )


@functools.lru_cache(maxsize=256)
def taps(axis: Axis, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the samples of every pixel and their weights.

    Returns:
        Indices int32 and weights float32, both `pixels taps`. The weights of a pixel sum to 1; some
        are 0.
    """
    step = axis.samples / axis.pixels
    reach = max(1.0, step)
    places = torch.arange(axis.pixels, dtype=torch.float64)
    centres = (places + 0.5) * step - 0.5 + axis.quarters / 4
    first = torch.floor(centres - reach).long() + 1
    near = first[:, None] + torch.arange(int(2 * reach) + 1)
    weights = (1 - (near - centres[:, None]).abs() / reach).clamp(min=0)
    weights /= weights.sum(1, keepdim=True)
    inside = near.clamp(0, axis.samples - 1)
    return inside.int().to(device), weights.float().to(device)
