"""Pooling operations for clips, written to be fast in channels-last memory.

Letters: B clips, C channels, T time, H and W space.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = [
    "average_pool_space",
    "max_pool_space",
    "max_pool_time",
    "mean_pool_space",
    "unfold_time",
]


def max_pool_space(x_BCTHW: Tensor, kernel: int, *, stride: int) -> Tensor:
    """Max-pool each frame over `kernel x kernel` pixels; for odd kernels, pad all sides."""
    # In channels-last-3d memory, merging time into the batch needs no copy, and PyTorch's 2D
    # pooling is vectorised.
    frames = x_BCTHW.transpose(1, 2).flatten(0, 1)
    return unfold_time(
        functional.max_pool2d(frames, kernel, stride, (kernel - 1) // 2), x_BCTHW.shape[2]
    )


def mean_pool_space(x_BCTHW: Tensor, kernel: int, *, stride: int) -> Tensor:
    """Average each frame over `kernel x kernel` pixels; zeros beyond its sides count as pixels."""
    frames = x_BCTHW.transpose(1, 2).flatten(0, 1)
    return unfold_time(
        functional.avg_pool2d(frames, kernel, stride, (kernel - 1) // 2), x_BCTHW.shape[2]
    )


def max_pool_time(x_BCTHW: Tensor) -> Tensor:
    """Take the maximum of every pair of frames, so that T becomes T/2."""
    if not torch.is_grad_enabled():
        return torch.maximum(x_BCTHW[:, :, ::2], x_BCTHW[:, :, 1::2])
    # The gradient of `torch.maximum` is very slow. Flatten rows and columns into one axis and use a
    # 2D max pool instead; the result is the same.
    height, width = x_BCTHW.shape[3:]
    batch, channels = x_BCTHW.shape[:2]
    return functional.max_pool2d(x_BCTHW.flatten(3), (2, 1)).view(
        batch, channels, -1, height, width
    )


def average_pool_space(x_BCTHW: Tensor, height: int, width: int) -> Tensor:
    """Average-pool each frame to exactly `height x width`."""
    frames = x_BCTHW.transpose(1, 2).flatten(0, 1)
    return unfold_time(functional.adaptive_avg_pool2d(frames, (height, width)), x_BCTHW.shape[2])


def unfold_time(frames_NCHW: Tensor, time: int) -> Tensor:
    """Reshape `B*T C H W` to `B C T H W`."""
    return frames_NCHW.view(-1, time, *frames_NCHW.shape[1:]).transpose(1, 2)
