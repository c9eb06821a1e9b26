"""Frames on the camera's time grid; where the time line breaks, clips restart."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from configs import MediaError
from model.media.sampling import GridSample, TimeGrid
from stream.ingest.config import ClipConfig
from stream.ingest.time_trust import TimeTrust
from stream.types import BreakReason, DecodedFrame, SampledFrame, StreamBreak

__all__ = ["Sampler"]

_log = logging.getLogger(__name__)
_MIN_STEP_SECONDS = 0.001
_NO_PICTURE_HWC = np.zeros((1, 1, 3), np.uint8)


class Sampler:
    """Turns one camera's decoded frames into grid positions and breaks.

    Args:
        convert: makes an RGB frame, uint8 `H W C`, array or tensor, of a decoded one; it is called
            once for each frame that is used, and for no other.
        generation: of this opening of the camera, for the breaks.
        on_repeat: told of each position that takes the same frame as the one before.
        on_skip: told how many frames were left out because of their times, and the reason:
            `wrong_time` or `repeated_time`.
        is_live: whether frames arrive as they are taken. If the timestamps of such a camera cannot
            be used, its frames are placed by the time of their arrival.
        on_unconverted: told of each frame that could not be converted, and why.
    """

    def __init__(
        self,
        camera_id: str,
        config: ClipConfig,
        convert: Callable[[object], Any],
        *,
        generation: int = 0,
        on_repeat: Callable[[], None] = lambda: None,
        on_skip: Callable[[int, str], None] = lambda frames, reason: None,
        is_live: bool = False,
        on_unconverted: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._camera_id = camera_id
        self._convert = convert
        self._generation = generation
        self._on_repeat = on_repeat
        self._on_skip = on_skip
        self._on_unconverted = on_unconverted
        self._grid: TimeGrid[DecodedFrame] = TimeGrid(config.fps, config.max_gap_seconds)
        self._size: tuple[int, int, int] | None = None
        self._converted: tuple[DecodedFrame, Any] | None = None
        self._is_live = is_live
        self._trust: TimeTrust | None = TimeTrust() if is_live else None
        self._first_arrival: float | None = None  # set while frames are placed by arrival
        self._newest_seconds = 0.0
        self._skipped = self._duplicates = 0
        self._warn: Callable[..., None] = _log.warning

    def restart(self, reason: BreakReason) -> list[SampledFrame | StreamBreak]:
        """Restart for an outside reason, such as a new connection; return what is left."""
        items = self.finish()
        self._size = None
        self._trust = TimeTrust() if self._is_live else None
        self._first_arrival = None
        return [*items, self._break(reason)]

    def finish(self) -> list[SampledFrame | StreamBreak]:
        """End the time line; return the positions of frames that waited for the next one."""
        return self._convert_all(self._grid.finish())

    def push(self, frame: DecodedFrame) -> list[SampledFrame | StreamBreak]:
        """Add the next frame; return the items that are now known, in order."""
        items: list[SampledFrame | StreamBreak] = []
        size = (frame.width, frame.height, frame.turns)
        if self._size not in (None, size):
            items += [*self.finish(), self._break(BreakReason.SIZE)]
        self._size = size
        samples, jump = self._grid.push(frame, self._seconds(frame))
        if jump is not None:
            items.append(self._break(BreakReason(jump)))
        items += self._convert_all(samples)
        wrong = self._count_skipped()
        if self._trust is not None and self._trust.note(
            wrong=wrong, jumped=jump is not None, positions=len(samples)
        ):
            items.append(self._place_by_arrival(frame))
        return items

    def wanted(self, frames: Sequence[DecodedFrame]) -> list[Any]:
        """List the `native` of the frames that are converted if these are pushed next, or later.

        Nothing is converted, reported or changed. Frames that came before may be among them.
        """
        wanted: list[Any] = []

        def note(native: object) -> NDArray[np.uint8]:
            wanted.append(native)
            return _NO_PICTURE_HWC

        twin = copy.copy(self)
        twin._grid = self._grid.copy()
        twin._trust = copy.deepcopy(self._trust)
        twin._convert = note
        twin._on_repeat = lambda: None
        twin._on_skip = lambda frames, reason: None
        twin._warn = lambda *arguments, **context: None
        for frame in frames:
            twin.push(frame)
        return [*wanted, *(frame.native for frame in twin._grid.held)]

    def _seconds(self, frame: DecodedFrame) -> float:
        if self._first_arrival is None:
            return frame.pts_seconds
        seconds = frame.arrived_monotonic - self._first_arrival
        # Frames are in presentation order; their packets may have arrived in another one.
        self._newest_seconds = max(seconds, self._newest_seconds + _MIN_STEP_SECONDS)
        return self._newest_seconds

    def _place_by_arrival(self, frame: DecodedFrame) -> StreamBreak:
        """Use arrival times from the next frame on, until the next connection."""
        self._warn(
            "camera %s: its timestamps cannot be used; its frames are placed by the time of their"
            " arrival until it is opened again. Check the clock of the camera or of its server",
            self._camera_id,
            extra={"camera": self._camera_id},
        )
        self._trust = None
        self._first_arrival = frame.arrived_monotonic
        self._newest_seconds = 0.0
        self._grid.restart()
        return self._break(BreakReason.GAP)

    def _count_skipped(self) -> int:
        """Report frames that were left out; return how many had wrong times."""
        wrong = self._grid.skipped - self._skipped
        duplicates = self._grid.duplicates - self._duplicates
        self._skipped += wrong
        self._duplicates += duplicates
        if wrong:
            self._on_skip(wrong, "wrong_time")
        if duplicates:
            self._on_skip(duplicates, "repeated_time")
        return wrong

    def _convert_all(
        self, samples: Sequence[GridSample[DecodedFrame]]
    ) -> list[SampledFrame | StreamBreak]:
        try:
            return [self._sampled(sample) for sample in samples]
        except (MediaError, FFmpegError, ValueError, MemoryError) as error:
            self._on_unconverted(str(error) or type(error).__name__)
            self._grid.restart()
            return [self._break(BreakReason.GAP)]  # the clip would miss this position

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
