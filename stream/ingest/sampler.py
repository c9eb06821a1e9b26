"""Frames on the camera's time grid; where the time line breaks, clips restart."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from configs import MediaError
from model.media.sampling import GridSample, TimeGrid
from stream.ingest.config import ClipConfig
from stream.types import BreakReason, DecodedFrame, SampledFrame, StreamBreak

__all__ = ["Sampler"]


class Sampler:
    """Turns one camera's decoded frames into grid positions and breaks.

    Args:
        convert: makes an RGB frame, uint8 `H W C`, of a decoded one; it is called once for each
            frame that is used, and for no other.
        generation: of this opening of the camera, for the breaks.
        on_repeat: told of each position that takes the same frame as the one before.
        on_unconverted: told of each frame that could not be converted, and why.
    """

    def __init__(
        self,
        camera_id: str,
        config: ClipConfig,
        convert: Callable[[object], NDArray[np.uint8]],
        *,
        generation: int = 0,
        on_repeat: Callable[[], None] = lambda: None,
        on_unconverted: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._camera_id = camera_id
        self._convert = convert
        self._generation = generation
        self._on_repeat = on_repeat
        self._on_unconverted = on_unconverted
        self._grid: TimeGrid[DecodedFrame] = TimeGrid(config.fps, config.max_gap_seconds)
        self._size: tuple[int, int, int] | None = None
        self._converted: tuple[DecodedFrame, NDArray[np.uint8]] | None = None

    def restart(self, reason: BreakReason) -> StreamBreak:
        """Restart for an outside reason, such as a new connection."""
        self._grid.restart()
        self._size = None
        return self._break(reason)

    def push(self, frame: DecodedFrame) -> list[SampledFrame | StreamBreak]:
        """Take the next frame; returns what it settles, in order."""
        items: list[SampledFrame | StreamBreak] = []
        size = (frame.width, frame.height, frame.turns)
        if self._size not in (None, size):
            items.append(self.restart(BreakReason.SIZE))
        self._size = size
        samples, reason = self._grid.push(frame, frame.pts_seconds)
        if reason is not None:
            items.append(self._break(BreakReason(reason)))
        try:
            items += [self._sampled(sample) for sample in samples]
        except (MediaError, FFmpegError, ValueError, MemoryError) as error:
            self._on_unconverted(str(error) or type(error).__name__)
            items.append(self.restart(BreakReason.GAP))  # the clip would miss this position
        return items

    def _break(self, reason: BreakReason) -> StreamBreak:
        return StreamBreak(self._camera_id, reason, self._generation)

    def _sampled(self, sample: GridSample[DecodedFrame]) -> SampledFrame:
        frame = sample.item
        if sample.repeated:
            self._on_repeat()
        if self._converted is None or self._converted[0] is not frame:
            self._converted = (frame, self._convert(frame.native))
        return SampledFrame(
            self._camera_id,
            self._converted[1],
            sample.pts_seconds,
            frame.arrived_monotonic,
            frame.wall_seconds,
        )
