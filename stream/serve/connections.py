"""Limits on connections: end slow and idle ones, and the oldest if there are too many.

The limits of uvicorn are not sufficient:

- `timeout_keep_alive` starts after the first answer, and every received byte cancels it. A client
  that sends nothing after connecting, or one byte at a time, keeps its connection for ever.
- `h11_max_incomplete_event_size` limits the size of an incomplete request, but not how long it may
  take.
- No setting limits how long a client takes to read its answer. Closing waits until the client has
  read what was written, so a client that never reads keeps its connection for ever.
- `limit_concurrency` closes no connection. If there are too many, it answers new requests with 503,
  so idle connections would make the health probes fail.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

__all__ = ["MAX_ANSWER_SECONDS", "MAX_REQUEST_SECONDS", "LimitedProtocol", "limited_to"]

# Maximum time until a request is complete, counted from the start of the connection for its first
# request, and from the first byte for later requests.
MAX_REQUEST_SECONDS = 10.0

# Maximum time for which written bytes wait until the client reads them. Metrics are written in one
# piece, pictures in pieces of 64 KiB: a client that reads a few kilobytes per second is in time.
MAX_ANSWER_SECONDS = 30.0


class LimitedProtocol(H11Protocol):
    """One connection, which must send each request completely within `MAX_REQUEST_SECONDS`.

    It must read what is written to it within `MAX_ANSWER_SECONDS`, or it is cut off. If there are
    too many connections, the oldest one is closed and the new one is accepted. Health probes can
    therefore always connect, and they are answered at once.
    """

    max_connections = 64

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self._connected_at = self.loop.time()
        self._is_aborted = False
        self._answer_deadline: asyncio.TimerHandle | None = None
        self._deadline: asyncio.TimerHandle | None = None
        # The latest request when the deadline was set; the deadline applies to the next request.
        self._deadline_after: RequestResponseCycle | None = None

    def connection_made(self, transport: Any) -> None:
        """Start the deadline of the first request; close the oldest connections if too many."""
        super().connection_made(transport)
        # `pause_writing` is called as soon as anything waits for the client, and `resume_writing`
        # once nothing does.
        transport.set_write_buffer_limits(high=0)
        self._expect_request()
        self._abort_oldest()

    def data_received(self, data: bytes) -> None:
        """Process received bytes; the first byte of a request starts its deadline."""
        last = self.cycle
        super().data_received(data)
        is_answered = last is None or last.response_complete
        if self.cycle is last and is_answered:
            self._expect_request()

    def pause_writing(self) -> None:
        """Start the deadline of the answer, because the client does not read it at once."""
        super().pause_writing()
        self._cancel_answer_deadline()
        self._answer_deadline = self.loop.call_later(MAX_ANSWER_SECONDS, self._abort)

    def resume_writing(self) -> None:
        """Cancel the deadline of the answer, because the client has read it."""
        super().resume_writing()
        self._cancel_answer_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the deadlines."""
        super().connection_lost(exc)
        self._cancel_answer_deadline()
        if self._deadline is not None:
            self._deadline.cancel()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP and end the connection; a request under way is given up."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()  # the answer is being sent, or was sent
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True  # its own answer would come after this one
            self.cycle.message_event.set()
        body = json.dumps({"error": msg}).encode()
        headers = [
            *self.server_state.default_headers,
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        answer = h11.Response(status_code=400, headers=headers, reason=b"Bad Request")
        for event in (answer, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event))
        self.transport.close()

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
        # Those that are closing count too: they wait until their clients have read the answer.
        open_ones = [
            each
            for each in self.connections
            if isinstance(each, LimitedProtocol) and not each._is_aborted
        ]
        open_ones.sort(key=lambda each: each._connected_at)
        too_many = max(0, len(open_ones) - self.max_connections)
        for oldest in open_ones[:too_many]:
            oldest._abort()

    def _abort(self) -> None:
        self._is_aborted = True
        self.transport.abort()

    def _cancel_answer_deadline(self) -> None:
        if self._answer_deadline is not None:
            self._answer_deadline.cancel()


def limited_to(max_connections: int) -> type[LimitedProtocol]:
    """Return a protocol class for a server with at most `max_connections` connections."""
    return type("LimitedProtocol", (LimitedProtocol,), {"max_connections": max_connections})
