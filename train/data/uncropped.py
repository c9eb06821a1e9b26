"""Videos without the cropping that their streams name, for DALI's decoder on a GPU.

H.264 and HEVC code whole blocks: 1080 rows are 1088, and the stream says that 8 are not shown.
DALI 2.4 opens a new hardware decoder for each such video. Without the cropping it keeps the old
one, and the preprocessing graph cuts the rows (`EncodedClip.rows`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from configs import MediaError
from model.media.container import decode_packet, demux_packets, open_file, video_stream
from model.media.remux import presentation_places, remux, stream_template

__all__ = ["Uncropped", "uncropped"]

_CODECS = ("h264", "hevc")


class Uncropped(NamedTuple):
    """A video in MP4 whose frames have all coded rows, and the number of rows that are shown."""

    data: NDArray[np.uint8]
    rows: int


def uncropped(path: Path) -> Uncropped | None:
    """Take the cropping out of a video; its frames keep their places in presentation order.

    Returns:
        None if no rows are cropped, or if it cannot be taken out: the video is in another format,
        columns are cropped too, or its packets do not say which frames are shown.

    Raises:
        MediaError: the file cannot be opened or has no video.
    """
    with open_file(path) as container:
        stream = video_stream(container)
        if stream.codec_context.codec.canonical_name not in _CODECS:
            return None
        packets = [packet for packet in demux_packets(container, stream) if packet.size]
        size = _cropped_size(stream, packets)
        if size is None:
            return None
        shown_rows, coded = size
        times = [packet.pts for packet in packets]
        is_clear = None not in times and len(set(times)) == len(times)
        if not is_clear or any(packet.is_discard for packet in packets):
            return None
        places = presentation_places(times)
        template = stream_template(stream)
        try:
            data = remux(packets, places, template=template, size=coded, is_cropped=True)
        except MediaError:
            return None
        return Uncropped(data, shown_rows)


def _cropped_size(stream: Any, packets: list[Any]) -> tuple[int, tuple[int, int]] | None:
    """Return the rows that are shown and the coded size, if rows and no columns are cropped."""
    context = stream.codec_context
    for packet in packets:
        frames = decode_packet(packet)
        if not frames:
            continue
        shown = (frames[0].width, frames[0].height)
        coded = (context.coded_width, context.coded_height)
        is_cropped = coded[0] == shown[0] and coded[1] > shown[1]
        try:
            context.flush_buffers()
        except FFmpegError:
            return None
        return (shown[1], coded) if is_cropped else None
    return None
