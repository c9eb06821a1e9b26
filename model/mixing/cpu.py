"""Directional mixing on CPUs, with one method per memory layout.

Each method was the fastest in measurements (`benchmarks/mixing.py`). In channels-last memory,
multiplying a frame by one weight per channel takes one vectorised pass. In planar memory, where
pixels are adjacent, each channel is a small matrix product, for which BLAS is fastest.

Letters: B clips, C channels, T input times, S output rows of all directions, H and W space.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = [
    "empty_rows",
    "frame_weights",
    "is_channels_last",
    "mix_frames",
    "mix_gradients",
    "mix_rows",
    "seen_columns",
]

# Block size in bytes (input and output together), so that a block fits into the cores' caches.
_BLOCK_BYTES = 4 << 20


def is_channels_last(x_BCTHW: Tensor) -> bool:
    """Tell whether channels, not pixels, are adjacent in memory."""
    return x_BCTHW.shape[1] > 1 and x_BCTHW.stride(1) == 1


def empty_rows(x_BCTHW: Tensor, rows: int) -> Tensor:
    """Return a dense, uninitialised `B C rows H W` tensor in the memory layout of the map."""
    batch, channels, _, height, width = x_BCTHW.shape
    if is_channels_last(x_BCTHW):
        return x_BCTHW.new_empty(batch, rows, height, width, channels).permute(0, 4, 1, 2, 3)
    return x_BCTHW.new_empty(batch, channels, rows, height, width)


def mix_rows(x_BCTHW: Tensor, rows_CST: Tensor) -> Tensor:
    """Compute `out[b,c,s] = sum_t w[c,s,t] x[b,c,t]`.

    In channels-last memory, a row skips the frames whose weights are zero in all channels.
    """
    if is_channels_last(x_BCTHW):
        return mix_frames(x_BCTHW, frame_weights(rows_CST, x_BCTHW.dtype), seen_columns(rows_CST))
    batch, channels, times, height, width = x_BCTHW.shape
    mixed = torch.matmul(
        rows_CST.to(x_BCTHW.dtype), x_BCTHW.reshape(batch, channels, times, height * width)
    )
    return mixed.view(batch, channels, rows_CST.shape[1], height, width)


def mix_gradients(
    grad_BCSHW: Tensor,
    x_BCTHW: Tensor,
    rows_CST: Tensor,
    open_ST: Tensor,
    *,
    needs_map: bool,
    needs_rows: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """Compute the gradients of `mix_rows`; a gradient that is not needed is None.

    The first is the gradient of the map, in the map's memory layout. The second is the gradient of
    the row weights, in float32 or wider; it is zero where `open_ST` is False.
    """
    if is_channels_last(grad_BCSHW) != is_channels_last(x_BCTHW):
        grad_BCSHW = empty_rows(x_BCTHW, grad_BCSHW.shape[2]).copy_(grad_BCSHW)
    grad_x = mix_rows(grad_BCSHW, rows_CST.transpose(1, 2)) if needs_map else None
    if not needs_rows:
        return grad_x, None
    wide = torch.promote_types(x_BCTHW.dtype, torch.float32)
    if is_channels_last(x_BCTHW):
        return grad_x, _frame_products(grad_BCSHW, x_BCTHW, open_ST, wide)
    products = torch.matmul(grad_BCSHW.flatten(3), x_BCTHW.flatten(3).transpose(2, 3)).sum(
        0, dtype=wide
    )
    return grad_x, products.masked_fill(~open_ST, 0.0)


def _frame_products(
    grad_BCSHW: Tensor, x_BCTHW: Tensor, open_ST: Tensor, wide: torch.dtype
) -> Tensor:
    sums_CST = torch.zeros(x_BCTHW.shape[1], *open_ST.shape, dtype=wide)
    places = open_ST.nonzero().tolist()
    for clips in _blocks(x_BCTHW, open_ST.shape[0]):
        grads = grad_BCSHW[clips].unbind(2)
        frames = x_BCTHW[clips].unbind(2)
        for row, column in places:
            sums_CST[:, row, column] += (grads[row] * frames[column]).sum(dim=(0, 2, 3), dtype=wide)
    return sums_CST


def frame_weights(rows_CST: Tensor, dtype: torch.dtype) -> Tensor:
    """Rearrange weights to `S T C 1 1`, so that each `C 1 1` entry can multiply a frame."""
    return rows_CST.permute(1, 2, 0)[..., None, None].contiguous().to(dtype)


def seen_columns(rows_CST: Tensor) -> list[list[int]]:
    """Return, for each row, the frames whose weight is not zero in at least one channel."""
    return [row.nonzero().flatten().tolist() for row in (rows_CST != 0).any(dim=0)]


def mix_frames(x_BCTHW: Tensor, weights_STC: Tensor, seen: list[list[int]]) -> Tensor:
    """Compute each row as a weighted sum of frames, for a few clips at a time."""
    out = empty_rows(x_BCTHW, len(seen))
    for clips in _blocks(x_BCTHW, len(seen)):
        frames = x_BCTHW[clips].unbind(2)
        weights = weights_STC.unbind(0)
        for target, weights_TC, places in zip(out[clips].unbind(2), weights, seen, strict=True):
            if not places:
                target.zero_()
                continue
            weight = weights_TC.unbind(0)
            torch.mul(frames[places[0]], weight[places[0]], out=target)
            for frame in places[1:]:
                target.addcmul_(frames[frame], weight[frame])
    return out


def _blocks(x_BCTHW: Tensor, rows: int) -> Iterator[slice]:
    """Yield groups of clips whose input and output together fit into the cache."""
    batch, channels, times, height, width = x_BCTHW.shape
    clip_bytes = channels * (times + rows) * height * width * x_BCTHW.element_size()
    count = max(1, _BLOCK_BYTES // max(1, clip_bytes))
    for first in range(0, batch, count):
        yield slice(first, first + count)
