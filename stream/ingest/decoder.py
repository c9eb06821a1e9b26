"""Packets to frames in software. Every frame is decoded, because later ones refer to it; none is
converted here.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Any

from av.error import FFmpegError

from model.media.container import frame_rate
from model.media.conversion import quarter_turns
from model.media.presentation_order import PresentationOrder
from stream.types import CodedPacket, DecodedFrame

__all__ = ["Decoder"]

# Packets whose frames never appear must not be remembered for ever.
_MOST_PENDING = 256


class Decoder:
    """Decodes one camera's packets, in presentation order, with the arrival time of the packet each
    frame came in.

    Frames without presentation time take the time of the packet's arrival since the connection
    began; those of a file that has none at all are counted.
    """

    def __init__(self, on_corrupt: Callable[[], None] = lambda: None) -> None:
        self._on_corrupt = on_corrupt
        self._arrivals: collections.OrderedDict[Any, tuple[float, float]] = (
            collections.OrderedDict()
        )
        self._begun_monotonic: float | None = None
        self._counted = 0
        self._codec: Any = None
        self._order: PresentationOrder[DecodedFrame] = PresentationOrder()

    def decode(self, coded: CodedPacket) -> list[DecodedFrame]:
        """Frames that this packet completes: often one, sometimes none or several."""
        if coded.packet is None:
            if self._codec is not None:
                self._codec.flush_buffers()  # what it still holds lies before the hole
            self._arrivals.clear()
            self._order = PresentationOrder()
            self._begun_monotonic = None
            self._counted = 0
            return []
        packet = coded.packet
        self._codec = packet.stream.codec_context
        if self._begun_monotonic is None:
            self._begun_monotonic = coded.arrived_monotonic
        self._arrivals[packet.pts] = (coded.arrived_monotonic, coded.wall_seconds)
        if len(self._arrivals) > _MOST_PENDING:
            self._arrivals.popitem(last=False)
        try:
            frames = packet.decode()
        except (FFmpegError, ValueError):
            self._on_corrupt()
            return []
        whole = [frame for frame in frames if not frame.is_corrupt]
        for _ in range(len(frames) - len(whole)):
            self._on_corrupt()
        stamped = [self._stamped(frame, coded) for frame in whole]
        ordered = [
            ready for frame in stamped for ready in self._order.push(frame, frame.pts_seconds)
        ]
        return ordered if packet.size else ordered + self._order.flush()

    def _stamped(self, frame: Any, coded: CodedPacket) -> DecodedFrame:
        arrived, wall = self._arrivals.pop(frame.pts, (coded.arrived_monotonic, coded.wall_seconds))
        if coded.clock == "count":
            seconds = self._counted / frame_rate(coded.packet.stream)
            self._counted += 1
        elif coded.clock == "stream" and frame.time is not None:
            seconds = frame.time
        else:
            # when it came out, not when its own packet came in: that may have been before an
            # earlier picture's
            seconds = coded.arrived_monotonic - (self._begun_monotonic or coded.arrived_monotonic)
        return DecodedFrame(
            frame, float(seconds), arrived, wall, frame.width, frame.height, quarter_turns(frame)
        )
