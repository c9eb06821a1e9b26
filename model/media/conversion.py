"""Convert decoded frames to RGB: contiguous uint8 `H W C`, with the display rotation applied."""

from __future__ import annotations

from typing import Any

import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

__all__ = ["FrameConverter", "RGBFrame", "quarter_turns", "rgb_frame"]

RGBFrame = NDArray[np.uint8]  # H W 3


class FrameConverter:
    """Converts decoded frames to upright RGB and scales them down in the same step.

    It reuses its conversion tables for the next frame, so only one thread may use it.

    Args:
        short_side: maximum length of the shorter side, in pixels; larger frames are scaled down.
            None: frames keep their size.
    """

    def __init__(self, short_side: int | None) -> None:
        self._short_side = short_side
        self._reformatter = VideoReformatter()

    def __call__(self, frame: Any) -> RGBFrame:
        """Convert one decoded frame."""
        width = frame.width
        height = frame.height
        short = self._short_side
        if short is None or short >= min(width, height):
            return rgb_frame(frame)
        scale = short / min(width, height)
        width = round(width * scale)
        height = round(height * scale)
        scaled = self._reformatter.reformat(
            frame, width, height, "rgb24", interpolation="BILINEAR", threads=1
        )
        return _upright(scaled.to_ndarray(), frame)


def rgb_frame(frame: Any) -> RGBFrame:
    """Convert a decoded frame to upright RGB without scaling it."""
    return _upright(frame.to_ndarray(format="rgb24", threads=1), frame)


def quarter_turns(frame: Any) -> int:
    """Return how many turns of 90 degrees to the left make a frame upright: 0 to 3."""
    return round(getattr(frame, "rotation", 0) / 90) % 4


def _upright(rgb: Any, frame: Any) -> RGBFrame:
    turns = quarter_turns(frame)
    return np.ascontiguousarray(np.rot90(rgb, turns) if turns else rgb)
