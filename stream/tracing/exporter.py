"""The tracing thread: spans wait in a bounded queue and go to the collector in batches."""

from __future__ import annotations

import collections
import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from stream.stage import Stage
from stream.tracing.span import Span

__all__ = ["CollectorError", "SpanExporter", "SpanSender"]

_log = logging.getLogger(__name__)
_MAX_BATCH = 512
_MAX_ATTEMPTS = 5
_MAX_PAUSE_SECONDS = 30.0
_LAST_PAUSE_SECONDS = 0.1  # at the end of a run, which does not wait for long


class CollectorError(Exception):
    """The collector did not take spans.

    Args:
        message: what happened, in one line, without the values of headers.
        may_retry: whether the same spans may be sent again.
        retry_after_seconds: when the collector asks for that; None: it did not say.
    """

    def __init__(
        self, message: str, *, may_retry: bool, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(message)
        self.may_retry = may_retry
        self.retry_after_seconds = retry_after_seconds


class SpanSender(Protocol):
    """The connection to a collector; only the tracing thread calls `send`."""

    def send(self, spans: Sequence[Span]) -> int:
        """Send spans; return how many of them the collector refused.

        Raises:
            CollectorError: the collector has taken none.
        """

    def close(self) -> None:
        """Close the connection; any thread may call it."""


class SpanExporter(Stage):
    """Sends spans to a collector; nobody waits for it.

    Args:
        address: of the collector, for log lines.
        max_spans: spans that may wait; more are dropped.
        on_dropped: told how many spans were dropped, and why: `queue_full`, `refused` by the
            collector, `failed` to reach it, or left at `shutdown`.
        pause_seconds: before the second attempt; it doubles with each further one.
        gather_seconds: maximum time that spans wait for others of their batch.
    """

    def __init__(
        self,
        sender: SpanSender,
        *,
        address: str,
        max_spans: int,
        on_dropped: Callable[[int, str], None],
        pause_seconds: float = 1.0,
        gather_seconds: float = 1.0,
    ) -> None:
        super().__init__("tracing")
        self._sender = sender
        self._address = address
        self._max_spans = max_spans
        self._on_dropped = on_dropped
        self._pause_seconds = pause_seconds
        self._gather_seconds = gather_seconds
        self._condition = threading.Condition()
        self._waiting: collections.deque[Span] = collections.deque()
        self._sending = 0
        self._deadline = float("inf")  # set at the end: no attempt starts after it
        self._is_away = False

    def put(self, spans: Sequence[Span]) -> None:
        """Queue spans, or drop those for which there is no room; return at once."""
        with self._condition:
            room = max(0, self._max_spans - len(self._waiting) - self._sending)
            self._waiting.extend(spans[:room])
            if len(self._waiting) >= _MAX_BATCH:
                self._condition.notify()
        if dropped := len(spans) - min(room, len(spans)):
            self._on_dropped(dropped, "queue_full")

    def close(self, timeout_seconds: float) -> None:
        """Send what waits, then end the thread; the rest is dropped after the timeout."""
        self._deadline = time.monotonic() + timeout_seconds
        self.stop()
        with self._condition:
            self._condition.notify()
        self.join(timeout_seconds)
        self._sender.close()
        with self._condition:
            left = len(self._waiting) + (self._sending if self.is_alive else 0)
            self._waiting.clear()
        if left:
            self._on_dropped(left, "shutdown")
            _log.warning("%d spans were not sent to the collector at %s", left, self._address)

    def run(self) -> None:
        """Send batches until `close`, and then what is left."""
        while not self.stopping.is_set():
            self.beat()
            with self._condition, self.waiting():
                self._condition.wait_for(self._has_batch, timeout=self._gather_seconds)
            self._send_next()
        while self._waiting and time.monotonic() < self._deadline:
            self._send_next()

    def _has_batch(self) -> bool:
        return self.stopping.is_set() or len(self._waiting) >= _MAX_BATCH

    def _send_next(self) -> None:
        with self._condition:
            batch = [self._waiting.popleft() for _ in range(min(_MAX_BATCH, len(self._waiting)))]
            self._sending = len(batch)
        if not batch:
            return
        try:
            refused = self._try(batch)
        except CollectorError as error:
            self._note_away(error)
            self._drop(len(batch), "failed" if error.may_retry else "refused")
        except Exception as error:  # the thread must survive whatever a collector answers
            self._note_away(error)
            self._drop(len(batch), "failed")
        else:
            if self._is_away:
                _log.warning("The collector at %s takes spans again", self._address)
            self._is_away = False
            self._drop(refused, "refused")
        finally:
            self._sending = 0

    def _try(self, batch: Sequence[Span]) -> int:
        """Send a batch, several times if need be; return how many spans were refused."""
        pause = self._pause_seconds
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            try:
                return self._sender.send(batch)
            except CollectorError as error:
                seconds = max(pause, error.retry_after_seconds or 0.0)
                seconds = min(seconds, _MAX_PAUSE_SECONDS) * random.uniform(0.8, 1.2)
                is_over = time.monotonic() + seconds >= self._deadline
                if not error.may_retry or attempt == _MAX_ATTEMPTS or is_over:
                    raise
                self._note_away(error)
            if self.stopping.wait(seconds):
                time.sleep(min(_LAST_PAUSE_SECONDS, seconds))
            pause *= 2
        raise AssertionError("the last attempt returns or raises")

    def _drop(self, spans: int, reason: str) -> None:
        if spans:
            self._on_dropped(spans, reason)

    def _note_away(self, error: Exception) -> None:
        if not self._is_away:
            _log.warning(
                "The collector at %s does not take spans: %s; they are dropped while this lasts",
                self._address,
                error,
            )
        self._is_away = True
