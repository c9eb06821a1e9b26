"""Directional mixing in plain PyTorch: the definition, and the path taken on CPUs.

Letters: B clips, C channels, T time in, T' time out, H and W space, D directions (1 or 2).
"""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor, nn

from configs import ShapeError

__all__ = ["FrameMixer", "Normalisation", "directional_mask", "directional_mix", "directional_weights"]

Normalisation = Literal["affine", "minmax"]


def directional_mask(t_out: int, t_in: int) -> Tensor:
    """Which inputs each output row may not see: bool `[t_out, t_in]`, True where masked.

    Row r (from 0) sees columns 0 to floor(r (t_in - 1) / (t_out - 1)); a single row sees everything. This is the
    strict upper triangle resized bilinearly with aligned corners, every entry above zero masked (paper, section 3.3).

    Raises:
        ShapeError: a size is below 1.
    """
    if t_out < 1 or t_in < 1:
        raise ShapeError(f"directional_mask needs sizes of at least 1, got t_out={t_out}, t_in={t_in}")
    rows = torch.arange(t_out).unsqueeze(1)
    last_seen = torch.div(rows * (t_in - 1), max(t_out - 1, 1), rounding_mode="floor")
    if t_out == 1:
        last_seen = torch.full_like(rows, t_in - 1)
    return torch.arange(t_in).unsqueeze(0) > last_seen


def directional_weights(logits_CTT: Tensor, *, normalisation: Normalisation = "affine", masked: bool = True) -> Tensor:
    """Mixing weights from learnable logits: masked softmax along each row, then mapped to [-1, 1] (equation 5).

    Args:
        logits_CTT: `[..., T', T]`, usually `C T' T` or `D C T' T`.
        normalisation: `affine` maps w to 2 w - 1; `minmax` maps each row's smallest open entry to -1 and its
            largest to 1. A row with one open entry, or with all open entries equal, gives 1 under `minmax`.
        masked: False leaves every entry open (no direction).

    Returns:
        Weights of the same shape and dtype; masked entries are exactly 0.

    Raises:
        ShapeError: fewer than two dimensions.
        ValueError: an unknown normalisation.
    """
    if logits_CTT.dim() < 2:
        raise ShapeError(f"directional_weights needs logits of shape [..., T', T], got {tuple(logits_CTT.shape)}")
    t_out, t_in = logits_CTT.shape[-2:]
    mask = directional_mask(t_out, t_in).to(logits_CTT.device)
    if not masked:
        mask = torch.zeros_like(mask)
    softmax = torch.softmax(logits_CTT.masked_fill(mask, float("-inf")), dim=-1)
    if normalisation == "affine":
        return (2 * softmax - 1).masked_fill(mask, 0.0)
    if normalisation == "minmax":
        return _minmax(softmax, mask)
    raise ValueError(f"normalisation must be 'affine' or 'minmax', got {normalisation!r}")


def directional_mix(x_BCTHW: Tensor, weights_DCTT: Tensor) -> Tensor:
    """Mix every channel over time with its own weights, forwards and (with D = 2) backwards in time (equation 4).

    `out[b,c,t',h,w] = sum_t w[0,c,t',t] x[b,c,t,h,w]`; the second direction reads time from the end of the clip,
    and its rows follow those of the first.

    Args:
        x_BCTHW: the map.
        weights_DCTT: `D C T' T` with D of 1 or 2.

    Returns:
        `B C D*T' H W`, in the dtype of the map.

    Raises:
        ShapeError: the shapes do not fit each other.
    """
    if x_BCTHW.dim() != 5 or weights_DCTT.dim() != 4 or weights_DCTT.shape[0] not in (1, 2):
        raise ShapeError(
            f"directional_mix takes a map B C T H W and weights D C T' T with D of 1 or 2, "
            f"got {tuple(x_BCTHW.shape)} and {tuple(weights_DCTT.shape)}"
        )
    if weights_DCTT.shape[1] != x_BCTHW.shape[1] or weights_DCTT.shape[3] != x_BCTHW.shape[2]:
        raise ShapeError(
            f"map and weights disagree on channels or time: map {tuple(x_BCTHW.shape)} has C={x_BCTHW.shape[1]}, "
            f"T={x_BCTHW.shape[2]}; weights {tuple(weights_DCTT.shape)} have C={weights_DCTT.shape[1]}, T={weights_DCTT.shape[3]}"
        )
    return torch.einsum("bcthw,cst->bcshw", x_BCTHW, _rows(weights_DCTT).to(x_BCTHW.dtype))


class FrameMixer(nn.Module):
    """`directional_mix` with fixed weights, for inference: frame by frame, masked products left out.

    Several times as fast as `directional_mix` on CPUs in channels-last memory, where a frame times a weight per
    channel is one vectorised pass (`benchmarks/network.py` measures it). It has no gradient.

    Args:
        weights_DCTT: `D C T' T` with D of 1 or 2.
        dtype: of the maps it will mix.
    """

    def __init__(self, weights_DCTT: Tensor, dtype: torch.dtype) -> None:
        super().__init__()
        rows_CST = _rows(weights_DCTT.detach())
        self.seen = [row.nonzero().flatten().tolist() for row in (rows_CST != 0).any(dim=0)]
        self.register_buffer("weights_STC", rows_CST.permute(1, 2, 0)[..., None, None].contiguous().to(dtype))

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """`B C T H W` to `B C D*T' H W`."""
        batch, channels, time, height, width = x_BCTHW.shape
        _, wanted_time, wanted_channels = cast("Tensor", self.weights_STC).shape[:3]
        if (channels, time) != (wanted_channels, wanted_time):
            raise ShapeError(f"a map of C={channels}, T={time} meets mixing weights for C={wanted_channels}, T={wanted_time}")
        out = x_BCTHW.new_empty(batch, len(self.seen), height, width, channels).permute(0, 4, 1, 2, 3)
        frames, weights = x_BCTHW.unbind(2), cast("Tensor", self.weights_STC).unbind(0)
        for row, (target, seen) in enumerate(zip(out.unbind(2), self.seen, strict=True)):
            if not seen:
                target.zero_()
                continue
            weights_TC = weights[row].unbind(0)
            torch.mul(frames[seen[0]], weights_TC[seen[0]], out=target)
            for frame in seen[1:]:
                target.addcmul_(frames[frame], weights_TC[frame])
        return out


def _rows(weights_DCTT: Tensor) -> Tensor:
    """`D C T' T` as `C D*T' T`: reading time from the end with weights w is reading it from the start with w reversed."""
    return torch.cat([weights_DCTT[0], *(rows.flip(-1) for rows in weights_DCTT[1:])], dim=1)


def _minmax(softmax: Tensor, mask: Tensor) -> Tensor:
    smallest = softmax.masked_fill(mask, float("inf")).amin(dim=-1, keepdim=True)
    largest = softmax.amax(dim=-1, keepdim=True)
    span = largest - smallest
    flat = span <= 0
    scaled = 2 * (softmax - smallest) / span.masked_fill(flat, 1.0) - 1
    return torch.where(flat, torch.ones_like(scaled), scaled).masked_fill(mask, 0.0)
