"""The truth about a scene: the times of its actions, and its labelled parts for training.

The network sees clips of 32 frames. Labelled videos, and labelled parts of recordings, are cut so
that the label is correct for every clip in them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from train.synthetic.actions import BACKGROUND

__all__ = [
    "CLIP_SECONDS",
    "MAX_BACKGROUND_FRACTION",
    "MIN_ACTION_FRACTION",
    "Interval",
    "training_segments",
]

CLIP_SECONDS = 32 / 15  # length of the network's input clip
# Every clip of a labelled video shows at least this fraction of the action ...
MIN_ACTION_FRACTION = 0.62
# ... and every clip of a background video shows at most this fraction of an action.
MAX_BACKGROUND_FRACTION = 0.18


@dataclasses.dataclass(frozen=True)
class Interval:
    """One action: it lasts while `start_seconds <= t < end_seconds`."""

    label: str
    start_seconds: float
    end_seconds: float


def training_segments(intervals: Sequence[Interval], seconds: float) -> list[Interval]:
    """Divide a recording into labelled parts for training: actions, and pauses between them.

    Args:
        intervals: the recording's actions in order of time.
        seconds: length of the recording.
    """
    segments = []
    rests = [0.0]  # start and end times of the pauses, alternating
    for interval in intervals:
        visible = min(interval.end_seconds - interval.start_seconds, CLIP_SECONDS)
        margin = CLIP_SECONDS - MIN_ACTION_FRACTION * visible
        start = max(0.0, interval.start_seconds - margin)
        end = min(seconds, interval.end_seconds + margin)
        segments.append(Interval(interval.label, start, end))
        glimpse = MAX_BACKGROUND_FRACTION * visible
        rests += [interval.start_seconds + glimpse, interval.end_seconds - glimpse]
    rests.append(seconds)
    for start, end in zip(rests[::2], rests[1::2], strict=True):
        if end - start >= CLIP_SECONDS:
            segments.append(Interval(BACKGROUND, start, end))
    return segments
