"""Read media with PyAV: open a file or stream, pick its video stream, demux and decode packets.

Every failure raises a `MediaError`. Its message never contains the address of the stream, because
the address may contain a password.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import av
from av.error import FFmpegError

from configs import MediaError, readable
from model.media.source_rules import (
    DEFAULT_MAX_PIXELS,
    FILE,
    SourceRules,
    check_frame_size,
    decoder_options,
)

__all__ = [
    "decode_packet",
    "demux_packets",
    "explain",
    "frame_rate",
    "naming_file",
    "open_container",
    "open_file",
    "resolved",
    "video_stream",
]

_DEFAULT_FRAME_RATE = 25


class Readable(Protocol):
    """What PyAV reads instead of an address."""

    def read(self, count: int) -> bytes:
        """Return up to `count` bytes; nothing at the end."""


def open_container(
    url: str | Readable,
    rules: SourceRules,
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    options: Mapping[str, str] | None = None,
    **arguments: Any,
) -> Any:
    """Open a file or stream for reading.

    Args:
        url: address of the source, or an object whose `read` gives its bytes.
        rules: the formats and protocols that FFmpeg may use.
        max_pixels: maximum number of pixels of a frame.
        options: further options of FFmpeg.
        arguments: passed to `av.open`.

    Raises:
        MediaError: the source does not exist, cannot be reached, is not in an allowed format, or
            has larger frames.
    """
    try:
        container = av.open(
            url,
            options={**(options or {}), **rules.options(max_pixels)},
            metadata_errors="replace",
            **arguments,
        )
    except (FFmpegError, OSError, ValueError, IndexError) as error:
        raise MediaError(f"cannot open: {_explain_opening(error, rules)}") from error
    try:
        for stream in container.streams.video:
            _limit_frames(stream, max_pixels)
    except BaseException:
        container.close()
        raise
    return container


def _explain_opening(error: BaseException, rules: SourceRules) -> str:
    if getattr(error, "errno", None) == errno.EINVAL:
        return f"it is not {rules.what}, or it names other addresses"
    return explain(error)


def _limit_frames(stream: Any, max_pixels: int) -> None:
    """Let the decoder of a stream refuse larger frames; check the size that is known already."""
    codec = stream.codec_context
    if codec is None or _is_cover(stream):
        return
    check_frame_size(codec.width, codec.height, max_pixels)
    codec.options = decoder_options(max_pixels)


def open_file(
    path: str | os.PathLike[str],
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    allow_pipe: bool = False,
) -> Any:
    """Open a regular file for reading.

    Args:
        max_pixels: maximum number of pixels of a frame.
        allow_pipe: whether it may be a named pipe too; this waits for the pipe's other end.

    Raises:
        MediaError: the path is not a regular file, cannot be read, is not a video, or has frames of
            more than `max_pixels`.
    """
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError) as error:
        raise MediaError(f"cannot open: {explain(error)}") from error
    if not stat.S_ISREG(mode) and not (allow_pipe and stat.S_ISFIFO(mode)):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe, socket or device"
        raise MediaError(f"cannot open: it is {kind}, not a file")
    # Without `file:`, FFmpeg takes `door:1.mp4` for an address of a protocol `door`.
    return open_container(f"file:{Path(path).absolute()}", FILE, max_pixels=max_pixels)


def resolved(path: Path) -> Path:
    """Return the absolute path without links; links that lead back to themselves are kept."""
    try:
        return Path(os.path.realpath(path))
    except ValueError:  # a path with a null character names no file
        return path


@contextlib.contextmanager
def naming_file(path: object) -> Iterator[None]:
    """Inside the `with` block, an error while reading a video becomes a `MediaError` that names it.

    Lack of memory is an error of the file too, because a huge frame can cause it.
    """
    try:
        yield
    except MediaError as error:
        raise MediaError(f"{readable(path)}: {error}") from error
    except (FFmpegError, OSError, ValueError, ArithmeticError, LookupError, MemoryError) as error:
        raise MediaError(
            f"{readable(path)}: cannot be read: {type(error).__name__}: {explain(error)}"
        ) from error


def video_stream(container: Any) -> Any:
    """Pick the video stream to analyse: FFmpeg's best stream that is not a cover image.

    Raises:
        MediaError: the source has no video stream, or FFmpeg has no decoder for it.
    """
    streams = [stream for stream in container.streams.video if not _is_cover(stream)]
    if not streams:
        raise MediaError("no video stream (sound only, or not a video)")
    best = container.streams.best("video")
    stream = best if best in streams else streams[0]
    if stream.codec_context is None:
        raise MediaError("no decoder for its video stream")
    # Each frame thread would delay decoding by one frame, and frame threads can hang when a broken
    # stream is closed.
    stream.thread_type = "SLICE"
    return stream


def frame_rate(stream: Any) -> float:
    """Return the frame rate that a video stream declares, in frames per second; default 25."""
    return float(stream.guessed_rate or stream.average_rate or _DEFAULT_FRAME_RATE)


def demux_packets(container: Any, stream: Any, *, strict: bool = False) -> Iterator[Any]:
    """Yield the packets of one stream; the last packet is empty and flushes the decoder.

    At a read error, stop as if the stream had ended, unless `strict` is True.

    Raises:
        MediaError: a packet cannot be read and `strict` is True.
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
    """Return the frames that a packet completes; return no frames if it cannot be decoded.

    Raises:
        MediaError: the packet cannot be decoded and `strict` is True.
    """
    try:
        return list(packet.decode())
    except (FFmpegError, ValueError) as error:
        if strict:
            reason = explain(error)
            if getattr(error, "errno", None) == errno.EINVAL:
                reason += "; its frames may have more pixels than source.max_pixels allows"
            raise MediaError(f"decode error: {reason}") from error
        return []


def explain(error: BaseException) -> str:
    """Return FFmpeg's error text without the address, which may contain a password."""
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(reason)


def _is_cover(stream: Any) -> bool:
    disposition = getattr(stream, "disposition", None)
    return bool(disposition and disposition & av.stream.Disposition.attached_pic)
