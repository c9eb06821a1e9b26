"""Packets as a hardware decoder takes them: an elementary stream that carries its own parameters.

H.264 and HEVC come as Annex B (ITU-T H.264 and H.265): units behind start codes, with the parameter
sets before the key frame that needs them. Containers keep these elsewhere: MP4 in its header, RTSP
in its session description. AV1 likewise keeps its sequence header (AV1 bitstream, section 5.3).
"""

from __future__ import annotations

from typing import Any

import av
from av.bitstream import BitStreamFilterContext
from av.error import FFmpegError

from configs import MediaError
from model.media.container import explain
from model.media.key_frames import size_bytes

__all__ = ["ElementaryStream", "parameter_bytes"]

_START_CODE = b"\0\0\1"
_FILTERS = {"h264": "h264_mp4toannexb", "hevc": "hevc_mp4toannexb"}
# Types of the units that hold sequence parameters: of H.264, and of HEVC with those above them.
_SEQUENCE_UNITS = {"h264": frozenset({7}), "hevc": frozenset({32, 33})}
_H264_SLICES = range(1, 6)
_HEVC_SLICES = range(32)
_AV1_SEQUENCE_HEADER = 1
_AV1_FRAMES = frozenset({3, 6})
_AV1_CONFIG_BYTES = 4  # of an MP4's record, before the sequence header
_FIRST_OF_RECORD = {"h264": 1, "hevc": 1, "av1": 0x81}


class ElementaryStream:
    """Turns the packets of one stream into the bytes that a hardware decoder takes.

    Args:
        codec: FFmpeg's name of the format.
        template: the stream's parameters, as `model.media.remux.stream_template` makes them.
    """

    def __init__(self, codec: str, template: Any) -> None:
        self._codec = codec
        self._filter: Any = None
        extradata = bytes(template.codec_context.extradata or b"")
        is_record = extradata[:1] == bytes([_FIRST_OF_RECORD.get(codec, 0)])
        if is_record and codec in _FILTERS:
            try:
                self._filter = BitStreamFilterContext(_FILTERS[codec], in_stream=template)
            except (FFmpegError, ValueError) as error:
                raise MediaError(f"{_FILTERS[codec]} cannot be used: {explain(error)}") from error
            extradata = b""  # the filter inserts it
        elif is_record:
            extradata = extradata[_AV1_CONFIG_BYTES:]
        self._header = extradata if codec in _FIRST_OF_RECORD else b""

    def convert(self, packet: Any, *, starts: bool = False) -> bytes:
        """Return the bytes of a packet, which is left as it is.

        Args:
            starts: whether the decoder starts with this packet, a key frame: it then carries the
                parameters that the stream has sent elsewhere.

        Raises:
            MediaError: the packet is damaged.
        """
        data = bytes(packet)
        if self._filter is not None:
            data = self._filtered(packet, data)
        if starts and self._header and not parameter_bytes(self._codec, data):
            return self._header + data
        return data

    def _filtered(self, packet: Any, data: bytes) -> bytes:
        copy = av.Packet(data)  # the filter takes what it is given
        copy.is_keyframe = packet.is_keyframe
        if packet.has_sidedata("new_extradata"):  # the parameters change with this packet
            copy.set_sidedata(packet.get_sidedata("new_extradata"))
        try:
            return b"".join(bytes(each) for each in self._filter.filter(copy))
        except (FFmpegError, ValueError) as error:
            self._filter.flush()
            raise MediaError(f"a packet is damaged: {explain(error)}") from error


def parameter_bytes(codec: str, data: bytes) -> bytes:
    """Return bytes of a key frame that are equal as long as size and format stay the same.

    They are the sequence parameters that the frame carries; empty if it carries none.
    """
    if codec in _SEQUENCE_UNITS:
        return _annex_b_parameters(codec, data)
    if codec == "av1":
        return _av1_parameters(data)
    return size_bytes(codec, data) or b""


def _annex_b_parameters(codec: str, data: bytes) -> bytes:
    found: list[bytes] = []
    at = data.find(_START_CODE)
    while 0 <= at < len(data) - 3:
        start = at + 3
        is_h264 = codec == "h264"
        kind = data[start] & 0x1F if is_h264 else data[start] >> 1 & 0x3F
        if kind in (_H264_SLICES if is_h264 else _HEVC_SLICES):
            break  # what follows is the picture
        at = data.find(_START_CODE, start)
        if kind in _SEQUENCE_UNITS[codec]:
            found.append(data[start : at if at >= 0 else len(data)].rstrip(b"\0"))
    return b"".join(found)


def _av1_parameters(data: bytes) -> bytes:
    at = 0
    while at < len(data):
        header = data[at]
        kind = header >> 3 & 0xF
        start = at + 1 + (header >> 2 & 1)
        if kind in _AV1_FRAMES or not header & 2:
            break  # the picture, or a unit without a size, which is the last
        size, start = _leb128(data, start)
        if kind == _AV1_SEQUENCE_HEADER:
            return data[start : start + size]
        at = start + size
    return b""


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    """Return a number of variable length, and where it ends."""
    value = 0
    for index, byte in enumerate(data[at : at + 8]):
        value |= (byte & 0x7F) << 7 * index
        if not byte & 0x80:
            return value, at + index + 1
    return value, at + 8
