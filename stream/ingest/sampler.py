"""Frames on the camera's time grid; where the time line breaks, clips start anew."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from model.media.sampling import GridSample, TimeGrid
from stream.ingest.config import ClipConfig
from stream.types import BreakReason, DecodedFrame, SampledFrame, StreamBreak

__all__ = ["Sampler"]


@dataclasses.dataclass
class Sampler:
    """Turns one camera's decoded frames into grid positions and breaks.

    `convert` makes an RGB picture of a decoded frame; it is called once for each frame that is
    used, and for no other.
    """

    camera_id: str
    config: ClipConfig
    convert: Callable[[object], NDArray[np.uint8]]
    on_repeat: Callable[[], None] = lambda: None
    on_corrupt: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self._grid: TimeGrid[DecodedFrame] = TimeGrid(self.config.fps, self.config.max_gap_seconds)
        self._size: tuple[int, int, int] | None = None
        self._converted: tuple[DecodedFrame, NDArray[np.uint8]] | None = None

    def restart(self, reason: BreakReason) -> StreamBreak:
        """Start anew for an outside reason, such as a new connection."""
        self._grid.restart()
        self._size = None
        return StreamBreak(self.camera_id, reason)

    def push(self, frame: DecodedFrame) -> list[SampledFrame | StreamBreak]:
        """Take the next frame; returns what it settles, in order."""
        out: list[SampledFrame | StreamBreak] = []
        size = (frame.width, frame.height, frame.turns)
        if self._size not in (None, size):
            out.append(self.restart("size"))
        self._size = size
        samples, reason = self._grid.push(frame, frame.pts_seconds)
        if reason is not None:
            out.append(StreamBreak(self.camera_id, reason))
        try:
            out += [self._sampled(sample) for sample in samples]
        except (FFmpegError, ValueError, MemoryError):
            self.on_corrupt()
            out.append(self.restart("gap"))  # the position would be missing from the clip
        return out

    def _sampled(self, sample: GridSample[DecodedFrame]) -> SampledFrame:
        frame = sample.item
        if sample.repeated:
            self.on_repeat()
        if self._converted is None or self._converted[0] is not frame:
            self._converted = (frame, self.convert(frame.native))
        return SampledFrame(
            self.camera_id,
            self._converted[1],
            sample.pts_seconds,
            frame.arrived_monotonic,
            frame.wall_seconds,
        )
