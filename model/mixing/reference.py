"""Directional mixing in plain PyTorch; tests compare the faster code with it.

Letters: B clips, C channels, T input times, T' output times, H and W space, D directions (1 or 2).
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
    "mix_by_products",
    "rows_in_map_time",
    "weights_gradient",
]

Normalisation = Literal["affine", "minmax"]


def directional_mask(t_out: int, t_in: int, *, device: torch.device | None = None) -> Tensor:
    """Return the mask of inputs that each output row must not use: bool `[t_out, t_in]`.

    True means masked. Row r (from 0) uses columns 0 to floor(r (t_in - 1) / (t_out - 1)); a single
    row uses all columns. The paper (section 3.3) resizes a strict upper triangle bilinearly with
    aligned corners and masks every entry above zero; the result is the same.

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
    """Compute mixing weights from learnable logits (equation 5 of the paper).

    The weights are a masked softmax of each row, mapped to [-1, 1].

    Args:
        logits_CTT: `[..., T', T]`, usually `C T' T` or `D C T' T`.
        normalisation: `affine` maps w to 2 w - 1; `minmax` maps each row's smallest open entry to
            -1 and its largest to 1. With `minmax`, a row with a single open entry, or
            with equal open entries, has the weight 1.
        masked: whether the directional mask is applied; if False, every entry is open.

    Returns:
        Weights of the same shape and dtype; masked entries are exactly 0.

    Raises:
        ShapeError: the logits have fewer than two dimensions.
        ValueError: the normalisation is unknown.
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
    """Compute directional mixing with one `einsum`; see `directional_mix` for the formula.

    `torch.export` can trace this function, and PyTorch can differentiate it repeatedly.

    Returns:
        `B C D*T' H W` in the dtype of the map.
    """
    return torch.einsum(
        "bcthw,cst->bcshw", x_BCTHW, rows_in_map_time(weights_DCTT).to(x_BCTHW.dtype)
    )


def mix_by_products(x_BCTHW: Tensor, weights_DCTT: Tensor) -> Tensor:
    """Compute the same as `mix_by_einsum` with matrix products, for export.

    ONNX has no `Einsum` in bfloat16, but `MatMul` in every number format.
    """
    rows_CST = rows_in_map_time(weights_DCTT).to(x_BCTHW.dtype)
    mixed_BCSN = torch.matmul(rows_CST, x_BCTHW.flatten(3))
    return mixed_BCSN.view(*mixed_BCSN.shape[:3], *x_BCTHW.shape[3:])


def rows_in_map_time(weights_DCTT: Tensor) -> Tensor:
    """Convert weights `D C T' T` to rows `C D*T' T`, with all columns in the map's time order.

    The second direction reads the frames from the last to the first. This equals reading them from
    the first to the last with reversed weights.
    """
    return torch.cat([weights_DCTT[0], *(rows.flip(-1) for rows in weights_DCTT[1:])], dim=1)


def weights_gradient(
    grad_DCTT: Tensor, logits_DCTT: Tensor, *, normalisation: Normalisation, masked: bool
) -> Tensor:
    """Compute the gradient of the logits from the gradient of `directional_weights`.

    The result equals that of autograd, which cannot run inside an operator. If several entries are
    equal to the smallest or largest value of a row, they share its gradient equally.
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
