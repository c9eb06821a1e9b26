"""Whether the pipeline has started, is ready and is alive, for the probes of an orchestrator."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

from stream.stage import Stage

__all__ = ["HANGS_SECONDS", "Health"]

# A stage without a heartbeat for this long hangs. The slowest batch takes a few seconds.
HANGS_SECONDS = 60.0


class Health:
    """The three health checks. Each returns None, or in one line what is wrong.

    A camera that fails fails no check: restarting the pipeline would not help it.

    Attributes:
        started: set once the cameras run.
        draining: set once they were asked to end.
    """

    def __init__(self) -> None:
        self.started = threading.Event()
        self.draining = threading.Event()
        self._stages: Sequence[Stage] = ()
        self._storing: Stage | None = None
        self._is_recovering: Callable[[], bool] = bool

    def watch(
        self, stages: Sequence[Stage], storing: Stage, is_recovering: Callable[[], bool]
    ) -> None:
        """Watch these stages from now on.

        Args:
            stages: those whose hanging is a reason to restart the process.
            storing: the stage that stores events. It may wait for its disk: restarting the process
                would lose what it holds. So it makes the pipeline not ready, but not dead.
            is_recovering: whether the event store is busy repairing itself.
        """
        self._stages = stages
        self._storing = storing
        self._is_recovering = is_recovering

    @property
    def checks(self) -> Mapping[str, Callable[[], str | None]]:
        """The checks by the names of their paths."""
        return {"startup": self.not_started, "ready": self.not_ready, "live": self.not_alive}

    def not_started(self) -> str | None:
        """Whether the network has been loaded and warmed up."""
        return None if self.started.is_set() else "still loading and warming up the network"

    def not_ready(self) -> str | None:
        """Whether video is analysed and events are stored."""
        if self._is_passing():
            return "not analysing: starting or stopping"
        silent = 0.0 if self._storing is None else self._storing.silent_seconds
        if silent > HANGS_SECONDS and not self._is_recovering():
            return (
                f"no event could be stored for {silent:.0f} s: the disk does not answer; events"
                " wait in memory"
            )
        return self.not_alive()

    def not_alive(self) -> str | None:
        """Whether every stage runs; None while starting or stopping, which takes its time."""
        if self._is_passing():
            return None
        watched = self._stages if self._storing is None else (*self._stages, self._storing)
        for stage in watched:
            if not stage.is_alive:
                return f"the thread {stage.name} has ended"
        for stage in self._stages:
            if stage.silent_seconds > HANGS_SECONDS:
                return f"the thread {stage.name} has not moved for {stage.silent_seconds:.0f} s"
        return None

    def _is_passing(self) -> bool:
        return not self.started.is_set() or self.draining.is_set()
