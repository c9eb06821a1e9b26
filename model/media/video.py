"""Decode video files with PyAV: all frames, or only the frames on a time grid.

Training, evaluation and activation maps use this code. RGB frames are uint8 `H W C`, upright and
contiguous. A folder of numbered images is a video too; an `ImageSequence` sets its frame rate.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import av
from av.error import FFmpegError

from configs import MediaError
from model.media.colour import log_fallback
from model.media.container import decode_packet, demux_packets, open_file, video_stream
from model.media.conversion import FrameConverter, RGBFrame, quarter_turns
from model.media.image_sequence import ImageSequence, find_sequence
from model.media.presentation_order import PresentationOrder
from model.media.sampling import GridSample, TimeGrid

__all__ = [
    "GridFrame",
    "decode_frames",
    "grid_frames",
    "no_frame",
    "rgb_frames_at",
    "sampled_frames",
]


def decode_frames(
    path: str | Path | ImageSequence, *, strict: bool = False, from_seconds: float | None = None
) -> Iterator[Any]:
    """Decode all frames of a file, in presentation order; skip broken packets.

    Args:
        path: path of the file or of a folder of images.
        strict: whether to raise an error at the first broken packet.
        from_seconds: presentation time; decoding starts at the key frame before it if the file
            supports seeking, otherwise at the first frame.

    Raises:
        MediaError: the file cannot be opened, has no video, or none of its frames can be decoded;
            or `strict` is True and a packet cannot be read or decoded.
    """
    sequence = find_sequence(path)
    if sequence is not None:
        yield from sequence.frames(strict=strict, from_seconds=from_seconds)
        return
    with open_file(path) as container:
        stream = video_stream(container)
        if from_seconds:
            with contextlib.suppress(FFmpegError, OverflowError):
                container.seek(int(from_seconds * av.time_base))
        count = 0
        order = PresentationOrder[Any]()
        for packet in demux_packets(container, stream, strict=strict):
            for frame in decode_packet(packet, strict=strict):
                count += 1
                yield from order.push(frame, frame.time)
        yield from order.flush()
    if count == 0:
        raise MediaError("no frame could be decoded")


# A part ends when so many consecutive frames come after it; a single one may have a wrong time.
_FRAMES_BEYOND_END = 3


class GridFrame(NamedTuple):
    """One position of the time grid: its time, its frame, and whether the grid restarts with it."""

    pts_seconds: float
    frame: RGBFrame
    restarted: bool


def grid_frames(
    path: str | Path | ImageSequence,
    fps: float,
    *,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
    max_gap_seconds: float = 1.0,
    short_side: int | None = None,
) -> Iterator[GridFrame]:
    """Yield the frames of a file, or of a part of it, on a time grid.

    Frames with wrong times are left out. The grid restarts where the presentation time jumps, or
    the frame's size or rotation changes.

    Args:
        path: path of the file.
        fps: number of grid positions per second.
        start_seconds: start of the part, in presentation time; None: the start of the file.
        end_seconds: end of the part (exclusive), in presentation time; None: the end of the file.
        max_gap_seconds: maximum time between two frames; a longer gap is a jump.
        short_side: maximum length of the shorter side, in pixels; larger frames are scaled down.

    Raises:
        MediaError: the file cannot be opened, has no video, none of its frames can be decoded, or
            a frame cannot be converted to RGB.
    """
    grid: TimeGrid[_LazyFrame] = TimeGrid(fps, max_gap_seconds)
    size: tuple[int, int, int] | None = None
    restarted = False
    beyond = 0
    convert = _converter(path, short_side)
    for frame in decode_frames(path, from_seconds=start_seconds):
        if end_seconds is not None and frame.time is not None and frame.time >= end_seconds:
            beyond += 1
            if beyond == _FRAMES_BEYOND_END:
                break
            continue
        beyond = 0
        if frame.time is None or (start_seconds is not None and frame.time < start_seconds):
            continue
        previous = size
        size = (frame.width, frame.height, quarter_turns(frame))
        changed = previous not in (None, size)
        if changed:
            yield from _grid_frames(grid.finish(), restarted)
            restarted = True
        samples, jump = grid.push(_LazyFrame(frame, convert), frame.time)
        restarted = restarted or jump is not None
        yield from _grid_frames(samples, restarted)
        restarted = restarted and not samples
    yield from _grid_frames(grid.finish(), restarted)


def sampled_frames(
    path: str | Path | ImageSequence,
    fps: float,
    *,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
    max_gap_seconds: float = 1.0,
    short_side: int | None = None,
    resize: Callable[[RGBFrame], RGBFrame] = lambda frame: frame,
    max_bytes: float = float("inf"),
) -> list[RGBFrame]:
    """Return the longest part of `grid_frames` without a restart; the arguments are the same.

    Args:
        resize: called for each frame, so that frames of the full size do not stay in memory.
        max_bytes: maximum size of all frames in memory.

    Raises:
        MediaError: the requested part has no frame that can be decoded, or the frames need more
            than `max_bytes`.
    """
    total = 0
    parts: list[list[RGBFrame]] = [[]]
    for _, frame, restarted in grid_frames(
        path,
        fps,
        start_seconds=start_seconds,
        end_seconds=end_seconds,
        max_gap_seconds=max_gap_seconds,
        short_side=short_side,
    ):
        if restarted:
            parts.append([])
        parts[-1].append(resize(frame))
        total += parts[-1][-1].nbytes
        if total > max_bytes:
            raise MediaError(
                f"its frames need more than {max_bytes / 2**30:.0f} GiB of memory; cut it into"
                " shorter files, or set data.cache to store smaller frames"
            )
    longest = max(parts, key=len)
    if not longest:
        raise MediaError(no_frame(start_seconds, end_seconds))
    return longest


def rgb_frames_at(
    path: str | Path | ImageSequence, pts: Sequence[int], *, short_side: int | None = None
) -> list[RGBFrame] | None:
    """Decode the frames with these presentation times; return None if one of them is missing.

    Decoding starts at the key frame before the first of them, if the file supports seeking. Frames
    that are not requested are decoded only if other frames depend on them. Return None also if the
    frames have different sizes.

    Args:
        path: path of the file.
        pts: presentation times in the stream's time base, in rising order.
        short_side: maximum length of the shorter side, in pixels; larger frames are scaled down.

    Raises:
        MediaError: the file cannot be opened, has no video, or a frame cannot be converted.
    """
    found: dict[int, RGBFrame] = {}
    wanted = set(pts)
    convert = _converter(path, short_side)
    sequence = find_sequence(path)
    if sequence is not None:
        found = {frame.pts: convert(frame) for frame in sequence.frames_at(wanted)}
        return _requested(found, pts)
    with open_file(path) as container:
        stream = video_stream(container)
        with contextlib.suppress(FFmpegError, OverflowError):
            container.seek(pts[0], stream=stream)
        for packet in demux_packets(container, stream):
            is_needed = packet.pts in wanted or packet.pts is None
            stream.codec_context.skip_frame = "DEFAULT" if is_needed else "NONREF"
            for frame in decode_packet(packet):
                if frame.pts in wanted:
                    found[frame.pts] = convert(frame)
            if len(found) == len(wanted):
                break
    return _requested(found, pts)


def _requested(found: Mapping[int, RGBFrame], pts: Sequence[int]) -> list[RGBFrame] | None:
    if len(found) < len(set(pts)) or len({frame.shape for frame in found.values()}) > 1:
        return None
    return [found[each] for each in pts]


@dataclasses.dataclass
class _LazyFrame:
    """A decoded frame that is converted to RGB when it is first needed."""

    frame: object
    convert: FrameConverter
    _rgb: RGBFrame | None = None

    def rgb(self) -> RGBFrame:
        if self._rgb is None:
            self._rgb = self.convert(self.frame)
        return self._rgb


def _grid_frames(samples: Sequence[GridSample[_LazyFrame]], restarted: bool) -> Iterator[GridFrame]:
    for index, sample in enumerate(samples):
        yield GridFrame(sample.pts_seconds, sample.item.rgb(), restarted and index == 0)


def _converter(path: str | Path | ImageSequence, short_side: int | None) -> FrameConverter:
    return FrameConverter(short_side, on_fallback=functools.partial(log_fallback, path))


def no_frame(start_seconds: float | None, end_seconds: float | None) -> str:
    """Return the message that this part of a file has no frame on the time grid."""
    if start_seconds is None and end_seconds is None:
        return "no frame has a presentation time"
    start = f"{start_seconds or 0:g} s"
    if end_seconds is None:
        return f"no frame from {start} on"
    return f"no frame between {start} and {end_seconds:g} s"
