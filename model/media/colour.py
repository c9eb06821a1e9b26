"""Choose the matrix that converts a frame to RGB; refuse frames that cannot be converted.

The names and numbers of matrices are those of ITU-T H.273, which all video formats share.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter
from typing import Any, NamedTuple

import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray

from configs import MediaError
from model.media.colour_matrix import rgb_from_yuv

__all__ = [
    "ColourSettings",
    "check_convertible",
    "choose_colours",
    "correction_of_bt601",
    "has_full_range",
    "log_fallback",
    "luma_coefficients",
]

_log = logging.getLogger(__name__)
# The converter accepts these matrices; it treats `unspecified` (2) as BT.601.
_ACCEPTED_MATRICES = frozenset({0, 1, 2, 4, 5, 6, 7, 9})
_MATRIX_NAMES = {
    3: "reserved",
    8: "YCgCo",
    10: "BT.2020 constant luminance",
    11: "SMPTE ST 2085",
    12: "derived from primaries",
    13: "derived from primaries, constant luminance",
    14: "ICtCp",
    15: "IPT-C2",
    16: "YCgCo-Re",
    17: "YCgCo-Ro",
}
_NEAREST = {
    8: Colorspace.ITU709,
    10: Colorspace.BT2020,
    11: Colorspace.BT2020,
    14: Colorspace.BT2020,
    15: Colorspace.BT2020,
    16: Colorspace.ITU709,
    17: Colorspace.ITU709,
}
# For matrices derived from the primaries: the matrix of each set of primaries.
_BY_PRIMARIES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
}
_SHOWN = {
    Colorspace.ITU709: "BT.709",
    Colorspace.FCC: "FCC",
    Colorspace.ITU601: "BT.601",
    Colorspace.SMPTE240M: "SMPTE 240M",
    Colorspace.BT2020: "BT.2020 non-constant luminance",
}
# Luma coefficients of red and blue.
_BT601_COEFFICIENTS = (0.299, 0.114)
_COEFFICIENTS = {
    Colorspace.ITU709: (0.2126, 0.0722),
    Colorspace.FCC: (0.30, 0.11),
    Colorspace.ITU601: _BT601_COEFFICIENTS,
    Colorspace.SMPTE240M: (0.212, 0.087),
    Colorspace.BT2020: (0.2627, 0.0593),
}
_MAX_SD_WIDTH = 1279
_MAX_SD_HEIGHT = 576
_ACCEPTED_RANGES = frozenset({0, 1, 2})
_MAX_ASPECT_RATIO = 8  # resizing a longer strip would take gigabytes
_MAX_NAMED_FILES = 5


class ColourSettings(NamedTuple):
    """What the converter is told about a frame's colours; None: what the frame says.

    `message` says which matrix the frame names and which one is used; None if it is the same.
    """

    matrix: Colorspace | None = None
    colour_range: ColorRange | None = None
    message: str | None = None


def choose_colours(frame: Any) -> ColourSettings:
    """Choose matrix and range for a decoded frame.

    If the converter does not accept the frame's matrix, choose the nearest one, as players do:
    BT.2020 for the constant-luminance and HDR matrices, BT.709 for YCgCo, the matrix of the
    primaries if it is derived from them. For all others, choose BT.709 for HD and BT.601 for
    smaller frames. A range that is neither limited nor full is read as limited.
    """
    colour_range = None if frame.color_range in _ACCEPTED_RANGES else ColorRange.MPEG
    number = int(frame.colorspace)
    if number in _ACCEPTED_MATRICES or not _has_chroma(frame.format):
        return ColourSettings(None, colour_range)
    matrix = _nearest_matrix(number, frame)
    name = _MATRIX_NAMES.get(number, "unknown")
    message = f"colour matrix {name} ({number}) is not supported; {_SHOWN[matrix]} is used instead"
    return ColourSettings(matrix, colour_range, message)


def luma_coefficients(frame: Any) -> tuple[float, float]:
    """Return the luma coefficients of red and blue by which a frame is converted."""
    number = int(frame.colorspace)
    matrix = choose_colours(frame).matrix
    if matrix is None and number in _COEFFICIENTS and _has_chroma(frame.format):
        matrix = Colorspace(number)  # both enumerations number these matrices alike
    return _BT601_COEFFICIENTS if matrix is None else _COEFFICIENTS[matrix]


def has_full_range(frame: Any) -> bool:
    """Tell whether a frame is converted as full range; all others have limited range."""
    if frame.format.name.startswith("yuvj"):
        return True
    chosen = choose_colours(frame).colour_range
    return int(frame.color_range if chosen is None else chosen) == int(ColorRange.JPEG)


def correction_of_bt601(frame: Any) -> NDArray[np.float32] | None:
    """Return the matrix that corrects RGB values of a decoder that always uses BT.601.

    Returns:
        `3 3`: it multiplies RGB columns; None if the values are right.
    """
    coefficients = luma_coefficients(frame)
    if coefficients == _BT601_COEFFICIENTS:
        return None
    correction = rgb_from_yuv(*coefficients) @ np.linalg.inv(rgb_from_yuv(*_BT601_COEFFICIENTS))
    return correction.astype(np.float32)


def check_convertible(frame: Any) -> None:
    """Refuse frames that would make the converter end the process, or take gigabytes of memory.

    Raises:
        MediaError: the frame has such a pixel format or size.
    """
    name = frame.format.name
    # FFmpeg's converter aborts the process on these.
    if name.startswith("yaf32") or (name.startswith("bayer") and frame.height < 2):
        raise MediaError(
            f"frames of pixel format {name} and size {frame.width}x{frame.height} cannot be"
            " converted to RGB; convert the video to yuv420p"
        )
    if max(frame.width, frame.height) > _MAX_ASPECT_RATIO * min(frame.width, frame.height):
        raise MediaError(
            f"a frame of {frame.width}x{frame.height} is too narrow: one side must be at most"
            f" {_MAX_ASPECT_RATIO} times the other"
        )


def log_fallback(path: str | os.PathLike[str], message: str) -> None:
    """Log once for each file that another matrix is used; name only the first files of a matrix."""
    with _lock:
        if (str(path), message) in _logged or _counts[message] > _MAX_NAMED_FILES:
            return
        _logged.add((str(path), message))
        _counts[message] += 1
        count = _counts[message]
    if count <= _MAX_NAMED_FILES:
        _log.warning("%s: %s", path, message)
    else:
        _log.warning("more than %d files: %s; others are not named", _MAX_NAMED_FILES, message)


_lock = threading.Lock()
_logged: set[tuple[str, str]] = set()
_counts: Counter[str] = Counter()


def _has_chroma(pixel_format: Any) -> bool:
    """Tell whether a pixel format is YUV; the matrix of other formats is not used."""
    if pixel_format.is_rgb or pixel_format.has_palette or pixel_format.name.startswith("xyz"):
        return False
    return len(pixel_format.components) >= 3


def _nearest_matrix(number: int, frame: Any) -> Colorspace:
    if number in _NEAREST:
        return _NEAREST[number]
    if number in (12, 13) and frame.color_primaries in _BY_PRIMARIES:
        return _BY_PRIMARIES[frame.color_primaries]
    is_sd = frame.width <= _MAX_SD_WIDTH and frame.height <= _MAX_SD_HEIGHT
    return Colorspace.ITU601 if is_sd else Colorspace.ITU709
