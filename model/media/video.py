"""Decode video files with PyAV: all frames, or only the frames on a time grid.

Training, evaluation and activation maps use this code. RGB frames are uint8 `H W C`, upright and
contiguous. A folder of numbered images is a video too; an `ImageSequence` sets its frame rate.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
from av.error import FFmpegError

from configs import MediaError
from model.media.container import (
    decode_packet,
    demux_packets,
    explain,
    open_container,
    video_stream,
)
from model.media.conversion import FrameConverter, RGBFrame
from model.media.image_sequence import ImageSequence, find_sequence
from model.media.presentation_order import PresentationOrder
from model.media.sampling import TimeGrid

__all__ = [
    "GridFrame",
    "VideoGrid",
    "decode_frames",
    "grid_frames",
    "rgb_frames_at",
    "sampled_frames",
    "video_grid",
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
    with open_container(str(path)) as container:
        stream = video_stream(container)
        if from_seconds:
            with contextlib.suppress(FFmpegError):
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

    The grid restarts where the presentation time jumps or the frame size changes.

    Args:
        path: path of the file.
        fps: number of grid positions per second.
        start_seconds: start of the part, in presentation time; None: the start of the file.
        end_seconds: end of the part (exclusive), in presentation time; None: the end of the file.
        max_gap_seconds: maximum time between two frames; a longer gap is a jump.
        short_side: maximum length of the shorter side, in pixels; larger frames are scaled down.

    Raises:
        MediaError: the file cannot be opened, has no video, or none of its frames can be decoded.
    """
    grid: TimeGrid[_LazyFrame] = TimeGrid(fps, max_gap_seconds)
    size: tuple[int, int] | None = None
    convert = FrameConverter(short_side)
    for frame in decode_frames(path, from_seconds=start_seconds):
        if end_seconds is not None and frame.time is not None and frame.time >= end_seconds:
            break
        if frame.time is None or (start_seconds is not None and frame.time < start_seconds):
            continue
        changed = size is not None and size != (frame.width, frame.height)
        size = (frame.width, frame.height)
        if changed:
            grid.restart()
        samples, reason = grid.push(_LazyFrame(frame, convert), frame.time)
        restarted = changed or reason is not None
        for sample in samples:
            yield GridFrame(sample.pts_seconds, sample.item.rgb(), restarted)
            restarted = False


def sampled_frames(
    path: str | Path | ImageSequence,
    fps: float,
    *,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
    max_gap_seconds: float = 1.0,
    short_side: int | None = None,
) -> list[RGBFrame]:
    """Return the longest part of `grid_frames` without a restart; the arguments are the same.

    Raises:
        MediaError: the requested part has no frame that can be decoded.
    """
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
        parts[-1].append(frame)
    longest = max(parts, key=len)
    if not longest:
        raise MediaError(f"{path}: no frame between {start_seconds} and {end_seconds} seconds")
    return longest


@dataclasses.dataclass(frozen=True)
class VideoGrid:
    """The frames that `sampled_frames` would return for a file, one per grid position.

    Attributes:
        pts: presentation times of the frames, in the stream's time base.
        places: indices of the frames among all frames of the file, in presentation order.
    """

    pts: tuple[int, ...]
    places: tuple[int, ...]


def video_grid(
    path: str | Path | ImageSequence,
    fps: float,
    *,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
    max_gap_seconds: float = 1.0,
) -> VideoGrid | None:
    """Find the frames that `sampled_frames` would return, without decoding the file.

    The packet times of the file are used; return None if they are incomplete or not reliable.

    Raises:
        MediaError: the file cannot be opened, or has no video.
    """
    found = _frame_times(path)
    if found is None:
        return None
    times, base = found
    grid: TimeGrid[int] = TimeGrid(fps, max_gap_seconds)
    parts: list[list[int]] = [[]]
    for place, pts in enumerate(times):
        # PyAV computes `frame.time` in the same way, so both are rounded equally.
        seconds = pts * base.numerator / base.denominator
        if end_seconds is not None and seconds >= end_seconds:
            break
        if start_seconds is not None and seconds < start_seconds:
            continue
        samples, reason = grid.push(place, seconds)
        if reason is not None:
            parts.append([])
        parts[-1] += [sample.item for sample in samples]
    longest = max(parts, key=len)
    return VideoGrid(tuple(times[place] for place in longest), tuple(longest)) if longest else None


def _frame_times(path: str | Path | ImageSequence) -> tuple[Sequence[int], Fraction] | None:
    """Return the frame times and their time base; None if they are incomplete or not reliable."""
    sequence = find_sequence(path)
    if sequence is not None:
        return range(len(sequence.images())), sequence.time_base
    with open_container(str(path)) as container:
        stream = video_stream(container)
        packets = [packet for packet in demux_packets(container, stream) if packet.size]
        times = sorted(
            packet.pts for packet in packets if packet.pts is not None and not packet.is_discard
        )
        base = stream.time_base
        invents_times = container.format.name == "avi"
    if not times or invents_times or len(times) != len(packets) or len(set(times)) != len(times):
        return None
    return times, base


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
    convert = FrameConverter(short_side)
    sequence = find_sequence(path)
    if sequence is not None:
        found = {frame.pts: _converted(frame, convert) for frame in sequence.frames_at(wanted)}
        return _requested(found, pts)
    with open_container(str(path)) as container:
        stream = video_stream(container)
        with contextlib.suppress(FFmpegError):
            container.seek(pts[0], stream=stream)
        for packet in demux_packets(container, stream):
            is_needed = packet.pts in wanted or packet.pts is None
            stream.codec_context.skip_frame = "DEFAULT" if is_needed else "NONREF"
            for frame in decode_packet(packet):
                if frame.pts in wanted:
                    found[frame.pts] = _converted(frame, convert)
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


def _converted(frame: Any, convert: FrameConverter) -> RGBFrame:
    try:
        return convert(frame)
    except (FFmpegError, ValueError) as error:
        raise MediaError(f"a frame cannot be converted: {explain(error)}") from error
