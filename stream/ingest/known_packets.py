"""The packets that were read last, so that a new connection does not analyse them again."""

from __future__ import annotations

import collections
from typing import Any

__all__ = ["KnownPackets"]

# More than two minutes at 30 frames per second: longer than a playlist keeps segments.
_MAX_PACKETS = 4096


class KnownPackets:
    """Remembers packets by their time and size; no two of a stream have both in common.

    Their time is the decoding time, or the presentation time if they have none, as in MKV.

    Attributes:
        latest: the time of the latest packet, in the stream's time base; None before it.
    """

    def __init__(self) -> None:
        self.latest: int | None = None
        self._order: collections.deque[tuple[int | None, int]] = collections.deque()
        self._known: set[tuple[int | None, int]] = set()

    def add(self, packet: Any) -> None:
        """Remember a packet."""
        key = _key(packet)
        if key[0] is None or not packet.size or key in self._known:
            return
        self.latest = key[0]
        self._known.add(key)
        self._order.append(key)
        if len(self._order) > _MAX_PACKETS:
            self._known.discard(self._order.popleft())

    def has(self, packet: Any) -> bool:
        """Return whether a packet was read before."""
        return _key(packet) in self._known

    def clear(self) -> None:
        """Forget everything."""
        self.latest = None
        self._order.clear()
        self._known.clear()


def _key(packet: Any) -> tuple[int | None, int]:
    return (packet.dts if packet.dts is not None else packet.pts, packet.size)
