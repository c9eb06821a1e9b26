"""CUDA kernels: compiled when first used, by NVRTC, and launched through CuPy."""

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
