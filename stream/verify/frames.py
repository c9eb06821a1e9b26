"""Choose frames of a clip and encode them as JPEG.

The frames are those that the network saw: of a camera with regions only the region, and at the
network's own size. Letters: T frames, H and W space, C channels (RGB).
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.media.preprocess import PreprocessConfig

__all__ = ["chosen_frames", "encode_frames", "frame_places"]


def frame_places(total: int, frames: int) -> list[int]:
    """Return the positions of `frames` of `total` frames, evenly spread; the last one is there."""
    if frames == 1:
        return [total - 1]
    return [round(place) for place in np.linspace(0, total - 1, min(frames, total))]


def chosen_frames(clip_CTHW: Tensor, frames: int) -> Tensor:
    """Copy frames of a clip to the CPU, as they are: `C N H W`, normalised."""
    places = torch.tensor(frame_places(clip_CTHW.shape[1], frames), device=clip_CTHW.device)
    return clip_CTHW.index_select(1, places).cpu()


def encode_frames(
    frames_CNHW: Tensor, config: PreprocessConfig, *, width: int | None, quality: int
) -> list[bytes]:
    """Encode normalised frames as JPEG, scaled to `width` pixels; None keeps their size."""
    mean = torch.tensor(config.mean_rgb)
    std = torch.tensor(config.std_rgb)
    frames_NHWC = frames_CNHW.float().permute(1, 2, 3, 0) * std + mean
    levels = frames_NHWC.round().clamp(0, 255).to(torch.uint8).numpy()
    return [_encode(frame, width, quality) for frame in levels]


def _encode(frame_HWC: NDArray[np.uint8], width: int | None, quality: int) -> bytes:
    rows, columns = frame_HWC.shape[:2]
    if width is not None and width != columns:
        size = (width, max(1, round(rows * width / columns)))
        method = cv2.INTER_AREA if width < columns else cv2.INTER_CUBIC
        frame_HWC = np.asarray(cv2.resize(frame_HWC, size, interpolation=method), dtype=np.uint8)
    bgr_HWC = cv2.cvtColor(frame_HWC, cv2.COLOR_RGB2BGR)
    _, coded = cv2.imencode(".jpg", bgr_HWC, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return coded.tobytes()
