"""Layers of residual networks as plain functions of a state dict, to compare networks with."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["bottleneck", "conv_norm", "count"]

State = dict[str, Tensor]


def conv_norm(
    x: Tensor, state: State, name: str, *, stride: tuple[int, ...] = (1, 1, 1), relu: bool = True
) -> Tensor:
    """Convolution with padding that keeps sizes, batch norm if the state has one, ReLU."""
    weight = state[f"{name}.conv.weight"]
    padding = tuple(size // 2 for size in weight.shape[2:])
    y = functional.conv3d(x, weight, state.get(f"{name}.conv.bias"), stride, padding)
    if f"{name}.norm.weight" in state:
        parts = ("running_mean", "running_var", "weight", "bias")
        y = functional.batch_norm(y, *(state[f"{name}.norm.{part}"] for part in parts))
    return torch.relu(y) if relu else y


def bottleneck(
    x: Tensor, state: State, name: str, *, stride: int = 1, pooled: bool = False, relu: bool = True
) -> Tensor:
    """A bottleneck; `pooled`: an average over 3 x 3 pixels makes the shortcut smaller."""
    step = (1, stride, stride)
    y = conv_norm(x, state, f"{name}.conv1")
    y = conv_norm(y, state, f"{name}.conv2", stride=step)
    y = conv_norm(y, state, f"{name}.conv3", relu=False)
    kept = x
    if pooled and stride > 1:
        kept = functional.avg_pool3d(x, (1, 3, 3), step, (0, 1, 1))
    if f"{name}.shortcut.conv.weight" in state:
        step = (1, 1, 1) if pooled else step
        kept = conv_norm(kept, state, f"{name}.shortcut", stride=step, relu=False)
    return torch.relu(y + kept) if relu else y + kept


def count(state: State, prefix: str) -> int:
    """Number of blocks under a prefix that ends in a dot."""
    return len({key[len(prefix) :].split(".")[0] for key in state if key.startswith(prefix)})
