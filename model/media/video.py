"""Software decoding with PyAV: what training and the live pipeline share.

Pictures are RGB uint8 `H W C`, upright (display rotation applied), contiguous.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import av
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from configs import MediaError
from model.media.sampling import TimeGrid

__all__ = [
    "Picture",
    "PictureConverter",
    "PresentationOrder",
    "VideoGrid",
    "decode_frames",
    "frame_picture",
    "frame_rate",
    "grid_pictures",
    "grid_pictures_at",
    "open_container",
    "quarter_turns",
    "sampled_frames",
    "video_grid",
    "video_stream",
]

Picture = NDArray[np.uint8]
Item = TypeVar("Item")
_JUMP_SECONDS = 1.0
_MOST_HELD = 4


def open_container(url: str, **options: Any) -> Any:
    """Open a file or stream for reading; `options` go to `av.open`.

    Raises:
        MediaError: it does not exist, cannot be reached, or is no media file.
    """
    try:
        return av.open(url, **options)
    except (FFmpegError, OSError, ValueError, IndexError) as error:
        raise MediaError(f"cannot open: {explain(error)}") from error


def video_stream(container: Any) -> Any:
    """The video stream to analyse: the container's best one, cover pictures left out.

    Raises:
        MediaError: there is none, or no decoder for it.
    """
    streams = [stream for stream in container.streams.video if not _is_cover(stream)]
    if not streams:
        raise MediaError("no video stream (sound only, or not a video)")
    best = container.streams.best("video")
    stream = best if best in streams else streams[0]
    if stream.codec_context is None:
        raise MediaError("no decoder for its video stream")
    # Frame threads delay every frame by their number and can hang when a broken stream is closed.
    stream.thread_type = "SLICE"
    return stream


def frame_rate(stream: Any) -> float:
    """Frames per second that a video stream claims to have; 25 if it claims nothing."""
    return float(stream.guessed_rate or stream.average_rate or 25)


class PresentationOrder(Generic[Item]):
    """Puts frames that a decoder hands out slightly out of order back in order.

    Some files (MPEG-4 with B-frames in AVI) come out in decoding order. Nothing is held back until
    a frame arrives late by less than a second; from then on as many frames are held as the disorder
    needs, four at most. Larger steps backwards are not disorder but a jump, and pass through.
    """

    def __init__(self) -> None:
        self._held: list[tuple[float, Item]] = []
        self._depth = 0
        self._newest = float("-inf")
        self._emitted = float("-inf")

    def push(self, item: Item, time: float | None) -> list[Item]:
        """Take the next item with its time in seconds; returns those whose turn has come."""
        if time is None:
            return [*self.flush(), item]
        if self._newest - time >= _JUMP_SECONDS:
            self._newest = self._emitted = time
            return [*self.flush(), item]
        self._newest = max(self._newest, time)
        if time < self._emitted:
            self._depth = min(self._depth + 1, _MOST_HELD)
            return []  # its turn is over already
        self._held = sorted([*self._held, (time, item)], key=lambda pair: pair[0])
        ready = self._held[: len(self._held) - self._depth]
        self._held = self._held[len(self._held) - self._depth :]
        if ready:
            self._emitted = ready[-1][0]
        return [item for _, item in ready]

    def flush(self) -> list[Item]:
        """Whatever is still held."""
        held = [item for _, item in self._held]
        self._held = []
        return held


def decode_frames(
    path: str | Path, *, strict: bool = False, from_seconds: float | None = None
) -> Iterator[Any]:
    """All decodable frames of a file, in presentation order. Broken packets are skipped, or with
    `strict` an error.

    With `from_seconds` decoding begins at the key frame before that presentation time, where the
    file can seek.

    Raises:
        MediaError: the file cannot be opened, has no video, or not one frame of it decodes; with
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


def sampled_frames(
    path: str | Path,
    fps: float,
    *,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
    max_gap_seconds: float = 1.0,
    short_side: int | None = None,
) -> list[Picture]:
    """RGB pictures of a file, or of a part of it, on the time grid of `fps`, through the same
    `TimeGrid` as the live pipeline.

    Pictures whose shorter side is longer than `short_side` are scaled down to it. A video whose
    time jumps or whose size changes gives its longest steady part.

    Raises:
        MediaError: nothing decodes in the wanted part.
    """
    parts: list[list[Picture]] = [[]]
    for _, picture, anew in grid_pictures(
        path,
        fps,
        start_seconds=start_seconds,
        end_seconds=end_seconds,
        max_gap_seconds=max_gap_seconds,
        short_side=short_side,
    ):
        if anew:
            parts.append([])
        parts[-1].append(picture)
    longest = max(parts, key=len)
    if not longest:
        raise MediaError(f"{path}: no frame between {start_seconds} and {end_seconds} seconds")
    return longest


