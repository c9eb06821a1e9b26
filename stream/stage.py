"""One kind of stage: a thread with a name, a heartbeat and, if it came to that, a failure."""

from __future__ import annotations

import abc
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator

from configs import CidcError

__all__ = ["Stage", "close_quietly"]

_log = logging.getLogger(__name__)


class Stage(abc.ABC):
    """A part of the pipeline that works in a thread of its own.

    A stage ends by itself when its input is closed and used up. `stop` asks it to end at once.
    An exception that leaves `run` is logged and kept in `failure`; nothing is raised in another
    thread. Whoever wires the stages looks at `failure` and at `silent_seconds`.

    Args:
        name: of the stage and its thread, in log lines and health checks.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.failure: Exception | None = None
        self.stopping = threading.Event()
        self._heartbeat_monotonic = time.monotonic()
        self._thread: threading.Thread | None = None
        self._started_monotonic: float | None = None
        self._waited_seconds = 0.0
        self._waiting_since: float | None = None

    @abc.abstractmethod
    def run(self) -> None:
        """Work until the input is over or `stopping` is set, calling `beat` now and then."""

    def start(self) -> None:
        """Start the thread.

        Raises:
            RuntimeError: it was started before, or the system has no thread left.
        """
        if self._thread is not None:
            raise RuntimeError(f"stage {self.name} was started before")
        self.beat()
        self._started_monotonic = time.monotonic()
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ask the stage to end at once, whatever still waits for it."""
        self.stopping.set()

    def join(self, timeout_seconds: float) -> bool:
        """Wait for the thread; whether it has ended, or never ran."""
        if self._thread is not None and self._thread.is_alive():
            self._thread.join(timeout_seconds)
        return not self.is_alive

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def silent_seconds(self) -> float:
        """Seconds since the last heartbeat."""
        return time.monotonic() - self._heartbeat_monotonic

    def beat(self) -> None:
        """Give a sign of life."""
        self._heartbeat_monotonic = time.monotonic()

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Inside the block, the stage waits for others: the time does not count as busy."""
        self._waiting_since = since = time.monotonic()
        try:
            yield
        finally:
            self._waiting_since = None
            self._waited_seconds += time.monotonic() - since

    def busy_seconds(self) -> float:
        """Seconds since the start for which the stage did not wait for others."""
        if self._started_monotonic is None:
            return 0.0
        now = time.monotonic()
        since = self._waiting_since
        waited = self._waited_seconds + (0.0 if since is None else now - since)
        return max(0.0, now - self._started_monotonic - waited)

    def _run(self) -> None:
        try:
            self.run()
        except Exception as error:  # the edge of the stage
            _log.exception("stage %s failed", self.name)
            self.failure = error
        self._waiting_since = time.monotonic()  # it works no more


def close_quietly(close: Callable[[], object]) -> None:
    """Close something at the end of a run; a failure is logged and stops nothing else."""
    try:
        close()
    except CidcError as error:
        _log.warning("%s", error)
