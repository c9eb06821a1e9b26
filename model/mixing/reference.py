"""Directional mixing in plain PyTorch: the definition, and the path taken on CPUs.

Letters: B clips, C channels, T time in, T' time out, H and W space, D directions (1 or 2).
"""

from __future__ import annotations

from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

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
    rows_CST = _rows(weights_DCTT)
    learning = torch.is_grad_enabled() and (x_BCTHW.requires_grad or rows_CST.requires_grad)
    if learning and x_BCTHW.device.type == "cpu" and not torch.compiler.is_compiling():
        mixed: Tensor = _FrameMix.apply(x_BCTHW, rows_CST)  # type: ignore[no-untyped-call]
        return mixed
    return torch.einsum("bcthw,cst->bcshw", x_BCTHW, rows_CST.to(x_BCTHW.dtype))


class _FrameMix(torch.autograd.Function):
    """The same sums frame by frame, forwards and backwards: in training on CPUs einsum's gradients cost as much as the backbone's."""

    @staticmethod
    def forward(ctx: Any, x_BCTHW: Tensor, rows_CST: Tensor) -> Tensor:
        ctx.save_for_backward(x_BCTHW, rows_CST)
        return _mix_frames(x_BCTHW, *_frame_weights(rows_CST, x_BCTHW.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BCTHW: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x_BCTHW, rows_CST = ctx.saved_tensors
        grad_x = grad_rows = None
        if ctx.needs_input_grad[0]:
            grad_x = _mix_frames(grad_BCTHW, *_frame_weights(rows_CST.transpose(1, 2), grad_BCTHW.dtype))
        if ctx.needs_input_grad[1]:
            wide = torch.promote_types(x_BCTHW.dtype, torch.float32)
            frames, grads = x_BCTHW.unbind(2), grad_BCTHW.unbind(2)
            sums = [torch.stack([(grad * frame).sum(dim=(0, 2, 3), dtype=wide) for frame in frames], dim=1) for grad in grads]
            grad_rows = torch.stack(sums, dim=1).to(rows_CST.dtype)
        return grad_x, grad_rows


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
        weights_STC, self.seen = _frame_weights(_rows(weights_DCTT.detach()), dtype)
        self.register_buffer("weights_STC", weights_STC)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """`B C T H W` to `B C D*T' H W`.

        Raises:
            ShapeError: the map has another C or T than the weights.
        """
        weights_STC = cast("Tensor", self.weights_STC)
        _, time, channels = weights_STC.shape[:3]
        if x_BCTHW.shape[1:3] != (channels, time):
            found = f"C={x_BCTHW.shape[1]}, T={x_BCTHW.shape[2]}"
            raise ShapeError(f"a map of {found} meets mixing weights for C={channels}, T={time}")
        return _mix_frames(x_BCTHW, weights_STC, self.seen)


def _frame_weights(rows_CST: Tensor, dtype: torch.dtype) -> tuple[Tensor, list[list[int]]]:
    """Weights as `S T C 1 1`, and for each row the frames whose weights are not all zero."""
    seen = [row.nonzero().flatten().tolist() for row in (rows_CST != 0).any(dim=0)]
    return rows_CST.permute(1, 2, 0)[..., None, None].contiguous().to(dtype), seen


def _mix_frames(x_BCTHW: Tensor, weights_STC: Tensor, seen: list[list[int]]) -> Tensor:
    """Each row as a sum of frames times weights, in channels-last memory."""
    batch, channels, _, height, width = x_BCTHW.shape
    out = x_BCTHW.new_empty(batch, len(seen), height, width, channels).permute(0, 4, 1, 2, 3)
    frames, weights = x_BCTHW.unbind(2), weights_STC.unbind(0)
    for target, weights_TC, places in zip(out.unbind(2), weights, seen, strict=True):
        if not places:
            target.zero_()
            continue
        weight = weights_TC.unbind(0)
        torch.mul(frames[places[0]], weight[places[0]], out=target)
        for frame in places[1:]:
            target.addcmul_(frames[frame], weight[frame])
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
