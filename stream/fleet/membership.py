"""The thread that keeps this worker in its group, and runs the cameras of the worker's partitions.

Kafka decides which worker has which partition, and moves them one by one. This thread never elects
or leases anything.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable

from configs import CidcError
from stream.events.kafka import kafka
from stream.fleet.holdings import Holdings
from stream.fleet.protocols import GroupCalls
from stream.stage import Stage

__all__ = ["Membership"]

_log = logging.getLogger(__name__)
_PAUSE_SECONDS = 1.0
# After so many sessions of trouble the connections are made again.
_MAX_FAILING_SESSIONS = 3


class Membership(Stage):
    """Keeps this worker in its group and its cameras running.

    Args:
        calls: Kafka, as this thread uses it.
        session_seconds: after this long without a sign of life the group takes the partitions away.
        redact: takes passwords out of texts of the broker.

    Attributes:
        problem: what keeps this worker from running its cameras, in one line; None if nothing does.
    """

    def __init__(
        self,
        calls: GroupCalls,
        holdings: Holdings,
        *,
        session_seconds: float,
        redact: Callable[[object], str] = str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__("cameras")
        self._calls = calls
        self._holdings = holdings
        self._session_seconds = session_seconds
        self._redact = redact
        self._clock = clock
        self._failing_since: float | None = None
        self.problem: str | None = "the group of workers was not joined yet"

    def run(self) -> None:
        """Work until `stop`; then leave the group."""
        try:
            while not self.stopping.is_set():
                self.beat()
                self.step()
        finally:
            with contextlib.suppress(kafka.errors.KafkaError, OSError):
                self._calls.close()

    def step(self) -> None:
        """Do one round: the group, the records, the claims. Never raises."""
        try:
            self._holdings.expire()
            if (problem := self._calls.prepare()) is not None:
                self._note_problem(problem)
                self.stopping.wait(_PAUSE_SECONDS)
                return
            self._holdings.share(self._calls.assigned())
            self._holdings.work()
            self._holdings.expire()
        except Exception as error:  # the edge of the stage: the broker may come back
            self._note_failure(error)
            if not isinstance(error, kafka.errors.KafkaTimeoutError):  # that has waited already
                self.stopping.wait(_PAUSE_SECONDS)
            return
        self._failing_since = None
        idle = None if self._holdings.phases() else self._calls.why_idle()
        self._note_problem(idle or self._holdings.problem())

    def _note_failure(self, error: Exception) -> None:
        now = self._clock()
        if self._failing_since is None:
            self._failing_since = now
            if not isinstance(error, (kafka.errors.KafkaError, CidcError)):
                _log.exception("sharing the cameras failed; trying again")
        self._note_problem(f"the broker of the cameras: {type(error).__name__}: {error}")
        if now - self._failing_since > _MAX_FAILING_SESSIONS * self._session_seconds:
            self._failing_since = None
            self._holdings.clear()
            with contextlib.suppress(Exception):  # nothing of the old connections is needed
                self._calls.close()

    def _note_problem(self, problem: str | None) -> None:
        problem = None if problem is None else self._redact(problem)
        if problem is not None and problem != self.problem:
            _log.warning("cameras of the group: %s", problem)
        elif problem is None and self.problem is not None:
            _log.info("cameras of the group: all partitions of this worker run")
        self.problem = problem
