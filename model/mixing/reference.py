"""Directional mixing in plain PyTorch: the definition that faster code is tested against.

Letters: B clips, C channels, T time in, T' time out, H and W space, D directions (1 or 2).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from configs import ShapeError

__all__ = [
    "Normalisation",
    "directional_mask",
    "directional_weights",
    "mix_by_einsum",
    "rows_in_map_time",
    "weights_gradient",
]

Normalisation = Literal["affine", "minmax"]


def directional_mask(t_out: int, t_in: int, *, device: torch.device | None = None) -> Tensor:
    """Which inputs each output row may not see: bool `[t_out, t_in]`, True where masked.

    Row r (from 0) sees columns 0 to floor(r (t_in - 1) / (t_out - 1)); a single row sees
    everything. This equals the strict upper triangle, resized bilinearly with aligned corners,
    with every entry above zero masked (paper, section 3.3).

    Raises:
        ShapeError: a size is below 1.
    """
    if t_out < 1 or t_in < 1:
        raise ShapeError(
            f"directional_mask needs sizes of at least 1, got t_out={t_out}, t_in={t_in}"
        )
    rows = torch.arange(t_out, device=device).unsqueeze(1)
    last_seen = torch.div(rows * (t_in - 1), max(t_out - 1, 1), rounding_mode="floor")
    if t_out == 1:
        last_seen = torch.full_like(rows, t_in - 1)
    return torch.arange(t_in, device=device).unsqueeze(0) > last_seen


def directional_weights(
    logits_CTT: Tensor, *, normalisation: Normalisation = "affine", masked: bool = True
) -> Tensor:
    """Mixing weights from learnable logits: a masked softmax per row, mapped to [-1, 1].

    This is equation 5 of the paper.

    Args:
        logits_CTT: `[..., T', T]`, usually `C T' T` or `D C T' T`.
        normalisation: `affine` maps w to 2 w - 1; `minmax` maps each row's smallest open entry to
            -1 and its largest to 1. A row with one open entry, or with all open entries equal,
            gives 1 under `minmax`.
        masked: False leaves every entry open (no direction).

    Returns:
        Weights of the same shape and dtype; masked entries are exactly 0.

    Raises:
        ShapeError: fewer than two dimensions.
        ValueError: an unknown normalisation.
    """
    if logits_CTT.dim() < 2:
        raise ShapeError(
            f"directional_weights needs logits of shape [..., T', T], got {tuple(logits_CTT.shape)}"
        )
    t_out, t_in = logits_CTT.shape[-2:]
    mask = directional_mask(t_out, t_in, device=logits_CTT.device)
    if not masked:
        mask = torch.zeros_like(mask)
    softmax = torch.softmax(logits_CTT.masked_fill(mask, float("-inf")), dim=-1)
    if normalisation == "affine":
        return (2 * softmax - 1).masked_fill(mask, 0.0)
    if normalisation == "minmax":
        return _minmax(softmax, mask)
    raise ValueError(f"normalisation must be 'affine' or 'minmax', got {normalisation!r}")


def mix_by_einsum(x_BCTHW: Tensor, weights_DCTT: Tensor) -> Tensor:
    """Directional mixing as its formula says; see `directional_mix`.

    `torch.export` can trace it, and it can be differentiated any number of times.

    Returns:
        `B C D*T' H W` in the dtype of the map.
    """
    return torch.einsum(
        "bcthw,cst->bcshw", x_BCTHW, rows_in_map_time(weights_DCTT).to(x_BCTHW.dtype)
    )


def rows_in_map_time(weights_DCTT: Tensor) -> Tensor:
    """`D C T' T` as `C D*T' T`, all in the map's time.

    Reading time from the end with weights w equals reading it from the start with w reversed.
    """
    return torch.cat([weights_DCTT[0], *(rows.flip(-1) for rows in weights_DCTT[1:])], dim=1)


def weights_gradient(
    grad_DCTT: Tensor, logits_DCTT: Tensor, *, normalisation: Normalisation, masked: bool
) -> Tensor:
    """The gradient of the logits from the gradient of `directional_weights`, in closed form.

    It equals autograd's, which does not run inside an operator. Entries tied for a row's smallest
    or largest divide that gradient equally.
    """
    mask = directional_mask(*logits_DCTT.shape[-2:], device=logits_DCTT.device)
    if not masked:
        mask = torch.zeros_like(mask)
    softmax = torch.softmax(logits_DCTT.masked_fill(mask, float("-inf")), dim=-1)
    grad = grad_DCTT.masked_fill(mask, 0.0)
    if normalisation == "affine":
        of_softmax = 2 * grad
    else:
        smallest = softmax.masked_fill(mask, float("inf")).amin(-1, keepdim=True)
        largest = softmax.amax(-1, keepdim=True)
        span = largest - smallest
        flat = span <= 0
        scale = torch.where(flat, 0.0, 2 / span.masked_fill(flat, 1.0))
        rise = (softmax - smallest) / span.masked_fill(flat, 1.0)
        low = (softmax == smallest) & ~mask
        high = (softmax == largest) & ~mask
        of_low = -(scale * grad * (1 - rise)).sum(-1, keepdim=True) / low.sum(-1, keepdim=True)
        of_high = -(scale * grad * rise).sum(-1, keepdim=True) / high.sum(-1, keepdim=True)
        of_softmax = scale * grad + low * of_low + high * of_high
    return softmax * (of_softmax - (softmax * of_softmax).sum(-1, keepdim=True))


def _minmax(softmax: Tensor, mask: Tensor) -> Tensor:
    smallest = softmax.masked_fill(mask, float("inf")).amin(dim=-1, keepdim=True)
    largest = softmax.amax(dim=-1, keepdim=True)
    span = largest - smallest
    flat = span <= 0
    scaled = 2 * (softmax - smallest) / span.masked_fill(flat, 1.0) - 1
    return torch.where(flat, torch.ones_like(scaled), scaled).masked_fill(mask, 0.0)
