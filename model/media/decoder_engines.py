"""Find out how many engines of a GPU decode video (NVDEC), by asking NVIDIA's driver library.

This module has not run on a GPU yet; tests replace the driver's library.
"""

from __future__ import annotations

import ctypes
import functools
import logging
from typing import Any

import torch

__all__ = ["DEFAULT_ENGINES", "decoder_engines"]

# Used if the driver does not answer. An idle thread costs little, a missing one leaves an engine
# idle: GPUs for data centres have 2 to 7 engines, an H100 has 7.
DEFAULT_ENGINES = 4
_LIBRARY = "libnvcuvid.so.1"
# cuviddec.h of the Video Codec SDK
_H264 = 4
_CHROMA_420 = 1
_log = logging.getLogger(__name__)


class _DecoderCaps(ctypes.Structure):
    """`CUVIDDECODECAPS`: the caller sets the first three fields, the driver sets the others."""

    _fields_ = (
        ("codec", ctypes.c_int),
        ("chroma", ctypes.c_int),
        ("bit_depth_minus_8", ctypes.c_uint),
        ("reserved_1", ctypes.c_uint * 3),
        ("is_supported", ctypes.c_ubyte),
        ("engines", ctypes.c_ubyte),
        ("output_formats", ctypes.c_ushort),
        ("max_width", ctypes.c_uint),
        ("max_height", ctypes.c_uint),
        ("max_macroblocks", ctypes.c_uint),
        ("min_width", ctypes.c_ushort),
        ("min_height", ctypes.c_ushort),
        ("has_histogram", ctypes.c_ubyte),
        ("counter_bits", ctypes.c_ubyte),
        ("max_histogram_bins", ctypes.c_ushort),
        ("reserved_2", ctypes.c_uint * 10),
    )


@functools.cache
def decoder_engines(device: torch.device) -> int:
    """Return the number of engines of a CUDA device that decode H.264.

    If the driver does not answer, log the reason and return `DEFAULT_ENGINES`.
    """
    try:
        torch.cuda.synchronize(device)  # the driver answers for the thread's current context
        with torch.cuda.device(device):
            return _engines_of(ctypes.CDLL(_LIBRARY))
    except (OSError, AttributeError, RuntimeError) as error:
        _log.warning(
            "the number of video decoding engines of %s is unknown (%s); assuming %d",
            device,
            error,
            DEFAULT_ENGINES,
        )
        return DEFAULT_ENGINES


def _engines_of(library: Any) -> int:
    """Ask the library about the current CUDA context.

    Raises:
        RuntimeError: the driver returned an error, or names no engine.
    """
    caps = _DecoderCaps(codec=_H264, chroma=_CHROMA_420, bit_depth_minus_8=0)
    status = library.cuvidGetDecoderCaps(ctypes.byref(caps))
    if status != 0 or not caps.is_supported or not caps.engines:
        raise RuntimeError(
            f"cuvidGetDecoderCaps returned {status}, {caps.engines} engines for H.264"
        )
    return int(caps.engines)
