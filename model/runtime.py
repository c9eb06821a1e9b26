"""How to run on the machine at hand: device, number format, memory."""

from __future__ import annotations

import contextlib
import ctypes
import logging
from typing import Literal

import torch

from configs import ConfigError

__all__ = [
    "DeviceChoice",
    "Precision",
    "keep_freed_memory",
    "pick_device",
    "pick_dtype",
    "release_freed_memory",
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
    """The device to run on; `auto` takes a CUDA device where one works.

    Raises:
        ConfigError: `cuda` was asked for and there is none.
    """
    if choice == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "device: cuda was asked for, but PyTorch finds no CUDA device; use auto or cpu, or"
            " check the driver"
        )
    if choice == "auto":
        choice = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(choice)


def pick_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """The number format of convolutions; `auto` takes bfloat16 where the hardware multiplies it
    natively.
    """
    if precision != "auto":
        return torch.bfloat16 if precision == "bfloat16" else torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    native = torch.ops.mkldnn._is_mkldnn_bf16_supported() and torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if native else torch.float32


def keep_freed_memory() -> None:
    """Tell glibc to keep freed memory instead of giving it back to the kernel after every step.

    Each step frees and takes the same hundreds of megabytes again; getting them anew, page by page,
    cost more than the arithmetic where this was measured (`docs/decisions/0003-memory.md`).
    Elsewhere than glibc this does nothing.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        _log.debug("no mallopt here; memory settings left alone")
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2 * _KEEP_BYTES - 1)
    mallopt(_M_TOP_PAD, 64 << 20)
    _ask_for_huge_pages()


def release_freed_memory() -> None:
    """Give back what is free at the moment: a process that runs for weeks otherwise touches, bit
    by bit, all that it ever kept.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _ask_for_huge_pages() -> None:
    """Back the heap's next gigabyte with 2 MiB pages: weights and maps are streamed, and
    page-table walks cost 5 to 8 % here.
    """
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    address = libc.malloc(ctypes.c_size_t(_KEEP_BYTES))
    if not address:
        return
    start = -(-address // _HUGE_PAGE_BYTES) * _HUGE_PAGE_BYTES
    length = (address + _KEEP_BYTES - start) // _HUGE_PAGE_BYTES * _HUGE_PAGE_BYTES
    # The answer does not matter: where the kernel has no huge pages, nothing changes. Freed, the
    # heap keeps the range.
    libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), _MADV_HUGEPAGE)
    libc.free(ctypes.c_void_p(address))
