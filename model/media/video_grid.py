"""Find the frames of a video that are on a time grid, from the times of its packets.

Nothing is decoded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from model.media.container import demux_packets, open_file, video_stream
from model.media.image_sequence import ImageSequence, find_sequence
from model.media.sampling import TimeGrid

__all__ = ["VideoGrid", "video_grid"]

# Packets are in coding order: their times may go back by a few frames, but not by this much.
_JUMP_SECONDS = 1.0


@dataclasses.dataclass(frozen=True)
class VideoGrid:
    """The frames that `sampled_frames` would return for a file, one per grid position.

    Attributes:
        pts: presentation times of the frames, in the stream's time base.
        places: indices of the frames among all frames of the file, in presentation order.
    """

    pts: tuple[int, ...]
    places: tuple[int, ...]


def video_grid(
    path: str | Path | ImageSequence,
    fps: float,
    *,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
    max_gap_seconds: float = 1.0,
) -> VideoGrid | None:
    """Find the frames that `sampled_frames` would return, without decoding the file.

    The packet times of the file are used; return None if they are incomplete or not reliable.

    Raises:
        MediaError: the file cannot be opened, or has no video.
    """
    found = _frame_times(path)
    if found is None:
        return None
    times, base = found
    grid: TimeGrid[int] = TimeGrid(fps, max_gap_seconds)
    parts: list[list[int]] = [[]]
    for place, pts in enumerate(times):
        # PyAV computes `frame.time` in the same way, so both are rounded equally.
        seconds = pts * base.numerator / base.denominator
        if end_seconds is not None and seconds >= end_seconds:
            break
        if start_seconds is not None and seconds < start_seconds:
            continue
        samples, jump = grid.push(place, seconds)
        if jump is not None:
            parts.append([])
        parts[-1] += [sample.item for sample in samples]
    parts[-1] += [sample.item for sample in grid.finish()]
    if grid.skipped:
        return None
    longest = max(parts, key=len)
    return VideoGrid(tuple(times[place] for place in longest), tuple(longest)) if longest else None


def _frame_times(path: str | Path | ImageSequence) -> tuple[Sequence[int], Fraction] | None:
    """Return the frame times and their time base; None if they are incomplete or not reliable."""
    sequence = find_sequence(path)
    if sequence is not None:
        return range(len(sequence.images())), sequence.time_base
    with open_file(path) as container:
        stream = video_stream(container)
        packets = [packet for packet in demux_packets(container, stream) if packet.size]
        times = sorted(
            packet.pts for packet in packets if packet.pts is not None and not packet.is_discard
        )
        base = stream.time_base
        invents_times = container.format.name == "avi"
    if not times or invents_times or len(times) != len(packets) or len(set(times)) != len(times):
        return None
    if _goes_back(packets, int(_JUMP_SECONDS / base)):
        return None
    return times, base


def _goes_back(packets: Sequence[Any], ticks: int) -> bool:
    """Whether presentation times go back by more than the order of coding explains."""
    newest = packets[0].pts
    for packet in packets:
        if packet.pts < newest - ticks:
            return True
        newest = max(newest, packet.pts)
    return False
