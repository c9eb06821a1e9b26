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
    places = frame_places(clip_CTHW.shape[1], frames)
    if clip_CTHW.device.type != "cpu":
        return clip_CTHW.index_select(1, torch.tensor(places, device=clip_CTHW.device)).cpu()
    # For larger copies than a plane PyTorch would wait for its other threads, which are busy.
    channels, _, height, width = clip_CTHW.shape
    chosen_CNHW = torch.empty(channels, len(places), height, width, dtype=clip_CTHW.dtype)
    for channel in range(channels):
        for number, place in enumerate(places):
            chosen_CNHW[channel, number].copy_(clip_CTHW[channel, place])
    return chosen_CNHW


def encode_frames(
    frames_CNHW: Tensor, config: PreprocessConfig, *, width: int | None, quality: int
) -> list[bytes]:
    """Encode normalised frames as JPEG, scaled to `width` pixels; None keeps their size."""
    return [
        _encode(_levels(frames_CNHW[:, number], config), width, quality)
        for number in range(frames_CNHW.shape[1])
    ]


def _levels(frame_CHW: Tensor, config: PreprocessConfig) -> NDArray[np.uint8]:
    """Return a normalised frame in grey levels, `H W C`; NumPy computes in this thread only."""
    planes = [
        plane.float().numpy() * std + mean
        for plane, mean, std in zip(frame_CHW, config.mean_rgb, config.std_rgb, strict=True)
    ]
    levels_HWC = np.clip(np.rint(np.stack(planes, axis=2)), 0, 255)
    return np.asarray(levels_HWC, dtype=np.uint8)


def _encode(frame_HWC: NDArray[np.uint8], width: int | None, quality: int) -> bytes:
    rows, columns = frame_HWC.shape[:2]
    if width is not None and width != columns:
        size = (width, max(1, round(rows * width / columns)))
        method = cv2.INTER_AREA if width < columns else cv2.INTER_CUBIC
        frame_HWC = np.asarray(cv2.resize(frame_HWC, size, interpolation=method), dtype=np.uint8)
    bgr_HWC = cv2.cvtColor(frame_HWC, cv2.COLOR_RGB2BGR)
    _, coded = cv2.imencode(".jpg", bgr_HWC, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return coded.tobytes()
