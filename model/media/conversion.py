"""Convert decoded frames to RGB: contiguous uint8 `H W C`, with the display rotation applied."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from av.error import FFmpegError
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from configs import MediaError
from model.media.colour import ColourSettings, check_convertible, choose_colours
from model.media.container import explain
from model.media.scale_weights import scaled_size
from model.media.source_rules import DEFAULT_MAX_PIXELS, check_frame_size

__all__ = ["FrameConverter", "RGBFrame", "frame_kind", "quarter_turns", "rgb_frame"]

# Two neighbouring pixels of a scaled frame share a colour, and frames of an even width are 1 to 2
# grey levels too dark.
_FAST = Interpolation.BILINEAR
# Scaled frames take 1.5 times as long or more. Colours far outside the limited range (luma above
# 224 with Cb above 249) lose their blue.
_EXACT = Interpolation.BILINEAR | Interpolation.FULL_CHR_H_INT
# If frames of an odd width are not scaled, the faster code makes every second column wrong.
_ODD_WIDTH = _EXACT | Interpolation.ACCURATE_RND

RGBFrame = NDArray[np.uint8]  # H W 3


class FrameConverter:
    """Converts the decoded frames of one stream to upright RGB and scales them down in one step.

    It reuses its conversion tables for the next frame, so only one thread may use it.

    Args:
        short_side: maximum length of the shorter side, in pixels; larger frames are scaled down.
            None: frames keep their size.
        on_fallback: called once for each colour matrix of the stream that the converter does not
            support, with a message that says which one is used instead.
        max_pixels: maximum number of pixels of a frame; larger ones are not converted.
        is_exact: whether scaled frames are converted as `model.media.nv12` does it on a GPU, to one
            or two grey levels; this takes longer.
    """

    def __init__(
        self,
        short_side: int | None,
        *,
        on_fallback: Callable[[str], None] = lambda _: None,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        is_exact: bool = False,
    ) -> None:
        self._short_side = short_side
        self._interpolation = _EXACT if is_exact else _FAST
        self._max_pixels = max_pixels
        self._on_fallback = on_fallback
        self._reformatter = VideoReformatter()
        self._kind: tuple[Any, ...] = ()
        self._colours = ColourSettings()
        self._reported: set[str] = set()

    def __call__(self, frame: Any) -> RGBFrame:
        """Convert one decoded frame.

        Raises:
            MediaError: its pixel format or size cannot be converted.
        """
        kind = frame_kind(frame)
        if kind != self._kind:
            self._prepare(frame)
            self._kind = kind
        width, height = scaled_size(frame.width, frame.height, self._short_side)
        try:
            converted = self._reformatter.reformat(
                frame,
                width,
                height,
                "rgb24",
                src_colorspace=self._colours.matrix,
                dst_colorspace=self._colours.matrix,
                interpolation=_ODD_WIDTH if frame.width % 2 else self._interpolation,
                src_color_range=self._colours.colour_range,
                threads=1,
            )
            return _upright(converted.to_ndarray(), frame)
        except (FFmpegError, OSError, ValueError, MemoryError) as error:
            raise MediaError(
                f"a frame of pixel format {frame.format.name} and size"
                f" {frame.width}x{frame.height} cannot be converted to RGB: {explain(error)}"
            ) from error

    def _prepare(self, frame: Any) -> None:
        """Check a frame that differs from the one before; choose its colours."""
        check_frame_size(frame.width, frame.height, self._max_pixels)
        check_convertible(frame)
        self._colours = choose_colours(frame)
        message = self._colours.message
        if message is not None and message not in self._reported:
            self._reported.add(message)
            self._on_fallback(message)


def rgb_frame(frame: Any) -> RGBFrame:
    """Convert a decoded frame to upright RGB without scaling it.

    Raises:
        MediaError: its pixel format or size cannot be converted.
    """
    return FrameConverter(None)(frame)


def frame_kind(frame: Any) -> tuple[Any, ...]:
    """Return everything that decides whether and how a frame can be converted."""
    return (
        frame.format.name,
        frame.width,
        frame.height,
        frame.colorspace,
        frame.color_range,
        frame.color_primaries,
        quarter_turns(frame),
    )


def quarter_turns(frame: Any) -> int:
    """Return how many turns of 90 degrees to the left make a frame upright: 0 to 3.

    It is 0 if the file's display matrix is not a rotation.
    """
    degrees = getattr(frame, "rotation", 0)
    return round(degrees / 90) % 4 if abs(degrees) <= 180 else 0


def _upright(rgb: Any, frame: Any) -> RGBFrame:
    turns = quarter_turns(frame)
    return np.ascontiguousarray(np.rot90(rgb, turns) if turns else rgb)
