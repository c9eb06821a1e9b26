"""Which path mixes: the CUDA kernel or plain PyTorch, decided in one place, and said once."""

from __future__ import annotations

import functools
import logging
from typing import Literal

import torch
from torch import Tensor

from configs import KernelError
from model.kernels import run_on_gpu, why_not
from model.mixing.plan import run_forward, unsupported

__all__ = ["MixingPath", "kernel_takes", "mixing_choice"]

_log = logging.getLogger(__name__)

MixingPath = Literal["auto", "cuda", "reference"]


def mixing_choice(
    path: MixingPath, device: torch.device
) -> tuple[Literal["cuda", "reference"], str]:
    """The path that maps on this device take, and why it is not the kernel (empty if it is): short,
    fit for a metric's label.

    Raises:
        KernelError: `cuda` was asked for and cannot be had.
    """
    if path == "reference":
        return "reference", "asked for"
    reason = (
        "the network runs on the CPU" if device.type != "cuda" else why_not() or _self_test(device)
    )
    if reason and path == "cuda":
        raise KernelError(
            f"mixing 'cuda' was asked for, but {reason}; use 'auto' or 'reference', or install what"
            " is missing"
        )
    return ("reference", reason) if reason else ("cuda", "")


@functools.cache
def _self_test(device: torch.device) -> str:
    """Compile and run one small kernel: why it cannot be trusted here, or nothing.

    Raises:
        KernelError: a CUDA graph is being captured, in which nothing can be compiled or compared.
    """
    if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
        raise KernelError(
            "kernels are compiled when first used, not inside a CUDA graph: run the network once"
            " before capturing"
        )
    x_BCTHW = torch.ones(1, 1, 2, 1, 1, device=device)
    weights_DCTT = torch.full((1, 1, 1, 2), 0.25, device=device)
    try:
        mixed = run_forward(run_on_gpu, x_BCTHW, weights_DCTT, mapping="plain", masked=False)
    except KernelError as error:
        _log.warning("%s", error)
        return "the kernel does not run here"
    return "" if mixed.item() == 0.5 else "the kernel computes wrongly here"


def kernel_takes(x_BCTHW: Tensor, rows: int, path: MixingPath) -> bool:
    """Whether the kernel mixes this map into `rows` rows a direction.

    Raises:
        KernelError: `cuda` was asked for and cannot be had.
    """
    if path == "reference" or (path == "auto" and x_BCTHW.device.type != "cuda"):
        return False
    taken: bool = _taken(path, x_BCTHW.device.type, unsupported(x_BCTHW, rows))
    return taken


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _taken(path: MixingPath, device: str, unfit: str | None) -> bool:
    """Constant to the compiler, which must not look inside; it would look through a cache, so
    that is a function of its own.
    """
    return _decide(path, device, unfit)


@functools.cache
def _decide(path: MixingPath, device: str, unfit: str | None) -> bool:
    """Cached, so that each reason is logged once."""
    reason = mixing_choice(path, torch.device(device))[1] or unfit
    if not reason:
        return True
    if path == "cuda":
        raise KernelError(
            f"mixing 'cuda' was asked for, but the kernel does not take {reason}; use 'auto' or"
            " 'reference'"
        )
    _log.warning("directional mixing runs in plain PyTorch, not in its CUDA kernel: %s", reason)
    return False
