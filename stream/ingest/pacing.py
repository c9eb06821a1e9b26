"""A file's packets at the speed of their timestamps, as a camera would send them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from model.media.container import frame_rate

__all__ = ["Pacing"]

# A file whose timestamps jump further ahead is not waited for.
_MAX_PAUSE_SECONDS = 60.0
# Timestamps that step back by less than this are still in order.
_TOLERANCE_SECONDS = 1.0
# After a longer step the next packet shows whether time has jumped, or one packet was stamped
# wrongly.
_CERTAIN_SECONDS = 3.0


class Pacing:
    """Holds packets back until their decoding time.

    A reader that is further behind than `max_behind_seconds` does not try to catch up: what
    follows is due from then on. A single packet whose time is far from the others is not waited
    for.

    Args:
        stop: ends the waiting.
        on_rest: told when it begins to wait, and when the waiting is over.
    """

    def __init__(
        self, *, max_behind_seconds: float, stop: threading.Event, on_rest: Callable[[bool], None]
    ) -> None:
        self._max_behind_seconds = max_behind_seconds
        self._stop = stop
        self._on_rest = on_rest
        self._origin: tuple[float, float] | None = None  # media time, and when it was due
        self._latest_seconds = 0.0
        self._uncertain_seconds: float | None = None  # time of a packet after a long step
        self._count = 0

    def arrival(self, packet: Any) -> float:
        """Wait until a packet is due; returns when it arrived, on the monotonic clock.

        For a reader that is behind that is when the packet was due.
        """
        now = time.monotonic()
        if not packet.size:
            return now
        media_seconds = self._media_seconds(packet)
        if self._origin is None:
            self._origin = (media_seconds, now)
        elif self._is_uncertain(media_seconds):
            return now
        elif not self._follows(media_seconds):
            self._origin = (media_seconds, now)
        self._latest_seconds = media_seconds
        due = self._origin[1] + media_seconds - self._origin[0]
        if now - due > self._max_behind_seconds:
            self._origin = (media_seconds, now)
            due = now
        if due > now:
            self._on_rest(True)
            self._stop.wait(due - now)
            self._on_rest(False)
        return due

    def _media_seconds(self, packet: Any) -> float:
        self._count += 1
        stamp = packet.dts if packet.dts is not None else packet.pts
        if stamp is None:
            return self._count / frame_rate(packet.stream)
        return float(stamp * packet.time_base)

    def _is_uncertain(self, media_seconds: float) -> bool:
        """Whether a packet comes after a long step and the packet before does not confirm it."""
        before, self._uncertain_seconds = self._uncertain_seconds, None
        if _is_near(self._latest_seconds, media_seconds):
            return False
        if before is not None and _is_near(before, media_seconds):
            return False
        self._uncertain_seconds = media_seconds
        return True

    def _follows(self, media_seconds: float) -> bool:
        earliest = self._latest_seconds - _TOLERANCE_SECONDS
        return earliest <= media_seconds <= self._latest_seconds + _MAX_PAUSE_SECONDS


def _is_near(earlier_seconds: float, media_seconds: float) -> bool:
    return -_TOLERANCE_SECONDS <= media_seconds - earlier_seconds <= _CERTAIN_SECONDS
