"""Choose whether the CUDA kernel or plain PyTorch computes directional mixing, and log it once."""

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
    "can_use_kernel",
    "forget_choices",
    "mixing_choice",
    "self_test",
    "use_kernel",
]

_log = logging.getLogger(__name__)

MixingPath = Literal["auto", "cuda", "reference"]


def mixing_choice(
    path: MixingPath, device: torch.device
) -> tuple[Literal["cuda", "reference"], str]:
    """Choose the code that mixes maps on this device.

    Returns:
        The choice, and the reason why the kernel was not chosen (empty if it was). The reason is
        short enough for a metric's label.

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
    """Compile and run one small kernel; return the problem, or an empty text if it works.

    Raises:
        KernelError: a CUDA graph is being captured; kernels cannot be compiled or checked then.
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


def can_use_kernel(x_BCTHW: Tensor, rows: int, path: MixingPath) -> bool:
    """Tell whether the kernel is used to mix this map into `rows` rows per direction.

    Raises:
        KernelError: `cuda` was requested and the kernel cannot mix this map here.
    """
    if path == "reference" or (path == "auto" and x_BCTHW.device.type != "cuda"):
        return False
    chosen: bool = use_kernel(path, x_BCTHW.device.type, unsupported(x_BCTHW, rows))
    return chosen


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def use_kernel(path: MixingPath, device: str, reason_against: str | None) -> bool:
    """Decide whether to use the kernel on this device.

    PyTorch's compiler treats the result as a constant and does not trace the decision. The compiler
    would trace into a cached function, so the cache is on a separate inner function.

    Args:
        path: the requested code.
        device: type of the device.
        reason_against: why the kernel cannot process the map, or None.

    Raises:
        KernelError: `cuda` was requested and the kernel cannot be used.
    """
    return _decide(path, device, reason_against)


def forget_choices() -> None:
    """Clear the caches, so that the next call decides, tests the kernel and logs reasons again."""
    _decide.cache_clear()
    self_test.cache_clear()


@functools.cache
def _decide(path: MixingPath, device: str, reason_against: str | None) -> bool:
    """Decide as `use_kernel` does; the cache makes sure that each reason is logged once."""
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
