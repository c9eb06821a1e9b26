"""Which code mixes, the CUDA kernel or plain PyTorch: decided in one place and logged once."""

from __future__ import annotations

import functools
import logging
from typing import Literal

import torch
from torch import Tensor

from configs import KernelError
from model.kernels import run_on_gpu, why_not
from model.mixing.cuda import run_forward
from model.mixing.launch_plan import unsupported

__all__ = [
    "MixingPath",
    "forget_choices",
    "kernel_mixes",
    "mixing_choice",
    "self_test",
    "use_kernel",
]

_log = logging.getLogger(__name__)

MixingPath = Literal["auto", "cuda", "reference"]


def mixing_choice(
    path: MixingPath, device: torch.device
) -> tuple[Literal["cuda", "reference"], str]:
    """Choose how maps on this device are mixed.

    Returns:
        The choice, and why it is not the kernel (empty if it is): short enough for a metric's
        label.

    Raises:
        KernelError: `cuda` was requested and the kernel cannot run here.
    """
    if path == "reference":
        return "reference", "asked for"
    if device.type == "cuda":
        reason = why_not() or self_test(device)
    else:
        reason = "the network runs on the CPU"
    if reason and path == "cuda":
        raise KernelError(
            f"mixing 'cuda' was asked for, but {reason}; use 'auto' or 'reference',"
            " or install what is missing"
        )
    return ("reference", reason) if reason else ("cuda", "")


@functools.cache
def self_test(device: torch.device) -> str:
    """Compile and run one small kernel; return why it cannot be trusted here, or nothing.

    Raises:
        KernelError: a CUDA graph is being captured: nothing can be compiled or compared then.
    """
    if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
        raise KernelError(
            "kernels are compiled when they are first used, but not inside a CUDA graph: run the"
            " network once before capturing"
        )
    x_BCTHW = torch.ones(1, 1, 2, 1, 1, device=device)
    weights_DCTT = torch.full((1, 1, 1, 2), 0.25, device=device)
    try:
        mixed = run_forward(run_on_gpu, x_BCTHW, weights_DCTT, mapping="plain", masked=False)
    except KernelError as error:
        _log.warning("%s", error)
        return "the kernel does not run here"
    return "" if mixed.item() == 0.5 else "the kernel computes wrongly here"


def kernel_mixes(x_BCTHW: Tensor, rows: int, path: MixingPath) -> bool:
    """Whether the kernel mixes this map into `rows` rows per direction.

    Raises:
        KernelError: `cuda` was requested and the kernel cannot mix this map here.
    """
    if path == "reference" or (path == "auto" and x_BCTHW.device.type != "cuda"):
        return False
    chosen: bool = use_kernel(path, x_BCTHW.device.type, unsupported(x_BCTHW, rows))
    return chosen


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def use_kernel(path: MixingPath, device: str, reason_against: str | None) -> bool:
    """Whether to use the kernel on this device; `reason_against` says why the map does not fit it.

    A constant to PyTorch's compiler, which must not trace the decision. The compiler traces
    through a cache, so the cached part is a function of its own.

    Raises:
        KernelError: `cuda` was requested and the kernel cannot be used.
    """
    return _decide(path, device, reason_against)


def forget_choices() -> None:
    """Decide and test again the next time, and log each reason again."""
    _decide.cache_clear()
    self_test.cache_clear()


@functools.cache
def _decide(path: MixingPath, device: str, reason_against: str | None) -> bool:
    """Cached, so that each reason is logged once."""
    reason = mixing_choice(path, torch.device(device))[1] or reason_against
    if not reason:
        return True
    if path == "cuda":
        raise KernelError(
            f"mixing 'cuda' was asked for, but the kernel does not take {reason};"
            " use 'auto' or 'reference'"
        )
    _log.warning("directional mixing runs in plain PyTorch, not in its CUDA kernel: %s", reason)
    return False
