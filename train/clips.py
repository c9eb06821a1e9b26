"""From a video file to the sampled frames that clips are cut from, with an optional cache on disk."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from configs import MediaError
from model.video import sampled_frames
from train.manifests import ManifestEntry

__all__ = ["ClipStore"]

Frames = NDArray[np.uint8]


class ClipStore:
    """Sampled frames of manifest entries, resized once to a store size, optionally kept on disk.

    Videos shorter than a clip repeat their last frame.

    Args:
        fps, frames: the clip.
        short_side: shorter side of stored pictures in pixels; None keeps the video's own size.
        cache: folder for decoded frames; None decodes anew every time.
        in_memory: keep decoded frames in memory as well.
    """

    def __init__(self, *, fps: float, frames: int, short_side: int | None, cache: Path | None, in_memory: bool = False) -> None:
        self._latest: tuple[ManifestEntry, Frames] | None = None
        self._memory: dict[ManifestEntry, Frames] | None = {} if in_memory else None
        self._fps, self._frames, self._short_side, self._cache = fps, frames, short_side, cache
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
            pictures = sampled_frames(entry.path, self._fps, start_seconds=entry.start_seconds, end_seconds=entry.end_seconds)
        except MediaError as error:
            raise MediaError(f"{entry.path}: {error}") from error
        pictures += [pictures[-1]] * (self._frames - len(pictures))
        stacked = np.stack(pictures)
        return stacked if self._short_side is None else _shrink(stacked, self._short_side)

    def _key(self, entry: ManifestEntry) -> str:
        """Changes with everything that the stored frames depend on."""
        stat = entry.path.stat() if entry.path.exists() else None
        parts = (
            entry.path.resolve(), stat and (stat.st_size, stat.st_mtime_ns), entry.start_seconds, entry.end_seconds,
            self._fps, self._frames, self._short_side,
        )  # fmt: skip
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def _shrink(frames_FHWC: Frames, short_side: int) -> Frames:
    """Resize so that the shorter side is `short_side`; smaller pictures stay as they are."""
    height, width = frames_FHWC.shape[1:3]
    if min(height, width) <= short_side:
        return frames_FHWC
    scale = short_side / min(height, width)
    size = (round(width * scale), round(height * scale))
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames_FHWC]).astype(np.uint8)
