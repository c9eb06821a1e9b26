"""When the frames of a stream were taken whose packets come in bursts, such as HLS."""

from __future__ import annotations

__all__ = ["StreamClock"]

# A longer step of the stream's time does not belong to the same time line.
_MAX_STEP_SECONDS = 10.0


class StreamClock:
    """Dates packets by the stream's times: date = anchor + stream time.

    The anchor is set by the first packet. No packet is dated after its arrival.

    Args:
        behind_seconds: how long before its arrival the first packet was taken.
    """

    def __init__(self, behind_seconds: float) -> None:
        self._behind_seconds = behind_seconds
        self._anchor: float | None = None
        self._latest_seconds = 0.0

    def date(self, stream_seconds: float, arrived_wall: float) -> float:
        """Return when a packet was taken, in seconds since 1970.

        Args:
            arrived_wall: when it arrived, in seconds since 1970.
        """
        has_jumped = abs(stream_seconds - self._latest_seconds) > _MAX_STEP_SECONDS
        self._latest_seconds = stream_seconds
        if self._anchor is None or has_jumped:
            self._anchor = arrived_wall - self._behind_seconds - stream_seconds
        date = min(self._anchor + stream_seconds, arrived_wall)
        self._anchor = date - stream_seconds
        return date
