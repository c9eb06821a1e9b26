"""Limits on connections: close slow and idle ones, and the oldest if there are too many.

The limits of uvicorn are not sufficient:

- `timeout_keep_alive` starts after the first answer, and every received byte cancels it. A client
  that sends nothing after connecting, or one byte at a time, keeps its connection for ever.
- `h11_max_incomplete_event_size` limits the size of an incomplete request, but not how long it may
  take.
- `limit_concurrency` closes no connection. If there are too many, it answers new requests with 503,
  so idle connections would make the health probes fail.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

__all__ = ["MAX_REQUEST_SECONDS", "LimitedProtocol", "limited_to"]

# Maximum time until a request is complete, counted from the start of the connection for its first
# request, and from the first byte for later requests.
MAX_REQUEST_SECONDS = 10.0


class LimitedProtocol(H11Protocol):
    """One connection, which must send each request completely within `MAX_REQUEST_SECONDS`.

    If there are too many connections, the oldest one is closed and the new one is accepted. Health
    probes can therefore always connect, and they are answered at once.
    """

    max_connections = 64

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self._connected_at = self.loop.time()
        self._deadline: asyncio.TimerHandle | None = None
        # The latest request when the deadline was set; the deadline applies to the next request.
        self._deadline_after: RequestResponseCycle | None = None

    def connection_made(self, transport: Any) -> None:
        """Start the deadline of the first request; close the oldest connections if too many."""
        super().connection_made(transport)
        self._expect_request()
        self._abort_oldest()

    def data_received(self, data: bytes) -> None:
        """Process received bytes; the first byte of a request starts its deadline."""
        last = self.cycle
        super().data_received(data)
        is_answered = last is None or last.response_complete
        if self.cycle is last and is_answered:
            self._expect_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the deadline."""
        super().connection_lost(exc)
        if self._deadline is not None:
            self._deadline.cancel()

    def _expect_request(self) -> None:
        if self._deadline is not None:
            if self._deadline_after is self.cycle:
                return  # more bytes of the same request do not extend its deadline
            self._deadline.cancel()
        self._deadline_after = self.cycle
        self._deadline = self.loop.call_later(MAX_REQUEST_SECONDS, self._close_if_late, self.cycle)

    def _close_if_late(self, last: RequestResponseCycle | None) -> None:
        if self.cycle is last:
            self.transport.close()

    def _abort_oldest(self) -> None:
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
    """Return a protocol class for a server with at most `max_connections` connections."""
    return type("LimitedProtocol", (LimitedProtocol,), {"max_connections": max_connections})
