"""The PyTorch operator `cidc::directional_mix`, which runs CPU code or CUDA kernels.

Letters: B clips, C channels, T input times, T' output times, H and W space, D directions (1 or 2).
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from configs import ShapeError
from model.kernels import run_on_gpu
from model.mixing.choice import MixingPath, can_use_kernel
from model.mixing.cpu import (
    empty_rows,
    frame_weights,
    is_channels_last,
    mix_frames,
    mix_gradients,
    mix_rows,
    seen_columns,
)
from model.mixing.cuda import Mapping, run_backward, run_forward
from model.mixing.reference import (
    Normalisation,
    directional_mask,
    directional_weights,
    mix_by_einsum,
    mix_by_products,
    rows_in_map_time,
    weights_gradient,
)

__all__ = ["FixedMixer", "directional_mix", "directional_mix_logits"]


def directional_mix(
    x_BCTHW: Tensor, weights_DCTT: Tensor, *, masked: bool = False, path: MixingPath = "auto"
) -> Tensor:
    """Mix every channel over time with its own weights (paper, equation 4).

    `out[b,c,t',h,w] = sum_t w[0,c,t',t] x[b,c,t,h,w]`. With D = 2, the second direction reads
    the frames from the last to the first, and its rows come after the rows of the first direction.
    GPUs add in float32, or in float64 for a float64 map.

    Args:
        x_BCTHW: the map, in contiguous or channels-last-3d memory; the result has the same layout.
        weights_DCTT: `D C T' T` with D of 1 or 2.
        masked: whether entries that `directional_mask` masks count as zero, whatever their values;
            the kernel skips them.
        path: `auto` uses the CUDA kernel for maps on a GPU where it can run, `cuda` requires it,
            `reference` uses plain PyTorch.

    Returns:
        `B C D*T' H W`, in the dtype of the map.

    Raises:
        ShapeError: the shapes do not match, or map and weights are on different devices.
        KernelError: `path` is `cuda` and the kernel cannot run here; the message has the reason.
    """
    return _mix(x_BCTHW, weights_DCTT, "plain", masked, path)


def directional_mix_logits(
    x_BCTHW: Tensor,
    logits_DCTT: Tensor,
    *,
    normalisation: Normalisation = "affine",
    masked: bool = True,
    path: MixingPath = "auto",
) -> Tensor:
    """Mix a map with the weights that `directional_weights` computes from the logits.

    On GPUs, the kernel computes the weights.

    Args:
        x_BCTHW: the map.
        logits_DCTT: `D C T' T` with D of 1 or 2.
        normalisation, masked: as in `directional_weights`.
        path: as in `directional_mix`.

    Raises:
        ShapeError, KernelError: see `directional_mix`.
    """
    return _mix(x_BCTHW, logits_DCTT, normalisation, masked, path)


class FixedMixer(nn.Module):
    """Module that applies `directional_mix` with fixed weights, for inference; it has no gradient.

    Args:
        weights_DCTT: `D C T' T` with D of 1 or 2.
        dtype: data type of the maps to mix.
        masked: as in `directional_mix`.
    """

    def __init__(self, weights_DCTT: Tensor, dtype: torch.dtype, *, masked: bool = False) -> None:
        super().__init__()
        self.masked = masked
        self.mixing: MixingPath = "auto"
        weights_DCTT = (
            weights_DCTT.detach().to(torch.promote_types(dtype, torch.float32)).contiguous()
        )
        self.register_buffer("weights_DCTT", weights_DCTT)
        rows_CST = rows_in_map_time(_without_masked(weights_DCTT, masked))
        self.register_buffer("frame_weights_STC", frame_weights(rows_CST, dtype))
        self.seen = seen_columns(rows_CST)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Map `B C T H W` to `B C D*T' H W`.

        Raises:
            ShapeError: the map has another C or T than the weights.
        """
        weights_STC = cast("Tensor", self.frame_weights_STC)
        _, time, channels = weights_STC.shape[:3]
        if x_BCTHW.shape[1:3] != (channels, time):
            raise ShapeError(
                f"the mixing weights are for C={channels}, T={time}, but the map has"
                f" C={x_BCTHW.shape[1]}, T={x_BCTHW.shape[2]}"
            )
        is_traced = torch.compiler.is_compiling()
        if x_BCTHW.device.type == "cpu" and is_channels_last(x_BCTHW) and not is_traced:
            return mix_frames(x_BCTHW, weights_STC, self.seen)
        return directional_mix(
            x_BCTHW, cast("Tensor", self.weights_DCTT), masked=self.masked, path=self.mixing
        )


def _mix(
    x_BCTHW: Tensor, given_DCTT: Tensor, mapping: Mapping, masked: bool, path: MixingPath
) -> Tensor:
    _check_shapes(x_BCTHW, given_DCTT)
    on_gpu = can_use_kernel(x_BCTHW, given_DCTT.shape[2], path)
    # Traces on the CPU are for export, and other runtimes support only standard operators.
    is_traced = torch.compiler.is_compiling()
    on_cpu = x_BCTHW.device.type == "cpu" and path == "auto" and not is_traced
    if on_gpu or on_cpu:
        wide = torch.float64 if x_BCTHW.dtype == torch.float64 else torch.float32
        mixed: Tensor = torch.ops.cidc.directional_mix(
            x_BCTHW, given_DCTT.to(wide), mapping, masked
        )
        return mixed
    by_pytorch = mix_by_products if torch.compiler.is_exporting() else mix_by_einsum
    return by_pytorch(x_BCTHW, _weights(given_DCTT, mapping, masked))


