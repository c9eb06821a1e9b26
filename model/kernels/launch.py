"""Describe a kernel launch as data; compile and launch kernels with CuPy."""

from __future__ import annotations

import dataclasses
import functools
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from configs import KernelError

__all__ = [
    "COMPILE_OPTIONS",
    "SOURCES",
    "Argument",
    "Launch",
    "kernel_source",
    "run_on_gpu",
    "why_not",
]

Argument = Tensor | np.int32 | np.int64 | np.float32

COMPILE_OPTIONS = ("--std=c++17",)
_MODEL = Path(__file__).parent.parent
# Name of a kernel -> the file that defines it.
SOURCES = {
    "mix_forward": _MODEL / "mixing" / "forward.cu",
    "mix_backward": _MODEL / "mixing" / "backward.cu",
    "mix_backward_weights": _MODEL / "mixing" / "backward.cu",
    "gather_clips": _MODEL / "clip_gather.cu",
    "surface_to_rgb": _MODEL / "media" / "nv12.cu",
}
_HEADERS = {
    "elements.cuh": _MODEL / "kernels" / "elements.cuh",
    "weights.cuh": _MODEL / "mixing" / "weights.cuh",
}
_TOO_OLD = (
    f"PyTorch {torch.__version__} has no __cuda_stream__, which hands its streams to CuPy; install"
    " PyTorch 2.11 or newer"
)
_INCLUDE = re.compile(r'#include "(\w+\.cuh)"')


@dataclasses.dataclass(frozen=True)
class Launch:
    """One launch of one kernel.

    Args:
        kernel: C++ name with template arguments, such as `mix_forward<float, 4, 4, true>`.
        grid: number of blocks along x, y and z.
        block: number of threads of a block along x and y.
        shared_bytes: dynamic shared memory of a block, in bytes.
        arguments: arguments of the kernel in order: NumPy scalars, and tensors, which are passed as
            addresses.
    """

    kernel: str
    grid: tuple[int, int, int]
    block: tuple[int, int]
    shared_bytes: int
    arguments: tuple[Argument, ...]

    def __repr__(self) -> str:
        return (
            f"Launch({self.kernel}, grid={self.grid}, block={self.block},"
            f" shared_bytes={self.shared_bytes})"
        )


def kernel_source(kernel: str) -> str:
    """Return the CUDA C++ source that defines a kernel, with its headers inserted."""
    return _with_headers(SOURCES[kernel.partition("<")[0]])


def _with_headers(path: Path) -> str:
    """Return a file's text, with each `#include` of a project header replaced by the header.

    A kernel must not include the same header twice.
    """
    text = path.read_text(encoding="utf-8").replace("#pragma once\n", "")
    return _INCLUDE.sub(lambda found: _with_headers(_HEADERS[found[1]]), text)


@functools.cache
def why_not() -> str:
    """Return why kernels cannot run in this process; the text is empty if they can."""
    if not torch.cuda.is_available():
        return "no CUDA device"
    if torch.cuda.get_device_capability() < (8, 0):
        return "compute capability below 8.0"
    if not hasattr(torch.cuda.Stream, "__cuda_stream__"):
        return _TOO_OLD
    try:
        import cupy
    except ImportError:
        return "CuPy is not installed"
    try:
        if not cupy.cuda.is_available():
            return "CuPy finds no CUDA device"
        from cupy_backends.cuda.libs import nvrtc

        nvrtc.getVersion()
    except (ImportError, OSError, RuntimeError):
        return "NVRTC is not installed"
    return ""


def run_on_gpu(launch: Launch) -> None:
    """Launch a kernel on PyTorch's current stream, on the device of its first tensor argument.

    Raises:
        KernelError: the kernel does not compile or does not start; the message has CuPy's error. Or
            PyTorch is too old to hand its streams to CuPy.
    """
    import cupy

    device = next(item.device for item in launch.arguments if isinstance(item, Tensor))
    current = torch.cuda.current_stream(device)
    if not hasattr(current, "__cuda_stream__"):
        raise KernelError(f"{launch!r} on {device}: {_TOO_OLD}")
    stream = cupy.cuda.Stream.from_external(current)
    arguments = tuple(
        np.uint64(item.data_ptr()) if isinstance(item, Tensor) else item
        for item in launch.arguments
    )
    try:
        with cupy.cuda.Device(device.index), stream:
            _compiled(launch.kernel)(
                launch.grid, (*launch.block, 1), arguments, shared_mem=launch.shared_bytes
            )
    # These are the errors of CuPy's compiler, driver and runtime. Missing CUDA files and a cache
    # folder that is not writable also raise them.
    except (cupy.cuda.compiler.CompileException, RuntimeError, OSError) as error:
        words = str(error).strip() or type(error).__name__
        raise KernelError(f"{launch!r} on {device}: {words.splitlines()[0]}") from error


@functools.cache
def _compiled(kernel: str) -> Any:
    """Return a kernel function; CuPy compiles it for each device and caches the result on disk."""
    import cupy

    module = cupy.RawModule(
        code=kernel_source(kernel), options=COMPILE_OPTIONS, name_expressions=[kernel]
    )
    return module.get_function(kernel)
