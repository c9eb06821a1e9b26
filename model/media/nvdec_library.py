"""Load PyNvVideoCodec, which decodes on NVIDIA's video engines, and ask what a GPU can decode.

This module has not run on a GPU yet; tests replace the library by a fake, which a test compares
with the real one.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import logging
import re
import types
from typing import Any

from configs import ConfigError, DeviceMemoryError, MediaError
from model.media.dali_errors import is_out_of_memory

__all__ = [
    "CODECS",
    "DecoderCaps",
    "LibraryErrors",
    "decoder_caps",
    "nvdec_module",
    "why_not_nvdec",
]

# FFmpeg's names of codecs -> members of the library's `cudaVideoCodec`
CODECS = {"h264": "H264", "hevc": "HEVC", "vp8": "VP8", "vp9": "VP9", "av1": "AV1"}
_PACKAGE = "PyNvVideoCodec"
_MIN_VERSION = (2, 2)
# The library's errors name a function, CUDA's error code, a text and a place in its source.
_TEXT = re.compile(r"Error Type : (.*?)\s*(?:\bat /\S+:\d+\s*)?$", re.DOTALL)
_OUT_OF_MEMORY = re.compile(r"Error code : 2\b")


@dataclasses.dataclass(frozen=True)
class DecoderCaps:
    """What a GPU's decoder can do with one codec and bit depth, in 4:2:0.

    Attributes:
        is_supported: the GPU decodes this codec and bit depth; if not, all numbers are 0.
        min_width, min_height, max_width, max_height: of frames.
        max_macroblocks: of a frame, each of 16x16 pixels.
        engines: number of engines that decode this codec.
    """

    is_supported: bool
    min_width: int
    min_height: int
    max_width: int
    max_height: int
    max_macroblocks: int
    engines: int

    def why_not(self, width: int, height: int) -> str:
        """Return why frames of this size cannot be decoded; an empty string if they can be."""
        if not self.is_supported:
            return "the GPU's decoder does not support this codec and bit depth"
        if not (
            self.min_width <= width <= self.max_width
            and self.min_height <= height <= self.max_height
        ):
            return (
                f"frames of {width}x{height} are outside the limits of the GPU's decoder,"
                f" {self.min_width}x{self.min_height} to {self.max_width}x{self.max_height}"
            )
        macroblocks = -(-width // 16) * -(-height // 16)
        if macroblocks > self.max_macroblocks:
            return (
                f"frames of {width}x{height} have {macroblocks} macroblocks;"
                f" the GPU's decoder takes {self.max_macroblocks}"
            )
        return ""


_UNSUPPORTED = DecoderCaps(False, 0, 0, 0, 0, 0, 0)


def why_not_nvdec() -> str:
    """Return why PyNvVideoCodec cannot be used in this process; an empty string if it can be."""
    return _loaded()[1]


def nvdec_module() -> Any:
    """Return the module PyNvVideoCodec.

    Raises:
        ConfigError: it is not installed or cannot be loaded; the text says what to do.
    """
    module, reason = _loaded()
    if reason:
        raise ConfigError(f"decoding by NVDEC is not possible: {reason}")
    return module


@functools.lru_cache(maxsize=64)
def decoder_caps(module: Any, *, gpu: int, codec: str, bit_depth: int) -> DecoderCaps:
    """Ask what a GPU's decoder can do; each question is asked once in a process.

    The library creates and destroys a CUDA context for each answer, which takes time and memory.

    Args:
        module: see `nvdec_module`.
        gpu: index of the GPU.
        codec: FFmpeg's name. One that is not in `CODECS` is not supported.
        bit_depth: bits of a sample.

    Raises:
        MediaError: the library or the driver does not answer.
    """
    if codec not in CODECS:
        return _UNSUPPORTED
    try:
        found = module.GetDecoderCaps(
            gpuid=gpu,
            codec=getattr(module.cudaVideoCodec, CODECS[codec]),
            chromaformat=getattr(module.cudaVideoChromaFormat, "420"),
            bitdepth=bit_depth,
        )
        caps = DecoderCaps(
            is_supported=bool(found["supported"]),
            min_width=int(found["width_min"]),
            min_height=int(found["height_min"]),
            max_width=int(found["width_max"]),
            max_height=int(found["height_max"]),
            max_macroblocks=int(found["mb_num_max"]),
            engines=int(found["num_decoder_engines"]),
        )
    except Exception as error:  # the library's own exceptions share no base with others
        raise MediaError(
            f"GPU {gpu} does not say whether it decodes {codec} with {bit_depth} bits:"
            f" {_reason_of(error)}; check the driver's video libraries"
        ) from None
    return caps if caps.is_supported else _UNSUPPORTED


class LibraryErrors:
    """Turns what the library raises inside `with` into DeviceMemoryError or MediaError.

    Args:
        heading: what cannot be done, the start of the error's text.
    """

    def __init__(self, heading: str) -> None:
        self._heading = heading

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        if not isinstance(error, Exception) or isinstance(error, (MediaError, DeviceMemoryError)):
            return
        reason = _reason_of(error)
        if _is_short_of_memory(error):
            raise DeviceMemoryError(
                f"{self._heading}, the GPU's memory is full: {reason}; use fewer cameras or a"
                " smaller batch, or end other programs that use it"
            ) from None
        raise MediaError(f"{self._heading}: {reason}; decode it in software") from None


@functools.cache
def _loaded() -> tuple[Any, str]:
    """Import the package once; return it, or why that fails."""
    # On failure the package logs several lines of advice, which the reason replaces.
    package_log = logging.getLogger(_PACKAGE)
    was_disabled = package_log.disabled
    package_log.disabled = True
    try:
        module = importlib.import_module(_PACKAGE)
        version = str(module.__version__)
    except ModuleNotFoundError as error:
        if error.name != _PACKAGE:
            return None, _broken(error)
        return None, f"{_PACKAGE} is not installed; install the extra gpu (Python 3.11 or 3.12)"
    except Exception as error:  # its import raises what its native part raises
        return None, _broken(error)
    finally:
        package_log.disabled = was_disabled
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < _MIN_VERSION:
        return None, f"{_PACKAGE} {version} is installed; version 2.2 or newer is needed"
    return module, ""


def _broken(error: BaseException) -> str:
    return (
        f"{_PACKAGE} cannot be loaded: {_reason_of(error)}; install NVIDIA's driver with its video"
        " libraries (for a container: NVIDIA_DRIVER_CAPABILITIES=compute,utility,video)"
    )


def _reason_of(error: BaseException) -> str:
    """Return the text of an error in one line, without places in the library's source."""
    text = str(error).split("=== TROUBLESHOOTING")[0]
    found = _TEXT.search(text)
    return " ".join((found[1] if found else text).split()).rstrip(".") or type(error).__name__


def _is_short_of_memory(error: BaseException) -> bool:
    """Tell whether the GPU or the machine had too little memory."""
    return is_out_of_memory(error) or _OUT_OF_MEMORY.search(str(error)) is not None
