"""Reading media with PyAV: open a file or stream, pick its video, demux and decode packets.

Every failure is a `MediaError` in plain words, without the address, which may hold a password.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import av
from av.error import FFmpegError

from configs import MediaError

__all__ = [
    "decode_packet",
    "demux_packets",
    "explain",
    "frame_rate",
    "open_container",
    "video_stream",
]

_DEFAULT_FRAME_RATE = 25


def open_container(url: str, **options: Any) -> Any:
    """Open a file or stream for reading; `options` go to `av.open`.

    Raises:
        MediaError: it does not exist, cannot be reached, or is not a media file.
    """
    try:
        return av.open(url, **options)
    except (FFmpegError, OSError, ValueError, IndexError) as error:
        raise MediaError(f"cannot open: {explain(error)}") from error


def video_stream(container: Any) -> Any:
    """Pick the video stream to analyse: the best one that is not a cover image.

    Raises:
        MediaError: there is no video stream, or no decoder for it.
    """
    streams = [stream for stream in container.streams.video if not _is_cover(stream)]
    if not streams:
        raise MediaError("no video stream (sound only, or not a video)")
    best = container.streams.best("video")
    stream = best if best in streams else streams[0]
    if stream.codec_context is None:
        raise MediaError("no decoder for its video stream")
    # Frame threads add one frame of delay each, and can hang when a broken stream is closed.
    stream.thread_type = "SLICE"
    return stream


def frame_rate(stream: Any) -> float:
    """Frames per second that a video stream declares; 25 if it declares none."""
    return float(stream.guessed_rate or stream.average_rate or _DEFAULT_FRAME_RATE)


def demux_packets(container: Any, stream: Any, *, strict: bool = False) -> Iterator[Any]:
    """Packets of one stream; the last one is empty and flushes the decoder.

    A read error ends the packets.

    Raises:
        MediaError: with `strict`, at a read error.
    """
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, IndexError):
            return
        except FFmpegError as error:
            if strict:
                raise MediaError(f"read error: {explain(error)}") from error
            return
        yield packet


def decode_packet(packet: Any, *, strict: bool = False) -> list[Any]:
    """Frames that a packet completes; a packet that does not decode gives none.

    Raises:
        MediaError: with `strict`, for a packet that does not decode.
    """
    try:
        return list(packet.decode())
    except (FFmpegError, ValueError) as error:
        if strict:
            raise MediaError(f"decode error: {explain(error)}") from error
        return []


def explain(error: BaseException) -> str:
    """FFmpeg's reason in a few words, without the address, which may hold a password."""
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(reason)


def _is_cover(stream: Any) -> bool:
    disposition = getattr(stream, "disposition", None)
    return bool(disposition and disposition & av.stream.Disposition.attached_pic)
