"""CUDA kernels: compiled at first use by NVRTC through CuPy, launched on PyTorch's current
stream.
"""

from model.kernels.launch import (
    COMPILE_OPTIONS,
    SOURCES,
    Argument,
    Launch,
    kernel_source,
    run_on_gpu,
    why_not,
)

__all__ = [
    "COMPILE_OPTIONS",
    "SOURCES",
    "Argument",
    "Launch",
    "kernel_source",
    "run_on_gpu",
    "why_not",
]
