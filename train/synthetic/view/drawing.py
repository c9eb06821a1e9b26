"""Draws antialiased lines and polygons on a frame.

A frame is `H W C` uint8 RGB. Points are (column, row) in pixels and may have fractions.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from train.synthetic.motions.body import FloatArray

__all__ = ["Colour", "Frame", "colour_of", "draw_disc", "draw_line", "draw_polygon", "shaded"]

Frame = NDArray[np.uint8]
Colour = tuple[int, int, int]
_SUBPIXEL_BITS = 4


def draw_line(
    frame: Frame, start: FloatArray, end: FloatArray, colour: Colour, width: float
) -> None:
    """Draw a line, `width` pixels wide."""
    thickness = max(1, round(width))
    cv2.line(frame, _fixed(start), _fixed(end), colour, thickness, cv2.LINE_AA, _SUBPIXEL_BITS)


def draw_disc(frame: Frame, centre: FloatArray, radius: float, colour: Colour) -> None:
    """Draw a filled circle, `radius` in pixels."""
    size = max(1, int(radius * (1 << _SUBPIXEL_BITS)))
    cv2.circle(frame, _fixed(centre), size, colour, -1, cv2.LINE_AA, _SUBPIXEL_BITS)


def draw_polygon(frame: Frame, corners: FloatArray, colour: Colour) -> None:
    """Draw a filled polygon through `corners`, `[N, 2]`."""
    fixed = np.array([_fixed(corner) for corner in corners], np.int32)
    cv2.fillPoly(frame, [fixed], colour, cv2.LINE_AA, _SUBPIXEL_BITS)


def shaded(colour: Colour, factor: float) -> Colour:
    """Return a darker colour (factor below 1) or a lighter colour (factor above 1)."""
    red, green, blue = (min(255, max(0, int(value * factor))) for value in colour)
    return red, green, blue


def colour_of(values: FloatArray) -> Colour:
    """Return three numbers as a colour, limited to 0 to 255."""
    red, green, blue = (int(value) for value in np.clip(values, 0, 255))
    return red, green, blue


def _fixed(point: FloatArray) -> tuple[int, int]:
    """Return the point in the fixed-point numbers that OpenCV's drawing functions need."""
    scaled = np.clip(point, -4000, 8000) * (1 << _SUBPIXEL_BITS)
    return int(scaled[0]), int(scaled[1])
