"""Choose the device and the data type, and set how the process uses memory."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import time
from typing import Literal

import torch

from configs import ConfigError

__all__ = [
    "DeviceChoice",
    "MemoryRelease",
    "Precision",
    "keep_freed_memory",
    "pick_device",
    "pick_dtype",
]

DeviceChoice = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "bfloat16", "float32"]
_log = logging.getLogger(__name__)

# glibc's malloc.h
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_MAX = -4
_KEEP_BYTES = 1 << 30
# Linux, asm-generic/mman-common.h
_MADV_HUGEPAGE = 14
_HUGE_PAGE_BYTES = 2 << 20


def pick_device(choice: DeviceChoice) -> torch.device:
    """Pick the device to run on; `auto` picks a CUDA device if one works.

    Raises:
        ConfigError: `cuda` was requested, but PyTorch finds no CUDA device.
    """
    if choice == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "device: cuda was asked for, but PyTorch finds no CUDA device;"
            " use auto or cpu, or check the driver"
        )
    if choice == "auto":
        choice = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(choice)


def pick_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """Pick the data type of convolutions; `auto` picks bfloat16 if the hardware supports it."""
    if precision != "auto":
        return torch.bfloat16 if precision == "bfloat16" else torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    native = torch.ops.mkldnn._is_mkldnn_bf16_supported() and torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if native else torch.float32


def keep_freed_memory() -> None:
    """Tell glibc to keep freed memory instead of returning it to the operating system.

    Every step allocates and frees the same hundreds of megabytes. Measurements showed that getting
    this memory back page by page costs more than the arithmetic
    (`docs/decisions/0003-memory.md`). With a C library other than glibc, this function does
    nothing.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        _log.debug("the C library has no mallopt; memory settings stay as they are")
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2 * _KEEP_BYTES - 1)
    mallopt(_M_TOP_PAD, 64 << 20)
    _ask_for_huge_pages()


class MemoryRelease:
    """Returns freed memory to the operating system, from time to time.

    Without this, the memory use of a process that runs for weeks never shrinks.
    """

    def __init__(self, every_seconds: float = 60.0) -> None:
        self._every_seconds = every_seconds
        self._released_monotonic = time.monotonic()

    def tick(self) -> None:
        """Release memory if it is time; call this regularly."""
        if time.monotonic() - self._released_monotonic >= self._every_seconds:
            with contextlib.suppress(OSError, AttributeError):
                ctypes.CDLL(None).malloc_trim(0)
            self._released_monotonic = time.monotonic()


def _ask_for_huge_pages() -> None:
    """Ask the kernel to use 2 MiB pages for the heap's next gigabyte.

    Every step reads all weights and maps. With small pages, page-table walks took 5 to 8 % of the
    time.
    """
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    address = libc.malloc(ctypes.c_size_t(_KEEP_BYTES))
    if not address:
        return
    start = -(-address // _HUGE_PAGE_BYTES) * _HUGE_PAGE_BYTES
    length = (address + _KEEP_BYTES - start) // _HUGE_PAGE_BYTES * _HUGE_PAGE_BYTES
    # An error can be ignored: without huge pages, the kernel uses small pages as before. The heap
    # keeps this address range after `free`.
    libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), _MADV_HUGEPAGE)
    libc.free(ctypes.c_void_p(address))
