"""The presentation times of a camera's frames, whoever decodes them."""

from __future__ import annotations

from model.media.container import frame_rate
from stream.types import CodedPacket

__all__ = ["FrameTimes"]


class FrameTimes:
    """Gives each frame of one camera its presentation time.

    A frame without a presentation time takes the arrival of its packet since the connection
    started. The frames of a file without any times are counted.
    """

    def __init__(self) -> None:
        self._started_monotonic: float | None = None
        self._counted = 0

    def restart(self) -> None:
        """Start again with the next packet, which is the first of a connection."""
        self._started_monotonic = None
        self._counted = 0

    def go_on(self, started_monotonic: float, frames_before: int) -> None:
        """Go on in a connection where another decoder ended.

        Args:
            started_monotonic: arrival of the connection's first packet.
            frames_before: number of its frames that came before.
        """
        self._started_monotonic = started_monotonic
        self._counted = frames_before

    def note(self, coded: CodedPacket) -> None:
        """Note a packet; called before it is decoded."""
        if self._started_monotonic is None:
            self._started_monotonic = coded.arrived_monotonic

    def seconds(self, coded: CodedPacket, stream_seconds: float | None) -> float:
        """Return the presentation time of the next frame in presentation order, in seconds.

        Args:
            coded: the packet that made the decoder deliver the frame.
            stream_seconds: the frame's time on the stream's time line; None if it has none.
        """
        if coded.clock == "count":
            seconds = self._counted / frame_rate(coded.packet.stream)
            self._counted += 1
            return float(seconds)
        if coded.clock == "stream" and stream_seconds is not None:
            return float(stream_seconds)
        # When it came out, not when its own packet arrived: that may have been before the packet
        # of an earlier frame.
        return coded.arrived_monotonic - (self._started_monotonic or coded.arrived_monotonic)
