"""Clips cut from a stream of frames on a stride: the same rule live, in evaluation and for maps."""

from __future__ import annotations

import collections
from typing import Generic, TypeVar

from configs import ConfigError

__all__ = ["DEFAULT_STRIDE", "ClipCutter"]

DEFAULT_STRIDE = 4  # frames from one clip to the next, live and in evaluation

Frame = TypeVar("Frame")


class ClipCutter(Generic[Frame]):
    """Cuts clips of `frames` frames: the first as soon as there are enough, then every `stride`.

    The last frames of a recording get a clip of their own if they were in none; a recording that
    is shorter than a clip repeats its last frame.

    Args:
        frames: frames of a clip.
        stride: frames from one clip to the next.

    Raises:
        ConfigError: a number is below 1.
    """

    def __init__(self, frames: int, stride: int) -> None:
        if frames < 1 or stride < 1:
            raise ConfigError(f"frames and stride must be at least 1, got {frames} and {stride}")
        self._stride = stride
        self._recent: collections.deque[Frame] = collections.deque(maxlen=frames)
        self._frames = frames
        self._count = 0
        self._last_cut = 0

    def push(self, frame: Frame) -> list[Frame] | None:
        """Take the next frame; returns the clip that it completes, oldest frame first, or None."""
        self._recent.append(frame)
        self._count += 1
        if self._count < self._frames or (self._count - self._frames) % self._stride:
            return None
        self._last_cut = self._count
        return list(self._recent)

    def finish(self) -> list[Frame] | None:
        """End the recording and restart; returns the clip of the last frames if one is due."""
        clip = None
        if self._count > self._last_cut:
            missing = self._frames - len(self._recent)
            clip = [*self._recent, *[self._recent[-1]] * missing]
        self.restart()
        return clip

    def restart(self) -> None:
        """Forget all frames: the next clip begins with the next frame."""
        self._recent.clear()
        self._count = 0
        self._last_cut = 0
