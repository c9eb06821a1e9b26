"""Decide from missing acknowledgements that the broker is away or the producer is broken."""

from __future__ import annotations

import dataclasses
import time

__all__ = ["ProducerWatch", "PublisherTimings"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublisherTimings:
    """The timeouts of a publisher, in seconds.

    Args:
        away_seconds: time without an acknowledgement after which the broker counts as away.
        suspect_seconds: time without an acknowledgement after which a new client checks whether
            the broker answers, since the producer may use an old address, password or topic. The
            check is repeated after the same time.
        grace_seconds: time that the producer has to deliver a record after a new client could
            connect; then the producer is replaced.
        retry_seconds: pause after a failure, before the next attempt.
    """

    away_seconds: float = 5.0
    suspect_seconds: float = 60.0
    grace_seconds: float = 10.0
    retry_seconds: float = 1.0


class ProducerWatch:
    """Measures how long a producer with pending records has received no acknowledgement."""

    def __init__(self, timings: PublisherTimings) -> None:
        self._timings = timings
        self.is_blocked = False  # whether the producer accepts no records
        self.is_suspect = False  # whether a new client could connect but the producer cannot send
        self._progress_at = time.monotonic()
        self._check_at = 0.0

    def note_progress(self) -> None:
        """Restart all timeouts, after an acknowledgement or when the first record is pending."""
        self.is_blocked = False
        self.is_suspect = False
        self._progress_at = time.monotonic()
        self._check_at = self._progress_at + self._timings.suspect_seconds

    @property
    def is_silent(self) -> bool:
        """Whether the time without an acknowledgement exceeds `away_seconds`."""
        return time.monotonic() - self._progress_at > self._timings.away_seconds

    @property
    def is_due(self) -> bool:
        """Whether it is time to check the producer, or to replace a suspect one."""
        return time.monotonic() >= self._check_at

    def note_check(self, *, broker_answers: bool) -> None:
        """Mark the producer as suspect if the broker answered a new client; schedule a check."""
        self.is_suspect = broker_answers
        wait = self._timings.grace_seconds if broker_answers else self._timings.suspect_seconds
        self._check_at = time.monotonic() + wait
