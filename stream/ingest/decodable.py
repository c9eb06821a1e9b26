"""What NVDEC and DALI's decoder can decode, on which device; everything else goes to software.

What NVDEC takes packet by packet, the GPU says itself. The table of DALI follows the NVDEC
application note of the Video Codec SDK 13 and the documentation of DALI's `decoders.video`. Its
rows for GPUs come from these documents only: no GPU has run this yet.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable
from typing import Any

from av.error import FFmpegError
from av.video.reformatter import ColorRange

from configs import MediaError
from model.media.colour import choose_colours
from model.media.container import explain
from model.media.conversion import quarter_turns
from model.media.nvdec_library import CODECS, DecoderCaps
from model.media.source_rules import check_frame_size

__all__ = [
    "DecoderDevice",
    "SoftwareReason",
    "VideoFacts",
    "bit_depth",
    "codec_name",
    "first_frame",
    "nvdec_reason",
    "software_reason",
]


class SoftwareReason(enum.StrEnum):
    """Why a camera is decoded in software; a label of its metrics."""

    CODEC = "codec"
    CHROMA = "chroma"
    SIZE = "size"
    INTERLACED = "interlaced"
    ROTATION = "rotation"
    COLOURS = "colours"
    HIDDEN_FRAMES = "hidden_frames"
    OPEN_GOP = "open_gop"
    TIMESTAMPS = "timestamps"
    GOP_LENGTH = "gop_length"
    ERRORS = "errors"
    NO_KEY_FRAMES = "no_key_frames"
    NO_DECODER = "no_decoder"
    MEMORY = "memory"
    HUNG = "hung"


@dataclasses.dataclass(frozen=True)
class DecoderDevice:
    """Where DALI decodes: `cpu`, or `gpu` with the compute capability of the GPU."""

    kind: str
    capability: tuple[int, int] = (0, 0)


@dataclasses.dataclass(frozen=True)
class VideoFacts:
    """What one decoded key frame says about a stream.

    Attributes:
        codec: FFmpeg's name of the format, such as `h264`.
        coded_size: width and height before cropping, in pixels.
    """

    codec: str
    profile: str
    pixel_format: str
    width: int
    height: int
    coded_size: tuple[int, int]
    turns: int
    is_interlaced: bool
    has_full_range: bool
    colour_message: str | None

    @classmethod
    def of(cls, frame: Any, context: Any) -> VideoFacts:
        """Read them off a key frame and the context that decoded it."""
        return cls(
            codec=codec_name(context),
            profile=str(context.profile or "unknown"),
            pixel_format=frame.format.name,
            width=frame.width,
            height=frame.height,
            coded_size=(context.coded_width, context.coded_height),
            turns=quarter_turns(frame),
            is_interlaced=bool(frame.interlaced_frame),
            has_full_range=int(frame.color_range) == int(ColorRange.JPEG),
            colour_message=choose_colours(frame).message,
        )


def codec_name(context: Any) -> str:
    """Return the name of a format, not that of the library that decodes it."""
    return str(context.codec.canonical_name)


def first_frame(packet: Any, max_pixels: int) -> Any:
    """Decode a key frame in software: only it says how large the frames of a stream now are.

    Raises:
        MediaError: it cannot be decoded, or is larger than allowed.
    """
    context = packet.stream.codec_context
    try:
        frames = [*context.decode(packet), *context.decode(None)]
    except (FFmpegError, ValueError) as error:
        raise MediaError(f"a key frame cannot be decoded: {explain(error)}") from error
    finally:
        context.flush_buffers()
    if not frames:
        raise MediaError("a key frame cannot be decoded")
    check_frame_size(frames[0].width, frames[0].height, max_pixels)
    return frames[0]


# By pixel format: what our conversion of a GPU's surfaces takes.
_BIT_DEPTHS = {"yuv420p": 8, "yuvj420p": 8, "yuv420p10le": 10}


def bit_depth(facts: VideoFacts) -> int | None:
    """Return the bits of a sample of 4:2:0; None for other formats."""
    return _BIT_DEPTHS.get(facts.pixel_format)


def nvdec_reason(
    facts: VideoFacts, caps: Callable[[str, int], DecoderCaps]
) -> tuple[SoftwareReason, str] | None:
    """Say why NVDEC cannot decode a video packet by packet.

    Rotation, all ranges and all matrices are fine: our own conversion knows them.

    Args:
        caps: says what the GPU decodes, by codec and bit depth.

    Returns:
        The reason and a sentence for people; None if it can.

    Raises:
        MediaError: the driver does not answer.
    """
    if facts.codec not in CODECS:
        return SoftwareReason.CODEC, f"NVDEC does not decode {facts.codec}"
    depth = bit_depth(facts)
    if depth is None:
        said = f"{facts.codec} {facts.profile} with pixel format {facts.pixel_format}"
        return SoftwareReason.CHROMA, f"{said} is not 4:2:0 with 8 or 10 bits"
    if facts.is_interlaced:
        return SoftwareReason.INTERLACED, "its frames are interlaced"
    found = caps(facts.codec, depth)
    if not found.is_supported:
        return SoftwareReason.CODEC, f"this GPU does not decode {facts.codec} with {depth} bits"
    problem = found.why_not(*facts.coded_size)
    return (SoftwareReason.SIZE, problem) if problem else None


_HOPPER = (9, 0)
_AMPERE_WITH_AV1 = (8, 6)
_ON_CPU = frozenset({"vp8", "vp9", "mjpeg"})
# Smallest and largest side of a frame that NVDEC decodes, in pixels.
_SIDES_ON_GPU = {
    "h264": (48, 4096),
    "hevc": (144, 8192),
    "vp8": (48, 4096),
    "vp9": (128, 8192),
    "av1": (128, 8192),
    "mpeg4": (48, 2032),
}


def software_reason(facts: VideoFacts, device: DecoderDevice) -> tuple[SoftwareReason, str] | None:
    """Say why DALI cannot decode a video to the right picture on this device.

    Returns:
        The reason and a sentence for people; None if it can.
    """
    place = "a GPU of this kind" if device.kind == "gpu" else "the CPU"
    if not _has_codec(facts.codec, device):
        return SoftwareReason.CODEC, f"DALI does not decode {facts.codec} on {place}"
    for found in (_pixel_problem(facts, device), _picture_problem(facts)):
        if found is not None:
            return found
    if device.kind == "gpu":
        return _size_problem(facts)
    return None


def _has_codec(codec: str, device: DecoderDevice) -> bool:
    if device.kind != "gpu":
        return codec in _ON_CPU
    if codec == "av1":
        return device.capability >= _AMPERE_WITH_AV1 and device.capability != _HOPPER
    return codec in _SIDES_ON_GPU


def _pixel_problem(facts: VideoFacts, device: DecoderDevice) -> tuple[SoftwareReason, str] | None:
    """Check bit depth, chroma format and range.

    GPUs decode 8-bit 4:2:0. Newer ones decode more profiles (HEVC Main 10; Blackwell also H.264
    High 10 and 4:2:2), but how DALI converts those to RGB is not known.
    """
    name = facts.pixel_format.replace("yuvj", "yuv")
    allowed = ("yuv420p",) if device.kind == "gpu" else ("yuv420p", "yuv422p", "yuv444p", "gray")
    if name not in allowed:
        said = f"{facts.codec} {facts.profile} with pixel format {facts.pixel_format}"
        return SoftwareReason.CHROMA, f"{said} is not 8-bit 4:2:0"
    # JPEGs always have the full range, and DALI knows it on the CPU.
    knows_range = facts.codec == "mjpeg" and device.kind == "cpu"
    if facts.has_full_range and not knows_range:
        return SoftwareReason.COLOURS, "its colours have the full range (0 to 255)"
    return None


def _picture_problem(facts: VideoFacts) -> tuple[SoftwareReason, str] | None:
    if facts.colour_message is not None:
        return SoftwareReason.COLOURS, facts.colour_message
    if facts.turns:
        return SoftwareReason.ROTATION, f"its frames are rotated by {90 * facts.turns} degrees"
    if facts.is_interlaced:
        return SoftwareReason.INTERLACED, "its frames are interlaced"
    return None


def _size_problem(facts: VideoFacts) -> tuple[SoftwareReason, str] | None:
    smallest, largest = _SIDES_ON_GPU[facts.codec]
    if min(facts.coded_size) < smallest or max(facts.coded_size) > largest:
        said = f"GPUs decode {facts.codec} with sides of {smallest} to {largest} pixels"
        return SoftwareReason.SIZE, f"{said}, not {facts.width}x{facts.height}"
    return None
