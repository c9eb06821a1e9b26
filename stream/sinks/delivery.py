"""How the events of one sink are delivered, and how a delivery says that it failed."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from stream.events.event import StoredEvent

__all__ = ["Delivery", "Gone", "Refused", "StaysConnected", "Undelivered"]


class Delivery(Protocol):
    """Delivers events to one receiver. Only the thread of its sink calls `deliver`.

    Attributes:
        name: of the sink.
        address: of the receiver, without credentials, for log lines and `/health`.
        max_batch: maximum number of events that one call of `deliver` gets.
    """

    name: str
    address: str
    max_batch: int

    def deliver(self, events: Sequence[StoredEvent], stopping: threading.Event) -> None:
        """Return once the receiver has taken all events, in their order.

        Args:
            events: from 1 to `max_batch` events.
            stopping: set when the time for the last events is over; return or raise soon then.

        Raises:
            Undelivered: the receiver has not taken all of them.
        """

    def close(self) -> None:
        """Close the connection; called once, after the last call of `deliver` has returned."""


@runtime_checkable
class StaysConnected(Protocol):
    """A delivery whose connection is worth something even without events."""

    def keep_connected(self, stopping: threading.Event) -> None:
        """Connect if there is no connection; called now and then while no events wait.

        Raises:
            Undelivered: the receiver cannot be reached, or refuses the connection.
        """


class Undelivered(Exception):  # noqa: N818 (it says what became of the events)
    """A receiver has not taken all events; those left are delivered again.

    Args:
        reason: one word, a label of metrics, such as `timeout`.
        message: what happened, in one line, without credentials.
        delivered: number of leading events that the receiver has taken.
        retry_after_seconds: when the receiver asks for the next attempt; None: it did not say.
    """

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        delivered: int = 0,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.delivered = delivered
        self.retry_after_seconds = retry_after_seconds


class Refused(Undelivered):
    """The receiver refuses an event, now and later; the event becomes a dead letter.

    If the refused batch has several events, they are delivered one by one to find the event.
    """


class Gone(Undelivered):
    """The receiver wants no more events; the sink ends until the next start of the pipeline."""
