"""Whole video files: all their frames, or RGB frames on the time grid, decoded by PyAV.

Training, evaluation and activation maps read files here. Frames are RGB uint8 `H W C`, upright
and contiguous.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
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
    path: str | Path, *, strict: bool = False, from_seconds: float | None = None
) -> Iterator[Any]:
    """Decode all frames of a file, in presentation order; broken packets are skipped.

    Args:
        path: the file.
        strict: fail at the first broken packet instead.
        from_seconds: start at the key frame before this presentation time, if the file can seek.

    Raises:
        MediaError: the file cannot be opened, has no video, or none of its frames decodes; with
            `strict` also at the first packet that cannot be read or decoded.
    """
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
    """One position of the time grid: its time, its frame, and whether the grid restarted there."""

    pts_seconds: float
    frame: RGBFrame
    restarted: bool


def grid_frames(
    path: str | Path,
    fps: float,
    *,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
    max_gap_seconds: float = 1.0,
    short_side: int | None = None,
) -> Iterator[GridFrame]:
    """Frames of a file, or of a part of it, on the time grid of `fps`.

    The grid restarts where the video's time jumps or its size changes.

    Args:
        path: the file.
        fps: grid positions per second.
        start_seconds: frames before this presentation time are skipped.
        end_seconds: frames from this presentation time on are skipped.
        max_gap_seconds: a longer distance between two frames is a jump.
        short_side: frames with a longer shorter side are scaled down to it, in pixels.

    Raises:
        MediaError: the file cannot be opened, has no video, or none of its frames decodes.
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
    path: str | Path,
    fps: float,
    *,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
    max_gap_seconds: float = 1.0,
    short_side: int | None = None,
) -> list[RGBFrame]:
    """The longest run of `grid_frames` without a restart; takes the same arguments.

    Raises:
        MediaError: nothing decodes in the requested part.
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
    """The frames that `sampled_frames` would take from a file, one per grid position.

    Attributes:
        pts: their presentation times, in the stream's time base.
        places: their positions among all frames of the file, in presentation order.
    """

    pts: tuple[int, ...]
    places: tuple[int, ...]


def video_grid(
    path: str | Path,
    fps: float,
    *,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
    max_gap_seconds: float = 1.0,
) -> VideoGrid | None:
    """Find the frames that `sampled_frames` would take, from packet times, without decoding.

    Returns None where packet times do not tell.

    Raises:
        MediaError: the file cannot be opened, or has no video.
    """
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
    grid: TimeGrid[int] = TimeGrid(fps, max_gap_seconds)
    parts: list[list[int]] = [[]]
    for place, pts in enumerate(times):
        # The same arithmetic as PyAV's `frame.time`, so that both round alike.
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


def rgb_frames_at(
    path: str | Path, pts: Sequence[int], *, short_side: int | None = None
) -> list[RGBFrame] | None:
    """Decode the frames with these presentation times; None if not all of them are found.

    Decoding starts at the key frame before the first, if the file can seek. Frames that are
    neither requested nor needed to decode others are skipped.

    Args:
        path: the file.
        pts: presentation times in the stream's time base, rising.
        short_side: frames with a longer shorter side are scaled down to it, in pixels.

    Raises:
        MediaError: the file cannot be opened, has no video, or a frame cannot be converted.
    """
    found: dict[int, RGBFrame] = {}
    wanted = set(pts)
    convert = FrameConverter(short_side)
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
    if len(found) < len(wanted) or len({frame.shape for frame in found.values()}) > 1:
        return None
    return [found[each] for each in pts]


@dataclasses.dataclass
class _LazyFrame:
    """A decoded frame that is converted once, when the grid takes it, or never."""

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