def grid_pictures(
    path: str | Path,
    fps: float,
    *,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
    max_gap_seconds: float = 1.0,
    short_side: int | None = None,
) -> Iterator[tuple[float, Picture, bool]]:
    """Presentation time in seconds and picture of every grid position, and whether the grid began
    anew there.

    Pictures whose shorter side is longer than `short_side` are scaled down to it.

    Raises:
        MediaError: the file cannot be opened, has no video, or not one frame of it decodes.
    """
    grid: TimeGrid[_LazyPicture] = TimeGrid(fps, max_gap_seconds)
    size: tuple[int, int] | None = None
    convert = PictureConverter(short_side)
    for frame in decode_frames(path, from_seconds=start_seconds):
        if end_seconds is not None and frame.time is not None and frame.time >= end_seconds:
            break
        if frame.time is None or (start_seconds is not None and frame.time < start_seconds):
            continue
        changed = size is not None and size != (frame.width, frame.height)
        size = (frame.width, frame.height)
        if changed:
            grid.restart()
        samples, reason = grid.push(_LazyPicture(frame, convert), frame.time)
        anew = changed or reason is not None
        for sample in samples:
            yield sample.pts_seconds, sample.item.picture(), anew
            anew = False


@dataclasses.dataclass(frozen=True)
class VideoGrid:
    """The frame of each grid position of a file's longest steady part: `pts` in the stream's
    time base, `places` in presentation order.
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
    """What `sampled_frames` would take, found without decoding, from the packets' times; None if
    they do not tell.

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
        makes_times_up = container.format.name == "avi"
    if not times or makes_times_up or len(times) != len(packets) or len(set(times)) != len(times):
        return None
    grid: TimeGrid[int] = TimeGrid(fps, max_gap_seconds)
    parts: list[list[int]] = [[]]
    for place, pts in enumerate(times):
        # as a decoded frame's time is computed, to the last bit
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


def grid_pictures_at(
    path: str | Path, pts: Sequence[int], *, short_side: int | None = None
) -> list[Picture] | None:
    """The pictures with these presentation times (rising, in the stream's time base); None if not
    all of them come out.

    Decoding begins at the key frame before the first, where the file can seek; frames that are
    neither wanted nor needed by others are passed over undecoded.

    Args:
        short_side: larger pictures are scaled down to this shorter side, in pixels, while they are
            converted.

    Raises:
        MediaError: the file cannot be opened, or has no video.
    """
    pictures: dict[int, Picture] = {}
    wanted = set(pts)
    convert = PictureConverter(short_side)
    with open_container(str(path)) as container:
        stream = video_stream(container)
        with contextlib.suppress(FFmpegError):
            container.seek(pts[0], stream=stream)
        for packet in demux_packets(container, stream):
            stream.codec_context.skip_frame = (
                "DEFAULT" if packet.pts in wanted or packet.pts is None else "NONREF"
            )
            for frame in decode_packet(packet):
                if frame.pts in wanted:
                    try:
                        pictures[frame.pts] = convert(frame)
                    except (FFmpegError, ValueError) as error:
                        raise MediaError(
                            f"a frame cannot be converted: {explain(error)}"
                        ) from error
            if len(pictures) == len(wanted):
                break
    if len(pictures) < len(wanted) or len({picture.shape for picture in pictures.values()}) > 1:
        return None
    return [pictures[each] for each in pts]


class PictureConverter:
    """Decoded frames to upright RGB pictures, scaled down on the way; keeps its tables from frame
    to frame. For one thread.

    Args:
        short_side: pictures whose shorter side is longer get one of this length; None leaves all as
            they are.
    """

    def __init__(self, short_side: int | None) -> None:
        self._short_side = short_side
        self._reformatter = VideoReformatter()

    def __call__(self, frame: Any) -> Picture:
        """The frame as an upright RGB picture."""
        width = frame.width
        height = frame.height
        short = self._short_side
        if short is None or short >= min(width, height):
            return frame_picture(frame)
        scale = short / min(width, height)
        width = round(width * scale)
        height = round(height * scale)
        rgb = self._reformatter.reformat(
            frame, width, height, "rgb24", interpolation="BILINEAR", threads=1
        )
        picture: Any = rgb.to_ndarray()
        return _upright(picture, frame)


@dataclasses.dataclass
class _LazyPicture:
    """Converts a decoded frame when, and only when, the grid takes it."""

    frame: object
    convert: PictureConverter
    _picture: Picture | None = None

    def picture(self) -> Picture:
        if self._picture is None:
            self._picture = self.convert(self.frame)
        return self._picture


def demux_packets(container: Any, stream: Any, *, strict: bool = False) -> Iterator[Any]:
    """Packets of one stream, the empty one that flushes the decoder last; ends (or with `strict`
    fails) at a read error.
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
    """Frames that a packet completes; one that does not decode gives none (or with `strict`
    fails).
    """
    try:
        return list(packet.decode())
    except (FFmpegError, ValueError) as error:
        if strict:
            raise MediaError(f"decode error: {explain(error)}") from error
        return []


def frame_picture(frame: Any) -> Picture:
    """A decoded frame as an upright RGB picture."""
    return _upright(frame.to_ndarray(format="rgb24", threads=1), frame)


def quarter_turns(frame: Any) -> int:
    """How often a frame is to be turned left by 90 degrees to stand upright."""
    return round(getattr(frame, "rotation", 0) / 90) % 4


def _upright(picture: Picture, frame: Any) -> Picture:
    turns = quarter_turns(frame)
    return np.ascontiguousarray(np.rot90(picture, turns) if turns else picture)


def explain(error: BaseException) -> str:
    """FFmpeg's reason in a few words, without the address, which may hold a password."""
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(reason)


def _is_cover(stream: Any) -> bool:
    disposition = getattr(stream, "disposition", None)
    return bool(disposition and disposition & av.stream.Disposition.attached_pic)
