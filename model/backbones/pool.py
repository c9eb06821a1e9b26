"""Pooling of clips, in forms that are fast in channels-last memory.

Letters: B clips, C channels, T time, H and W space.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["average_pool_space", "max_pool_space", "max_pool_time", "unfold_time"]


def max_pool_space(x_BCTHW: Tensor, kernel: int, *, stride: int) -> Tensor:
    """Maximum over `kernel x kernel` places of each frame; odd kernels are padded on both sides."""
    # In channels-last-3d memory, folding time into the batch is a view, and 2D pooling is
    # vectorised.
    frames = x_BCTHW.transpose(1, 2).flatten(0, 1)
    return unfold_time(
        functional.max_pool2d(frames, kernel, stride, (kernel - 1) // 2), x_BCTHW.shape[2]
    )


def max_pool_time(x_BCTHW: Tensor) -> Tensor:
    """Maximum of each two frames: T becomes T/2."""
    if not torch.is_grad_enabled():
        return torch.maximum(x_BCTHW[:, :, ::2], x_BCTHW[:, :, 1::2])
    # The gradient of the line above is very slow. With rows and columns as one axis, a 2D pool does
    # the same.
    height, width = x_BCTHW.shape[3:]
    batch, channels = x_BCTHW.shape[:2]
    return functional.max_pool2d(x_BCTHW.flatten(3), (2, 1)).view(
        batch, channels, -1, height, width
    )


def average_pool_space(x_BCTHW: Tensor, height: int, width: int) -> Tensor:
    """Average each frame down to an exact size."""
    frames = x_BCTHW.transpose(1, 2).flatten(0, 1)
    return unfold_time(functional.adaptive_avg_pool2d(frames, (height, width)), x_BCTHW.shape[2])


def unfold_time(frames_NCHW: Tensor, time: int) -> Tensor:
    """`B*T C H W` back to `B C T H W`."""
    return frames_NCHW.view(-1, time, *frames_NCHW.shape[1:]).transpose(1, 2)
