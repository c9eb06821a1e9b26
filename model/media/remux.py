"""Put coded packets into a container in memory, so that DALI's decoder can read them.

The timestamps are replaced: one step from each frame to the next. The number of a frame in the
container is therefore its place in presentation order, whatever the times of the camera are.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.bitstream import BitStreamFilterContext
from av.error import FFmpegError
from numpy.typing import NDArray

from configs import MediaError
from model.media.container import explain

__all__ = ["presentation_places", "remux", "stream_template"]

_TIME_BASE = Fraction(1, 1000)
_STEP = 40  # of the time base, between two frames
# MP4 is the container that DALI's decoder is used with most; it has no place for VP8 and MJPEG.
_IN_MATROSKA = frozenset({"vp8", "vp9", "mjpeg"})
_FILTERS = {"h264": "h264_metadata", "hevc": "hevc_metadata"}


def presentation_places(times: Sequence[int]) -> list[int]:
    """Return the place of each packet in presentation order.

    Args:
        times: presentation times of packets in decoding order; no two are equal.
    """
    order = sorted(range(len(times)), key=times.__getitem__)
    places = [0] * len(times)
    for place, index in enumerate(order):
        places[index] = place
    return places


def stream_template(stream: Any) -> Any:
    """Copy the parameters of a stream, so that its packets can be remuxed after it was closed."""
    container = av.open(io.BytesIO(), "w", format="nut")
    return container.add_stream_from_template(stream, opaque=True)


def remux(
    packets: Sequence[Any],
    places: Sequence[int],
    *,
    template: Any,
    size: tuple[int, int],
    is_cropped: bool = False,
) -> NDArray[np.uint8]:
    """Put the packets of one stream into a container.

    Args:
        packets: in decoding order, beginning with a key frame; all of one stream.
        places: the place of each packet in presentation order.
        template: of their stream, as `stream_template` makes it.
        size: width and height of the coded frames; those that the stream was opened with may be
            out of date.
        is_cropped: whether H.264 or HEVC frames are cropped to a smaller size. The cropping is then
            taken out of the stream: decoders give frames of `size`, and whoever uses them cuts
            them. DALI 2.4 opens a new hardware decoder for every video whose display height differs
            from its coded height, as at 1080p.

    Returns:
        The bytes of the container: Matroska for VP8, VP9 and MJPEG, otherwise MP4.

    Raises:
        MediaError: the packets do not fit into the container.
    """
    codec = template.codec_context.codec.canonical_name
    name = "matroska" if codec in _IN_MATROSKA else "mp4"
    buffer = io.BytesIO()
    try:
        with av.open(buffer, "w", format=name) as container:
            out = container.add_stream_from_template(template, opaque=True)
            change = _uncropping(codec, template, out) if is_cropped else _unchanged
            out.codec_context.width, out.codec_context.height = size
            out.time_base = _TIME_BASE
            # Decoding times must not be later than presentation times.
            delay = max(index - place for index, place in enumerate(places))
            for index, (packet, place) in enumerate(zip(packets, places, strict=True)):
                for copy in change(_copied(packet, place + delay, index)):
                    copy.stream = out
                    container.mux_one(copy)
    except (FFmpegError, OSError, ValueError) as error:
        raise MediaError(f"{codec} packets cannot be put into {name}: {explain(error)}") from error
    return np.frombuffer(buffer.getbuffer(), np.uint8)


def _copied(packet: Any, presentation: int, decoding: int) -> Any:
    copy = av.Packet(bytes(packet))
    copy.pts = presentation * _STEP
    copy.dts = decoding * _STEP
    copy.duration = _STEP
    copy.time_base = _TIME_BASE
    copy.is_keyframe = packet.is_keyframe
    return copy


def _unchanged(packet: Any) -> list[Any]:
    return [packet]


def _uncropping(codec: str, stream: Any, out: Any) -> Any:
    """Return what takes the cropping out of a packet; prepare the output stream for it."""
    settings = f"{_FILTERS[codec]}=crop_bottom=0:crop_right=0"
    change = BitStreamFilterContext(settings, in_stream=stream, out_stream=out)
    out.codec_context.codec_tag = "\0\0\0\0"  # that of the input may not exist in MP4
    return change.filter
