"""Limits on connections: slow and idle ones are closed, and the oldest when there are too many.

The limits of uvicorn itself do not suffice:

- `timeout_keep_alive` starts after the first answer, and every byte stops it. A client that
  connects and sends nothing, or a byte now and then, keeps its connection for ever.
- `h11_max_incomplete_event_size` bounds the bytes of a request that is not complete, not its time.
- `limit_concurrency` closes nothing. It answers 503 to whoever comes when there are too many
  connections, and so lets idle ones shut out the health probes.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

__all__ = ["MAX_REQUEST_SECONDS", "LimitedProtocol", "limited_to"]

# A request must be complete this long after the connection, or after its own first byte.
MAX_REQUEST_SECONDS = 10.0


class LimitedProtocol(H11Protocol):
    """One connection, which has to send a whole request in time.

    The oldest connection makes room for a new one, so health probes always get in: they are
    answered at once, while a crowd of others only waits.
    """

    max_connections = 64

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self._connected_at = self.loop.time()
        self._deadline: asyncio.TimerHandle | None = None
        # The request that was the last when the deadline was set: the next one is waited for.
        self._deadline_after: RequestResponseCycle | None = None

    def connection_made(self, transport: Any) -> None:
        """Wait for a first request, and close the oldest connections if there are too many."""
        super().connection_made(transport)
        self._expect_request()
        self._make_room()

    def data_received(self, data: bytes) -> None:
        """Take bytes of a request; the first of them starts its time."""
        last = self.cycle
        super().data_received(data)
        is_answered = last is None or last.response_complete
        if self.cycle is last and is_answered:
            self._expect_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline."""
        super().connection_lost(exc)
        if self._deadline is not None:
            self._deadline.cancel()

    def _expect_request(self) -> None:
        if self._deadline is not None:
            if self._deadline_after is self.cycle:
                return  # further bytes of the same request do not prolong its time
            self._deadline.cancel()
        self._deadline_after = self.cycle
        self._deadline = self.loop.call_later(MAX_REQUEST_SECONDS, self._close_if_late, self.cycle)

    def _close_if_late(self, last: RequestResponseCycle | None) -> None:
        if self.cycle is last:
            self.transport.close()

    def _make_room(self) -> None:
        open_ones = [
            each
            for each in self.connections
            if isinstance(each, LimitedProtocol) and not each.transport.is_closing()
        ]
        open_ones.sort(key=lambda each: each._connected_at)
        too_many = max(0, len(open_ones) - self.max_connections)
        for oldest in open_ones[:too_many]:
            oldest.transport.abort()


def limited_to(max_connections: int) -> type[LimitedProtocol]:
    """Return the protocol for a server with at most this many connections."""
    return type("LimitedProtocol", (LimitedProtocol,), {"max_connections": max_connections})
