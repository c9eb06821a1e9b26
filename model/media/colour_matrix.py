"""The matrix that makes RGB of luma and chroma.

The kernels' callers need it, so it does not need FFmpeg.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["rgb_from_yuv"]


def rgb_from_yuv(red: float, blue: float) -> NDArray[np.float64]:
    """Return the matrix `3 3` from Y, Cb, Cr to R, G, B; Cb and Cr are centred at 0.

    Args:
        red, blue: luma coefficients of red and blue.
    """
    green = 1 - red - blue
    to_red = 2 * (1 - red)
    to_blue = 2 * (1 - blue)
    return np.array(
        [
            [1, 0, to_red],
            [1, -blue * to_blue / green, -red * to_red / green],
            [1, to_blue, 0],
        ]
    )
