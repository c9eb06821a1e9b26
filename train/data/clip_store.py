"""Decodes clips from video files; decoded frames can be cached on disk and in memory.

Letters: F frames of a video, T frames of a clip, H and W space, C channels (RGB).
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from configs import MediaError, readable, replaced_file
from model.media.conversion import quarter_turns
from model.media.image_sequence import size_and_mtime
from model.media.video import (
    VideoGrid,
    decode_frames,
    rgb_frames_at,
    sampled_frames,
    video_grid,
)
from train.data.manifest import ManifestEntry

__all__ = ["ClipRequest", "ClipStore", "Frames"]

Frames = NDArray[np.uint8]
_MAX_GRIDS = 20_000


@dataclasses.dataclass(frozen=True)
class ClipRequest:
    """Asks for one clip of a video.

    `start` is the clip's position, from 0 (first possible clip) to 1 (last possible clip).
    `short_side` is the length in pixels that the frames' shorter side will be resized to later.
    """

    entry: ManifestEntry
    start: float
    short_side: int | None = None


class ClipStore:
    """Returns sampled frames of videos, resized to `short_side`; a cache keeps decoded frames.

    If a video is shorter than a clip, its last frame is repeated.

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
        self._latest: tuple[ManifestEntry, Frames] | None = None
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
        """
        if self._memory is None:
            # Several views of one video are read one after the other, so keep the latest video.
            if self._latest is None or self._latest[0] != entry:
                self._latest = (entry, self._load(entry))
            return self._latest[1]
        if entry not in self._memory:
            self._memory[entry] = self._load(entry)
        return self._memory[entry]

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
            return self._clip_from_whole_video(request)
        if self._latest_clip is None or self._latest_clip[0] != request:
            self._latest_clip = (request, self._decode_clip(request))
        return self._latest_clip[1]

    def frame_places(self, request: ClipRequest) -> list[int] | None:
        """Return the indices, in presentation order, of the file's frames that make up the clip.

        Return None if the indices cannot be found from the file's packets.

        Raises:
            MediaError: the file cannot be opened or has no video.
        """
        grid = self._grid(request.entry)
        if grid is None:
            return None
        return [grid.places[index] for index in self._grid_positions(request, len(grid.places))]

    def is_upright(self, entry: ManifestEntry) -> bool:
        """Tell whether the file's frames are shown without rotation.

        Raises:
            MediaError: the file does not decode.
        """
        with contextlib.closing(decode_frames(entry.video)) as frames:  # type: ignore[type-var]
            return quarter_turns(next(frames)) == 0

    def _decode_clip(self, request: ClipRequest) -> Frames:
        video = request.entry.video
        short_side = request.short_side if self._scale_early else None
        try:
            grid = self._grid(request.entry)
            if grid is not None:
                wanted = [grid.pts[index] for index in self._grid_positions(request, len(grid.pts))]
                frames = rgb_frames_at(video, wanted, short_side=short_side)
                if frames is not None:
                    return np.stack(frames)
        except MediaError as error:
            raise MediaError(f"{readable(request.entry.path)}: {error}") from error
        # The frame times could not be read from the packets, or the decoded frames had other
        # times: decode the whole file.
        return self._clip_from_whole_video(request)

    def _clip_from_whole_video(self, request: ClipRequest) -> Frames:
        frames = self(request.entry)
        first = self._first_index(request, len(frames))
        return frames[first : first + self._frames]

    def _first_index(self, request: ClipRequest, samples: int) -> int:
        return round(request.start * (samples - self._frames))

    def _grid_positions(self, request: ClipRequest, samples: int) -> list[int]:
        """Return the clip's positions in the grid; if the video is too short, repeat the last."""
        first = self._first_index(request, max(samples, self._frames))
        return [min(first + index, samples - 1) for index in range(self._frames)]

    def _grid(self, entry: ManifestEntry) -> VideoGrid | None:
        if entry not in self._grids:
            if len(self._grids) >= _MAX_GRIDS:
                del self._grids[next(iter(self._grids))]
            self._grids[entry] = video_grid(
                entry.video,
                self._fps,
                start_seconds=entry.start_seconds,
                end_seconds=entry.end_seconds,
            )
        return self._grids[entry]

    def _load(self, entry: ManifestEntry) -> Frames:
        if self._cache is None:
            return self._decode(entry)
        path = self._cache / (self._key(entry) + ".npy")
        if path.is_file():
            try:
                cached: Frames = np.load(path, allow_pickle=False)
                return cached
            except (ValueError, OSError, EOFError):
                path.unlink(missing_ok=True)  # damaged, for example by a full disk: decode again
        frames = self._decode(entry)
        # Several processes may write this file at the same time, so each uses its own partial file.
        suffix = f".{np.random.default_rng().integers(2**40):x}.part"
        with replaced_file(path, suffix=suffix) as partial, partial.open("wb") as file:
            np.save(file, frames)
        return frames

    def _decode(self, entry: ManifestEntry) -> Frames:
        try:
            frames = sampled_frames(
                entry.video,
                self._fps,
                start_seconds=entry.start_seconds,
                end_seconds=entry.end_seconds,
            )
        except MediaError as error:
            raise MediaError(f"{readable(entry.path)}: {error}") from error
        frames += [frames[-1]] * (self._frames - len(frames))
        stacked = np.stack(frames)
        return stacked if self._short_side is None else _shrink(stacked, self._short_side)

    def _key(self, entry: ManifestEntry) -> str:
        """Return a file name that is a hash of everything that determines the stored frames."""
        facts = size_and_mtime(entry.path) if entry.path.exists() else None
        parts = (
            entry.path.resolve(),
            facts,
            entry.start_seconds,
            entry.end_seconds,
            self._fps,
            self._frames,
            self._short_side,
            *([] if entry.fps is None else [entry.fps]),
        )
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def _shrink(frames_FHWC: Frames, short_side: int) -> Frames:
    """Resize frames so that the shorter side is `short_side`; return smaller frames unchanged."""
    height, width = frames_FHWC.shape[1:3]
    if min(height, width) <= short_side:
        return frames_FHWC
    scale = short_side / min(height, width)
    size = (round(width * scale), round(height * scale))
    resized = [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames_FHWC]
    return np.stack(resized).astype(np.uint8)
