"""Random changes of training clips on the device, and the loss of blended labels.

All random numbers come from PyTorch's generators, which each step seeds from its position.

Letters: B clips, C channels, T time, H and W space, K classes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.network import ActionNetwork
from train.config import TrainConfig
from train.regularisation_config import RegularisationConfig

__all__ = ["Mixed", "augment", "classification_loss", "mix", "start_training_mode"]


class Mixed(NamedTuple):
    """Blended clips: `weights_B` of each clip are its own, the rest has `other_labels_B`.

    No weight is below one half.
    """

    clips_BCTHW: Tensor
    other_labels_B: Tensor
    weights_B: Tensor


def start_training_mode(network: ActionNetwork, config: TrainConfig) -> None:
    """Put the network into training mode; frozen batch norms stay in evaluation mode.

    Weight and bias of a frozen norm are still trained.
    """
    network.train()
    network.branch_dropout = config.regularisation.branch_dropout
    if not config.regularisation.freeze_norms:
        return
    pretrained: nn.Module | None = None
    if config.weights_from is not None:
        pretrained = network
    elif config.backbone_from is not None:
        pretrained = network.backbone
    for module in () if pretrained is None else pretrained.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def augment(clips_BCTHW: Tensor, config: RegularisationConfig) -> Tensor:
    """Change geometry and colours of normalised clips at random, alike in all frames of a clip."""
    warps = bool(config.rotation_degrees or config.stretch)
    if not warps and not config.colour:
        return clips_BCTHW
    # Planes of float32 are fastest for both.
    changed = clips_BCTHW.float().contiguous()
    if warps:
        changed = _warped(changed, config)
    if config.colour:
        changed = _recoloured(changed, config.colour)
    return changed.to(clips_BCTHW.dtype).contiguous(memory_format=torch.channels_last_3d)


def mix(clips_BCTHW: Tensor, labels_B: Tensor, alpha: float) -> Mixed:
    """Blend each clip with a random clip of the batch (Zhang et al., mixup).

    Args:
        alpha: the fraction of the other clip comes from Beta(alpha, alpha), cut at one half.
    """
    device = clips_BCTHW.device
    shape = torch.full((len(labels_B),), alpha, dtype=torch.float32, device=device)
    drawn_B = torch.distributions.Beta(shape, shape, validate_args=False).sample()
    weights_B = torch.maximum(drawn_B, 1 - drawn_B)
    order_B = torch.randperm(len(labels_B), device=device)
    weights = weights_B.to(clips_BCTHW.dtype).view(-1, 1, 1, 1, 1)
    blended = clips_BCTHW * weights + clips_BCTHW[order_B] * (1 - weights)
    return Mixed(blended, labels_B[order_B], weights_B)


def classification_loss(
    logits_BK: Tensor, labels_B: Tensor, mixed: Mixed | None, *, label_smoothing: float
) -> Tensor:
    """Return the mean cross-entropy; of blended clips, weighted between both of their labels."""
    if mixed is None:
        return functional.cross_entropy(logits_BK, labels_B, label_smoothing=label_smoothing)
    losses = [
        functional.cross_entropy(
            logits_BK, each_B, reduction="none", label_smoothing=label_smoothing
        )
        for each_B in (labels_B, mixed.other_labels_B)
    ]
    return torch.lerp(losses[1], losses[0], mixed.weights_B).mean()


def _warped(clips_BCTHW: Tensor, config: RegularisationConfig) -> Tensor:
    """Rotate and stretch frames around their centre; pixels from outside repeat the border."""
    batch, channels, time, height, width = clips_BCTHW.shape
    angles_B = _uniform(batch, clips_BCTHW) * math.radians(config.rotation_degrees)
    limit = -math.log1p(-config.stretch)
    scale_x_B, scale_y_B = (torch.exp(_uniform(batch, clips_BCTHW) * limit) for _ in range(2))
    cos_B, sin_B = torch.cos(angles_B), torch.sin(angles_B)
    aspect = height / width
    zero_B = torch.zeros_like(cos_B)
    rows = (cos_B * scale_x_B, -sin_B * aspect * scale_x_B, zero_B)
    columns = (sin_B / aspect * scale_y_B, cos_B * scale_y_B, zero_B)
    theta_B23 = torch.stack([torch.stack(rows, 1), torch.stack(columns, 1)], 1)
    grid = functional.affine_grid(theta_B23, [batch, 1, height, width], align_corners=False)
    flat = clips_BCTHW.view(batch, channels * time, height, width)
    moved = functional.grid_sample(flat, grid, padding_mode="border", align_corners=False)
    return moved.view_as(clips_BCTHW)


def _recoloured(clips_BCTHW: Tensor, strength: float) -> Tensor:
    """Change saturation and contrast, and brightness and tint in standard deviations."""
    batch = len(clips_BCTHW)

    def draw(channels: int) -> Tensor:
        numbers = _uniform(batch * channels, clips_BCTHW) * strength
        return numbers.view(batch, channels, 1)

    saturation, contrast, brightness, tint = draw(1), draw(1), draw(1), draw(3)
    own = torch.eye(3, device=clips_BCTHW.device)
    grey = torch.full_like(own, 1 / 3)
    matrix_B33 = torch.lerp(grey, own, 1 + saturation) * (1 + contrast)
    offset_B31 = brightness + tint / 4
    changed = torch.baddbmm(offset_B31, matrix_B33, clips_BCTHW.flatten(2))
    return changed.view_as(clips_BCTHW)


def _uniform(count: int, like: Tensor) -> Tensor:
    """Return random float32 numbers between -1 and 1."""
    return torch.rand(count, device=like.device) * 2 - 1
