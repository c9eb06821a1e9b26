"""Cut overlapping clips from a sequence of frames.

The live pipeline, evaluation and activation maps all use this code.
"""

from __future__ import annotations

import collections
from typing import Generic, TypeVar

from configs import ConfigError

__all__ = ["DEFAULT_FRAMES", "DEFAULT_STRIDE", "ClipCutter"]

DEFAULT_FRAMES = 32  # number of frames in a clip
DEFAULT_STRIDE = 4  # distance between the starts of two clips, in frames

Frame = TypeVar("Frame")


class ClipCutter(Generic[Frame]):
    """Cuts clips of `frames` frames, with `stride` frames between the starts of two clips.

    The first clip is cut when `frames` frames have arrived. At the end of a recording, frames that
    are in no clip yet get one more clip, made of the last `frames` frames. If the recording is
    shorter than a clip, its last frame is repeated.

    Args:
        frames: number of frames in a clip.
        stride: distance between the starts of two clips, in frames.

    Raises:
        ConfigError: `frames` or `stride` is below 1.
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
        """Add the next frame; return the clip that it completes, oldest frame first, or None."""
        self._recent.append(frame)
        self._count += 1
        if self._count < self._frames or (self._count - self._frames) % self._stride:
            return None
        self._last_cut = self._count
        return list(self._recent)

    def finish(self) -> list[Frame] | None:
        """End the recording; return a clip of the last frames, or None if all were in a clip."""
        clip = None
        if self._count > self._last_cut:
            missing = self._frames - len(self._recent)
            clip = [*self._recent, *[self._recent[-1]] * missing]
        self.restart()
        return clip

    def restart(self) -> None:
        """Discard all frames; the next clip starts with the next frame."""
        self._recent.clear()
        self._count = 0
        self._last_cut = 0
