"""One kind of stage: a thread with a name, a heartbeat and, if it came to that, a failure."""

from __future__ import annotations

import abc
import logging
import threading
import time
from collections.abc import Callable

from configs import CidcError

__all__ = ["Stage", "close_quietly"]

_log = logging.getLogger(__name__)
_LOOK_SECONDS = 0.1


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

    def join_while_moving(
        self,
        max_silence_seconds: float,
        has_failure: Callable[[], bool],
        abort: Callable[[], None],
    ) -> bool:
        """Wait for the thread as long as it gives signs of life; whether it has ended.

        Args:
            has_failure: whether a stage has failed, so that this one waits in vain.
            abort: gives up what waits, so that no stage waits in vain.
        """
        while not self.join(_LOOK_SECONDS) and self.silent_seconds < max_silence_seconds:
            if has_failure():
                abort()
        if self.is_alive:
            abort()
            _log.error("the thread %s hangs; what waits for it is lost", self.name)
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

    def _run(self) -> None:
        try:
            self.run()
        except Exception as error:  # the edge of the stage
            _log.exception("stage %s failed", self.name)
            self.failure = error


def close_quietly(close: Callable[[], object]) -> None:
    """Close something at the end of a run; a failure is logged and stops nothing else."""
    try:
        close()
    except CidcError as error:
        _log.warning("%s", error)
