"""From a video file to clips: all sampled frames with a cache on disk or in memory, or only the
frames of one clip.

Letters: F and T frames, H and W space, C channels (RGB).
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from configs import MediaError
from model.media.conversion import quarter_turns
from model.media.video import VideoGrid, decode_frames, rgb_frames_at, sampled_frames, video_grid
from train.data.manifest import ManifestEntry

__all__ = ["ClipStore", "Frames", "PlannedPart"]

Frames = NDArray[np.uint8]
_GRIDS_KEPT = 20_000


@dataclasses.dataclass(frozen=True)
class PlannedPart:
    """The clip of a video that begins at `start` of the time it has to spare: 0 is its first clip,
    1 its last.

    `short_side` is the shorter side that its pictures will be resized to, in pixels.
    """

    entry: ManifestEntry
    start: float
    short_side: int | None = None


class ClipStore:
    """Sampled frames of manifest entries, resized once to a store size, optionally kept on disk.

    Videos shorter than a clip repeat their last frame.

    Args:
        fps, frames: the clip.
        short_side: shorter side of stored pictures in pixels; None keeps the video's own size.
        cache: folder for decoded frames; None decodes anew every time.
        in_memory: keep decoded frames in memory as well.
        scale_early: without a cache, let the colour conversion scale a clip's pictures down to
            where it is wanted: two to three times as fast as to convert them whole and resize them
            afterwards, and within a grey level or two of that.
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
        self._latest_clip: tuple[PlannedPart, Frames] | None = None
        self._grids: dict[ManifestEntry, VideoGrid | None] = {}
        self._memory: dict[ManifestEntry, Frames] | None = {} if in_memory else None
        self._fps = fps
        self._frames = frames
        self._short_side = short_side
        self._cache = cache
        if cache is not None:
            cache.mkdir(parents=True, exist_ok=True)

    def __call__(self, entry: ManifestEntry) -> Frames:
        """`F H W C` uint8 with F of at least one clip.

        Raises:
            MediaError: the video does not decode; the message names it.
        """
        if self._memory is None:
            # Several views of one video follow each other: decode it once.
            if self._latest is None or self._latest[0] != entry:
                self._latest = (entry, self._load(entry))
            return self._latest[1]
        if entry not in self._memory:
            self._memory[entry] = self._load(entry)
        return self._memory[entry]

    def __getstate__(self) -> dict[str, object]:
        """What a worker process starts with: the settings, not what is kept here."""
        kept: dict[ManifestEntry, Frames] | None = None if self._memory is None else {}
        return {
            **self.__dict__,
            "_latest": None,
            "_latest_clip": None,
            "_grids": {},
            "_memory": kept,
        }

    def clip(self, part: PlannedPart) -> Frames:
        """The clip's frames, `T H W C` uint8.

        Without a cache only the clip's part of the file is decoded; what that gives is what the
        whole file gives there, save in files whose pictures change their size.

        Raises:
            MediaError: the video does not decode; the message names it.
        """
        if self._cache is None and self._memory is None:
            if self._latest_clip is None or self._latest_clip[0] != part:
                self._latest_clip = (part, self._decode_clip(part))
            return self._latest_clip[1]
        return self._cut(part)

    def frame_places(self, part: PlannedPart) -> list[int] | None:
        """Which frames of the file, counted in presentation order, make the clip; None if its
        packets do not tell.

        Raises:
            MediaError: the file cannot be opened or has no video.
        """
        grid = self._grid(part.entry)
        return (
            None
            if grid is None
            else [grid.places[index] for index in self._indices(part, len(grid.places))]
        )

    def is_upright(self, entry: ManifestEntry) -> bool:
        """Whether the file's pictures are shown as they are coded.

        Raises:
            MediaError: it does not decode.
        """
        with contextlib.closing(decode_frames(entry.path)) as frames:  # type: ignore[type-var]
            return quarter_turns(next(frames)) == 0

    def _decode_clip(self, part: PlannedPart) -> Frames:
        try:
            grid = self._grid(part.entry)
            if grid is not None:
                wanted = [grid.pts[index] for index in self._indices(part, len(grid.pts))]
                pictures = rgb_frames_at(
                    part.entry.path,
                    wanted,
                    short_side=part.short_side if self._scale_early else None,
                )
                if pictures is not None:
                    return np.stack(pictures)
        except MediaError as error:
            raise MediaError(f"{part.entry.path}: {error}") from error
        # The packets do not say which frames come out, or other frames came out than they said:
        # decode it all.
        return self._cut(part)

    def _cut(self, part: PlannedPart) -> Frames:
        frames = self(part.entry)
        return frames[self._first(part, len(frames)) :][: self._frames]

    def _first(self, part: PlannedPart, samples: int) -> int:
        return round(part.start * (samples - self._frames))

    def _indices(self, part: PlannedPart, samples: int) -> list[int]:
        """Grid positions of the clip; a video shorter than a clip repeats its last."""
        first = self._first(part, max(samples, self._frames))
        return [min(first + index, samples - 1) for index in range(self._frames)]

    def _grid(self, entry: ManifestEntry) -> VideoGrid | None:
        if entry not in self._grids:
            if len(self._grids) >= _GRIDS_KEPT:
                del self._grids[next(iter(self._grids))]
            self._grids[entry] = video_grid(
                entry.path,
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
                path.unlink(missing_ok=True)  # cut short by a full disk or a kill: decode it again
        frames = self._decode(entry)
        partial = path.with_suffix(f".{np.random.default_rng().integers(2**40):x}.part")
        with partial.open("wb") as file:
            np.save(file, frames)
        partial.replace(path)
        return frames

    def _decode(self, entry: ManifestEntry) -> Frames:
        try:
            pictures = sampled_frames(
                entry.path,
                self._fps,
                start_seconds=entry.start_seconds,
                end_seconds=entry.end_seconds,
            )
        except MediaError as error:
            raise MediaError(f"{entry.path}: {error}") from error
        pictures += [pictures[-1]] * (self._frames - len(pictures))
        stacked = np.stack(pictures)
        return stacked if self._short_side is None else _shrink(stacked, self._short_side)

    def _key(self, entry: ManifestEntry) -> str:
        """Changes with everything that the stored frames depend on."""
        stat = entry.path.stat() if entry.path.exists() else None
        parts = (
            entry.path.resolve(),
            stat and (stat.st_size, stat.st_mtime_ns),
            entry.start_seconds,
            entry.end_seconds,
            self._fps,
            self._frames,
            self._short_side,
        )
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def _shrink(frames_FHWC: Frames, short_side: int) -> Frames:
    """Resize so that the shorter side is `short_side`; smaller pictures stay as they are."""
    height, width = frames_FHWC.shape[1:3]
    if min(height, width) <= short_side:
        return frames_FHWC
    scale = short_side / min(height, width)
    size = (round(width * scale), round(height * scale))
    return np.stack(
        [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames_FHWC]
    ).astype(np.uint8)
