"""Decodes clips from video files; decoded frames can be cached on disk and in memory.

Letters: F frames of a video, T frames of a clip, H and W space, C channels (RGB).
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import threading
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from configs import MediaError, TrainingError, replaced_file
from model.media.container import explain, naming_file, resolved
from model.media.conversion import RGBFrame
from model.media.image_sequence import size_and_mtime
from model.media.video import grid_frames, no_frame, rgb_frames_at, sampled_frames
from model.media.video_grid import VideoGrid, video_grid
from train.data.manifest import ManifestEntry

__all__ = ["ClipRequest", "ClipStore", "Frames"]

Frames = NDArray[np.uint8]
_MAX_GRIDS = 20_000
_MAX_VIDEO_BYTES = 8 << 30
_GRIDS_LOCK = threading.Lock()  # held only to change a store's dictionary of grids


@dataclasses.dataclass(frozen=True)
class ClipRequest:
    """Asks for one clip of a video.

    `start` is the clip's position, from 0 (first possible clip) to 1 (last possible clip).
    `short_side` is the length in pixels that the frames' shorter side will be resized to later.
    `speed` is the number of positions of the time grid from one frame of the clip to the next; it
    is lower, but not below 1, if the clip would end after the video.
    """

    entry: ManifestEntry
    start: float
    short_side: int | None = None
    speed: float = 1.0


class ClipStore:
    """Returns sampled frames of videos, resized to `short_side`; a cache keeps decoded frames.

    If a video is shorter than a clip, its last frame is repeated. Several threads may use a store
    at the same time.

    Args:
        fps: frames per second of a clip.
        frames: number of frames in a clip.
        short_side: shorter side of stored frames in pixels; None keeps the size of the video.
        cache: folder for decoded frames; with None, no files are stored.
        in_memory: whether decoded frames are also kept in memory.
        scale_early: whether, without a cache, the colour conversion already scales the frames down
            to the requested size. This takes a half to a third of the time of converting full
            frames and resizing them afterwards; pixels differ by one or two grey levels.
    """

    def __init__(
        self,
        *,
        fps: float,
        frames: int,
        short_side: int | None,
        cache: Path | None,
        in_memory: bool = False,
        scale_early: bool = False,
    ) -> None:
        self._scale_early = scale_early
        self._latest: tuple[tuple[ManifestEntry, int | None], Frames] | None = None
        self._latest_clip: tuple[ClipRequest, Frames] | None = None
        self._grids: dict[ManifestEntry, VideoGrid | None] = {}
        self._memory: dict[ManifestEntry, Frames] | None = {} if in_memory else None
        self._fps = fps
        self._frames = frames
        self._short_side = short_side
        self._cache = cache
        if cache is not None:
            cache.mkdir(parents=True, exist_ok=True)

    def __call__(self, entry: ManifestEntry) -> Frames:
        """Return all sampled frames of a video, `F H W C` uint8, with F at least one clip.

        Raises:
            MediaError: the video does not decode; the message names it.
            TrainingError: the cache cannot be written.
        """
        return self._whole_video(entry, self._short_side)

    @property
    def frames(self) -> int:
        """The number of frames in a clip."""
        return self._frames

    def check(self, entry: ManifestEntry) -> None:
        """Decode a video and convert its sampled frames; if there is a cache, fill it.

        Without a cache, only one frame at a time is in memory.

        Raises:
            MediaError: the video does not decode; the message names it.
            TrainingError: the cache cannot be written.
        """
        if self._cache is not None or self._memory is not None:
            self(entry)
            return
        with naming_file(entry.path):
            count = 0
            for _ in grid_frames(
                entry.video,
                self._fps,
                start_seconds=entry.start_seconds,
                end_seconds=entry.end_seconds,
            ):
                count += 1
            if count == 0:
                raise MediaError(no_frame(entry.start_seconds, entry.end_seconds))

    def __getstate__(self) -> dict[str, object]:
        """Return the state to copy into a worker process: the settings without cached frames."""
        memory: dict[ManifestEntry, Frames] | None = None if self._memory is None else {}
        return {
            **self.__dict__,
            "_latest": None,
            "_latest_clip": None,
            "_grids": {},
            "_memory": memory,
        }

    def clip(self, request: ClipRequest) -> Frames:
        """Return the frames of a clip, `T H W C` uint8.

        Without a cache, only the clip's part of the file is decoded. The frames are the same as
        from decoding the whole file, unless the frame size changes within the file.

        Raises:
            MediaError: the video does not decode; the message names it.
        """
        if self._cache is not None or self._memory is not None:
            return self._clip_from_whole_video(request, self._short_side)
        # Another thread may replace the latest clip at any time.
        latest = self._latest_clip
        if latest is None or latest[0] != request:
            latest = (request, self._decode_clip(request))
            self._latest_clip = latest
        return latest[1]

    def frame_places(self, request: ClipRequest) -> list[int] | None:
        """Return the indices, in presentation order, of the file's frames that make up the clip.

        Return None if the indices cannot be found from the file's packets.

        Raises:
            MediaError: the file cannot be opened or has no video.
        """
        with naming_file(request.entry.path):
            grid = self._grid(request.entry)
        if grid is None:
            return None
        return [grid.places[index] for index in self._grid_positions(request, len(grid.places))]

    def _decode_clip(self, request: ClipRequest) -> Frames:
        video = request.entry.video
        short_side = request.short_side if self._scale_early else None
        with naming_file(request.entry.path):
            grid = self._grid(request.entry)
            if grid is not None:
                wanted = [grid.pts[index] for index in self._grid_positions(request, len(grid.pts))]
                frames = rgb_frames_at(video, wanted, short_side=short_side)
                if frames is not None:
                    return np.stack(frames)
        # The frame times could not be read from the packets, or the decoded frames had other
        # times: decode the whole file.
        return self._clip_from_whole_video(request, short_side)

    def _clip_from_whole_video(self, request: ClipRequest, short_side: int | None) -> Frames:
        frames = self._whole_video(request.entry, short_side)
        if request.speed != 1.0:
            return frames[self._grid_positions(request, len(frames))]
        first = self._first_index(request, len(frames))
        return frames[first : first + self._frames]

    def _whole_video(self, entry: ManifestEntry, short_side: int | None) -> Frames:
        if self._memory is None:
            # Several views of one video are read one after the other, so keep the latest video.
            key = (entry, short_side)
            latest = self._latest
            if latest is None or latest[0] != key:
                latest = (key, self._load(entry, short_side))
                self._latest = latest
            return latest[1]
        if entry not in self._memory:
            self._memory[entry] = self._load(entry, short_side)
        return self._memory[entry]

    def _first_index(self, request: ClipRequest, samples: int) -> int:
        length = round((self._frames - 1) * self._speed(request, samples)) + 1
        return round(request.start * max(0, samples - length))

    def _grid_positions(self, request: ClipRequest, samples: int) -> list[int]:
        """Return the clip's positions in the grid; if the video is too short, repeat the last."""
        first = self._first_index(request, max(samples, self._frames))
        speed = self._speed(request, samples)
        offsets = (round(index * speed) for index in range(self._frames))
        return [min(first + offset, samples - 1) for offset in offsets]

    def _speed(self, request: ClipRequest, samples: int) -> float:
        """Return the clip's speed; a faster one must not end after the video."""
        fitting = (samples - 1) / (self._frames - 1)
        return min(request.speed, max(1.0, fitting))

    def _grid(self, entry: ManifestEntry) -> VideoGrid | None:
        with _GRIDS_LOCK:
            if entry in self._grids:
                return self._grids[entry]
        grid = video_grid(
            entry.video,
            self._fps,
            start_seconds=entry.start_seconds,
            end_seconds=entry.end_seconds,
        )
        with _GRIDS_LOCK:
            if len(self._grids) >= _MAX_GRIDS:
                del self._grids[next(iter(self._grids))]
            self._grids[entry] = grid
        return grid

    def _load(self, entry: ManifestEntry, short_side: int | None) -> Frames:
        if self._cache is None:
            return self._decode(entry, short_side)
        with naming_file(entry.path):
            path = self._cache / (self._key(entry) + ".npy")
        if path.is_file():
            try:
                cached: Frames = np.load(path, allow_pickle=False)
                return cached
            except (ValueError, OSError, EOFError):
                path.unlink(missing_ok=True)  # damaged, for example by a full disk: decode again
        frames = self._decode(entry, short_side)
        # Several processes may write this file at the same time, so each uses its own partial file.
        suffix = f".{np.random.default_rng().integers(2**40):x}.part"
        try:
            with replaced_file(path, suffix=suffix) as partial, partial.open("wb") as file:
                np.save(file, frames)
        except OSError as error:
            raise TrainingError(
                f"frames cannot be written to {path}: {explain(error)}; free disk space, or set"
                " data.cache to null"
            ) from error
        return frames

    def _decode(self, entry: ManifestEntry, short_side: int | None) -> Frames:
        with naming_file(entry.path):
            frames = sampled_frames(
                entry.video,
                self._fps,
                start_seconds=entry.start_seconds,
                end_seconds=entry.end_seconds,
                resize=functools.partial(_shrink, short_side=short_side),
                max_bytes=_MAX_VIDEO_BYTES,
            )
            frames += [frames[-1]] * (self._frames - len(frames))
            return np.stack(frames)

    def _key(self, entry: ManifestEntry) -> str:
        """Return a file name that is a hash of everything that determines the stored frames."""
        facts = size_and_mtime(entry.path) if entry.path.exists() else None
        parts = (
            resolved(entry.path),
            facts,
            entry.start_seconds,
            entry.end_seconds,
            self._fps,
            self._frames,
            self._short_side,
            *([] if entry.fps is None else [entry.fps]),
        )
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def _shrink(frame_HWC: RGBFrame, short_side: int | None) -> RGBFrame:
    """Resize a frame so that its shorter side is `short_side`; return a smaller one unchanged."""
    height, width = frame_HWC.shape[:2]
    if short_side is None or min(height, width) <= short_side:
        return frame_HWC
    scale = short_side / min(height, width)
    size = (round(width * scale), round(height * scale))
    resized = cv2.resize(frame_HWC, size, interpolation=cv2.INTER_AREA)
    return np.asarray(resized, np.uint8)