def _check_shapes(x_BCTHW: Tensor, given_DCTT: Tensor) -> None:
    if x_BCTHW.dim() != 5 or given_DCTT.dim() != 4 or given_DCTT.shape[0] not in (1, 2):
        raise ShapeError(
            "directional_mix takes a map B C T H W and weights D C T' T with D of 1 or 2,"
            f" got {tuple(x_BCTHW.shape)} and {tuple(given_DCTT.shape)}"
        )
    if given_DCTT.device != x_BCTHW.device:
        raise ShapeError(
            f"map and weights must be on one device, got {x_BCTHW.device} and {given_DCTT.device}"
        )
    if given_DCTT.shape[1] != x_BCTHW.shape[1] or given_DCTT.shape[3] != x_BCTHW.shape[2]:
        raise ShapeError(
            "map and weights disagree on channels or time:"
            f" map {tuple(x_BCTHW.shape)} has C={x_BCTHW.shape[1]}, T={x_BCTHW.shape[2]};"
            f" weights {tuple(given_DCTT.shape)} have C={given_DCTT.shape[1]},"
            f" T={given_DCTT.shape[3]}"
        )


def _without_masked(weights_DCTT: Tensor, masked: bool) -> Tensor:
    if not masked:
        return weights_DCTT
    mask = directional_mask(*weights_DCTT.shape[-2:], device=weights_DCTT.device)
    return weights_DCTT.masked_fill(mask, 0.0)


def _weights(given_DCTT: Tensor, mapping: Mapping, masked: bool) -> Tensor:
    if mapping == "plain":
        return _without_masked(given_DCTT, masked)
    return directional_weights(given_DCTT, normalisation=mapping, masked=masked)


def _open(given_DCTT: Tensor, masked: bool) -> Tensor:
    """Return which frames of the map each output row uses: bool `D*T' T`."""
    directions, _, rows, times = given_DCTT.shape
    forwards = torch.ones(rows, times, dtype=torch.bool)
    if masked:
        forwards = ~directional_mask(rows, times)
    return torch.cat([forwards, forwards.flip(-1)][:directions])


# If `mapping` is `plain`, `given` is weights. Otherwise `given` is logits, and `mapping` is the
# normalisation that turns them into weights.
@torch.library.custom_op("cidc::directional_mix", mutates_args=(), device_types="cpu")
def _forward(x: Tensor, given: Tensor, mapping: str, masked: bool) -> Tensor:
    return mix_rows(x, rows_in_map_time(_weights(given, cast("Mapping", mapping), masked)))


@_forward.register_kernel("cuda")
def _(x: Tensor, given: Tensor, mapping: str, masked: bool) -> Tensor:
    return run_forward(run_on_gpu, x, given, mapping=cast("Mapping", mapping), masked=masked)


@_forward.register_fake
def _(x: Tensor, given: Tensor, mapping: str, masked: bool) -> Tensor:
    return empty_rows(x, given.shape[0] * given.shape[2])


@torch.library.custom_op("cidc::directional_mix_backward", mutates_args=(), device_types="cpu")
def _backward(
    grad: Tensor,
    x: Tensor,
    given: Tensor,
    mapping: str,
    masked: bool,
    needs_map: bool,
    needs_given: bool,
) -> tuple[Tensor, Tensor]:
    kind = cast("Mapping", mapping)
    rows_CST = rows_in_map_time(_weights(given, kind, masked))
    open_ST = _open(given, masked)
    grad_x, grad_rows = mix_gradients(
        grad, x, rows_CST, open_ST, needs_map=needs_map, needs_rows=needs_given
    )
    if grad_rows is None:
        return _or_empty(grad_x, x), given.new_empty(0)
    halves = grad_rows.to(given.dtype).chunk(given.shape[0], dim=1)
    grad_given = torch.stack([halves[0], *(half.flip(-1) for half in halves[1:])])
    if kind == "plain":
        return _or_empty(grad_x, x), grad_given
    return _or_empty(grad_x, x), weights_gradient(
        grad_given, given, normalisation=kind, masked=masked
    )


@_backward.register_kernel("cuda")
def _(
    grad: Tensor,
    x: Tensor,
    given: Tensor,
    mapping: str,
    masked: bool,
    needs_map: bool,
    needs_given: bool,
) -> tuple[Tensor, Tensor]:
    grad_x, grad_given = run_backward(
        run_on_gpu,
        grad,
        x,
        given,
        mapping=cast("Mapping", mapping),
        masked=masked,
        needs_map=needs_map,
        needs_given=needs_given,
    )
    return _or_empty(grad_x, x), _or_empty(grad_given, given)


@_backward.register_fake
def _(
    grad: Tensor,
    x: Tensor,
    given: Tensor,
    mapping: str,
    masked: bool,
    needs_map: bool,
    needs_given: bool,
) -> tuple[Tensor, Tensor]:
    grad_x = empty_rows(x, x.shape[2]) if needs_map else x.new_empty(0)
    grad_given = (
        torch.empty_like(given, memory_format=torch.contiguous_format)
        if needs_given
        else given.new_empty(0)
    )
    return grad_x, grad_given


def _save(ctx: Any, inputs: tuple[Tensor, Tensor, str, bool], output: Tensor) -> None:
    x, given, ctx.mapping, ctx.masked = inputs
    ctx.save_for_backward(x, given)


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
    x, given = ctx.saved_tensors
    needs_map, needs_given = ctx.needs_input_grad[:2]
    grad_x, grad_given = torch.ops.cidc.directional_mix_backward(
        grad, x, given, ctx.mapping, ctx.masked, needs_map, needs_given
    )
    return grad_x if needs_map else None, grad_given if needs_given else None, None, None


_forward.register_autograd(_differentiate, setup_context=_save)


def _or_empty(gradient: Tensor | None, like: Tensor) -> Tensor:
    return like.new_empty(0) if gradient is None else gradient
