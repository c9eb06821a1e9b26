"""Decoded surfaces for tests, and what they look like: computed with float64 matrices."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.media.nv12 import SurfaceColours

__all__ = ["CASES", "COLOURS", "expected_rgb", "frame_of", "noise", "planes_of", "surface_of"]

# Width, height, short side and quarter turns: sizes without scaling, odd sizes, upright and wide
# ones, whole and broken factors, more pixels than a block has, and single pixels.
CASES = (
    (64, 36, None, 0),
    (64, 36, 18, 0),
    (65, 37, None, 1),
    (65, 37, 16, 2),
    (36, 64, 17, 3),
    (97, 41, 40, 0),
    (40, 39, 1, 1),
    (1, 1, None, 0),
    (2, 3, 1, 2),
    (160, 20, 13, 3),
)
COLOURS = (
    SurfaceColours(),
    SurfaceColours((0.2126, 0.0722), has_full_range=False, is_left_sited=False),
    SurfaceColours((0.2627, 0.0593), has_full_range=True, is_left_sited=True),
)


def noise(width: int, height: int, *, seed: int = 5, max_level: int = 255) -> list[Tensor]:
    """Draw the samples Y, Cb and Cr of a frame: int64 `H W` and, twice, half of both rounded up."""
    generator = torch.Generator().manual_seed(seed)
    half = (-(-height // 2), -(-width // 2))
    return [
        torch.randint(0, max_level + 1, size, generator=generator)
        for size in ((height, width), half, half)
    ]


def surface_of(
    planes: list[Tensor], dtype: torch.dtype = torch.uint8, *, padding: int = 0, margin: int = 0
) -> Tensor:
    """Lay planes out as a decoder does.

    What is not shown is filled with the largest value, which must not be read.

    Args:
        planes: samples Y, Cb and Cr.
        dtype: uint8, or uint16 for samples of 10 bits.
        padding: number of samples between two rows.
        margin: even number of rows and columns that are decoded but not shown.
    """
    height, width = planes[0].shape
    rows, columns = height + height % 2 + margin, width + width % 2 + margin
    full = torch.iinfo(dtype).max
    whole = torch.full((rows // 2 * 3, columns + padding), full, dtype=torch.int32)
    shift = 6 if dtype == torch.uint16 else 0
    whole[:height, :width] = planes[0] << shift
    half = (slice(rows, rows + planes[1].shape[0]), slice(0, 2 * planes[1].shape[1]))
    whole[half] = torch.stack(planes[1:], dim=-1).flatten(1).int() << shift
    return whole.to(dtype)[:, :columns]


def frame_of(planes: list[Tensor], colour_range: int = 1, matrix: int = 1) -> Any:
    """Make a frame yuv420p of planes of 8 bits; FFmpeg assumes that its chroma is centred.

    Args:
        planes: samples Y, Cb and Cr.
        colour_range, matrix: their numbers in ITU-T H.273; 1: limited range, BT.709.
    """
    import av  # the kernels' checks on a GPU run without it

    frame = av.VideoFrame(planes[0].shape[1], planes[0].shape[0], "yuv420p")
    for plane, values in zip(frame.planes, planes, strict=True):
        rows = np.zeros((plane.height, plane.line_size), np.uint8)
        rows[:, : plane.width] = values.numpy()
        plane.update(rows.tobytes())
    frame.colorspace, frame.color_range = matrix, colour_range
    return frame


def planes_of(frame: Any) -> list[Tensor]:
    """Return the samples of a decoded frame of the format yuv420p, yuvj420p or yuv420p10le."""
    dtype = np.uint16 if frame.format.name.endswith("10le") else np.uint8
    found = []
    for plane in frame.planes:
        rows = np.frombuffer(plane, dtype).reshape(plane.height, -1)
        found.append(torch.from_numpy(rows[:, : plane.width].astype(np.int64)))
    return found


def expected_rgb(
    planes: list[Tensor],
    colours: SurfaceColours,
    *,
    short_side: int | None,
    turns: int = 0,
    bits: int = 8,
) -> NDArray[np.float64]:
    """Compute the picture in grey levels, without rounding."""
    y, cb, cr = (plane.numpy() / 2 ** (bits - 8) for plane in planes)
    height, width = y.shape
    factor = 1.0 if short_side is None else min(1.0, short_side / min(width, height))
    columns, rows = round(width * factor), round(height * factor)
    if bits == 8 and factor == 1.0 and width % 2 == height % 2 == 0:
        return np.rot90(_rounded_down(planes, colours), turns)
    shift = 0.25 if colours.is_left_sited else 0.0
    down, across = _triangles(cb.shape[0], rows), _triangles(cb.shape[1], columns, shift)
    y = _triangles(height, rows) @ y @ _triangles(width, columns).T
    cb, cr = (down @ plane @ across.T for plane in (cb, cr))
    if not colours.has_full_range:
        y, cb, cr = (y - 16) * 255 / 219, (cb - 128) * 255 / 224, (cr - 128) * 255 / 224
    else:
        cb, cr = cb - 128, cr - 128
    red, blue = colours.coefficients
    r = y + 2 * (1 - red) * cr
    b = y + 2 * (1 - blue) * cb
    g = (y - red * r - blue * b) / (1 - red - blue)
    return np.rot90(np.clip(np.stack([r, g, b], axis=-1), 0, 255), turns)


def _rounded_down(planes: list[Tensor], colours: SurfaceColours) -> NDArray[np.float64]:
    """Compute the picture of FFmpeg's code for frames that are not scaled, in integers."""
    red, blue = colours.coefficients
    green = 1 - red - blue
    luma, chroma = (1.0, 1.0) if colours.has_full_range else (255 / 219, 255 / 224)
    y = planes[0].numpy() - (0 if colours.has_full_range else 16)
    cb, cr = (np.kron(plane.numpy() - 128, np.ones((2, 2), np.int64)) for plane in planes[1:])

    def times(values: NDArray[np.int64], coefficient: float) -> NDArray[np.int64]:
        product: NDArray[np.int64] = values * round(coefficient * 8192) >> 13
        return product

    grey = times(y, luma)
    of_cb, of_cr = 2 * (1 - blue) * chroma, 2 * (1 - red) * chroma
    r = grey + times(cr, of_cr)
    g = grey + times(cb, -of_cb * blue / green) + times(cr, -of_cr * red / green)
    b = grey + times(cb, of_cb)
    return np.clip(np.stack([r, g, b], axis=-1), 0, 255).astype(np.float64)


def _triangles(samples: int, pixels: int, shift: float = 0.0) -> NDArray[np.float64]:
    """Return the matrix `pixels samples` that scales an axis."""
    step = samples / pixels
    reach = max(step, 1.0)
    matrix = np.zeros((pixels, samples))
    for pixel in range(pixels):
        centre = (pixel + 0.5) * step - 0.5 + shift
        for sample in range(math.floor(centre - reach), math.ceil(centre + reach) + 1):
            weight = max(0.0, 1 - abs(sample - centre) / reach)
            matrix[pixel, min(max(sample, 0), samples - 1)] += weight
    return matrix / matrix.sum(axis=1, keepdims=True)
