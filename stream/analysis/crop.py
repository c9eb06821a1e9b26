"""The part of a frame that a view shows."""

from __future__ import annotations

from typing import Any

import numpy as np

from stream.cameras.config import RegionConfig

__all__ = ["crop", "is_flat"]

# Frames flatter than this are not a camera's; resizing them would take gigabytes.
_MAX_ASPECT_RATIO = 8


def crop(frame_HWC: Any, region: RegionConfig | None) -> Any:
    """Cut a region out of a frame, uint8 `H W C`; the whole frame without a region.

    The frame is an array or a tensor; what is cut out of a tensor stays on its device.

    Of a strip only the middle is kept, at most 8 times as long as wide: the network sees a square
    of it, and the ends are not worth resizing.
    """
    if region is None:
        return frame_HWC
    rows, columns = region.pixels(frame_HWC.shape[1], frame_HWC.shape[0])
    part = frame_HWC[rows, columns]
    height, width = part.shape[:2]
    longest = _MAX_ASPECT_RATIO * min(height, width)
    top = max(0, (height - longest) // 2)
    left = max(0, (width - longest) // 2)
    middle = part[top : top + longest, left : left + longest]
    return np.ascontiguousarray(middle) if isinstance(middle, np.ndarray) else middle.contiguous()


def is_flat(frame_HWC: Any) -> bool:
    """Whether a frame is more than 8 times as long as wide, or the reverse."""
    height, width = frame_HWC.shape[:2]
    return bool(max(height, width) > _MAX_ASPECT_RATIO * min(height, width))
