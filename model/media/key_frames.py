"""What the first bytes of a key frame say, without decoding it.

Formats: RFC 6386 (VP8), the VP9 bitstream specification 6.2, ITU-T T.81 (JPEG).
"""

from __future__ import annotations

__all__ = ["is_key_frame", "is_shown", "size_bytes"]

_VP9_SIZE = slice(0, 8)
_VP8_SIZE = slice(3, 10)
_SIZE_MARKERS = frozenset({0xC0, 0xC1, 0xC2})
_SHOWN_BIT = 0x10
_VP8_SYNC = bytes((0x9D, 0x01, 0x2A))
_VP9_SYNC = bytes((0x49, 0x83, 0x42))
_VP9_MARKER = 2


def is_key_frame(codec: str, data: bytes) -> bool | None:
    """Return whether a packet of VP8 or VP9 is a key frame; None for other formats.

    FFmpeg does not say it of VP9 over RTP, and calls damaged packets key frames.
    """
    if codec == "vp8":
        return len(data) > 6 and not data[0] & 1 and data[3:6] == _VP8_SYNC
    if codec == "vp9":
        is_key = len(data) > 4 and data[1:4] == _VP9_SYNC
        # After two bits of frame marker and two of the profile: show_existing_frame, frame_type.
        return is_key and data[0] >> 6 == _VP9_MARKER and not data[0] & 0b1100
    return None


def size_bytes(codec: str, data: bytes) -> bytes | None:
    """Return bytes of a key frame that are equal for frames of equal size.

    Returns:
        None if the format does not say it so simply, or the data are damaged.
    """
    if codec == "vp8":
        return data[_VP8_SIZE]
    if codec == "vp9":
        # Frame marker, sync code, colours, width and the upper half of the height; the lower half
        # shares its last byte with other fields.
        return data[_VP9_SIZE] + bytes([data[8] & 0xF0]) if len(data) > 8 else None
    return _jpeg_size(data) if codec == "mjpeg" else None


def is_shown(codec: str, data: bytes) -> bool:
    """Return whether a packet gives a frame to show; VP8 has packets that only help others."""
    return codec != "vp8" or not data or bool(data[0] & _SHOWN_BIT)


def _jpeg_size(data: bytes) -> bytes | None:
    """Return precision, height, width and sampling of a JPEG."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in _SIZE_MARKERS:
            return data[at + 4 : at + 2 + length]
        at += 2 + length
    return None
