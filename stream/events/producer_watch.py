"""How long a producer may get nothing through before the broker counts as away, or it as broken."""

from __future__ import annotations

import dataclasses
import time

__all__ = ["ProducerWatch", "PublisherTimings"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublisherTimings:
    """When a publisher draws its conclusions.

    Args:
        away_seconds: without an acknowledgement for so long, the broker counts as away.
        suspect_seconds: without one for so long, the producer may know an old address, password or
            topic: whether a new client gets through is tried, and again after as long.
        grace_seconds: if a new client gets through, the producer has so long to do the same before
            it is replaced.
        retry_seconds: pause after a failure, before the next attempt.
    """

    away_seconds: float = 5.0
    suspect_seconds: float = 60.0
    grace_seconds: float = 10.0
    retry_seconds: float = 1.0


class ProducerWatch:
    """Knows since when a producer that has something to do has got nothing through."""

    def __init__(self, timings: PublisherTimings) -> None:
        self._timings = timings
        self.is_blocked = False  # the producer does not even take a record
        self.is_suspect = False  # it gets nothing through, though a new client did
        self._progress_at = time.monotonic()
        self._check_at = 0.0

    def note_progress(self) -> None:
        """Start to wait: something was acknowledged, or there was nothing to wait for till now."""
        self.is_blocked = False
        self.is_suspect = False
        self._progress_at = time.monotonic()
        self._check_at = self._progress_at + self._timings.suspect_seconds

    @property
    def is_silent(self) -> bool:
        """Whether the broker has been silent for so long that it counts as away."""
        return time.monotonic() - self._progress_at > self._timings.away_seconds

    @property
    def is_due(self) -> bool:
        """Whether it is time to check the producer, or to replace a suspect one."""
        return time.monotonic() >= self._check_at

    def note_check(self, *, broker_answers: bool) -> None:
        """Suspect the producer if a new client got through; otherwise check again later."""
        self.is_suspect = broker_answers
        wait = self._timings.grace_seconds if broker_answers else self._timings.suspect_seconds
        self._check_at = time.monotonic() + wait
