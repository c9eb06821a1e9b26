"""CUDA kernels: NVRTC compiles each kernel at its first use, and CuPy launches it."""

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
