"""Runs cameras: supervised threads for each, replaced when they hang inside a library call."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence

from stream.cameras.blindness import BlindnessWatch
from stream.cameras.config import CameraConfig
from stream.cameras.status import CameraStatus
from stream.cameras.worker_threads import WorkerThreads
from stream.ingest.config import SourceConfig
from stream.metrics import Metrics
from stream.types import BreakReason, CameraState, EndReason, StreamBreak

__all__ = ["Supervisor"]

# With so many hanging workers of one camera, it waits until one of them returns.
_MAX_ABANDONED = 3
# With so many workers of all cameras that were told to end and have not ended, no other is started.
# Each of them holds up to two threads and some descriptors, and the usual limit is 1024 descriptors
# for a process. Healthy workers return within seconds, so that an ordinary fleet may be changed in
# one go.
_MAX_ABANDONED_IN_ALL = 64
# A camera whose thread failed or could not be started is started again after this long.
_PAUSE_SECONDS = 10.0
# How a camera's time line is interrupted when its threads are asked to end.
_BREAK_OF_END = {
    EndReason.REMOVED: BreakReason.REMOVED,
    EndReason.CHANGED: BreakReason.CHANGED,
    EndReason.PAUSED: BreakReason.PAUSED,
    EndReason.MOVED: BreakReason.MOVED,
}


class Supervisor:
    """Runs cameras and watches over them. Methods may be called from any thread.

    Args:
        config: how cameras are opened that have no settings of their own.
        run: runs one camera until it ends or its worker's `stop` is set, in a thread of the worker.
        on_break: told, after everything that a worker has delivered, that no more comes of it.
        on_state: told every change of a camera's state.
        blind_after_seconds: a camera that runs and gives no clip for this long is marked.
    """

    def __init__(
        self,
        config: SourceConfig,
        metrics: Metrics,
        run: Callable[[WorkerThreads], None],
        on_break: Callable[[StreamBreak], object] = lambda broken: None,
        on_state: Callable[[CameraState, str], None] = lambda state, detail: None,
        *,
        blind_after_seconds: float = 30.0,
    ) -> None:
        self._config = config
        self._metrics = metrics
        self._run = run
        self._on_break = on_break
        self._on_state = on_state
        self._blindness = BlindnessWatch(metrics, blind_after_seconds)
        self._generations = itertools.count(1)
        self._newest: dict[str, int] = {}  # the generation of each camera
        self._statuses: dict[str, CameraStatus] = {}
        self._workers: dict[str, WorkerThreads] = {}
        self._abandoned: list[WorkerThreads] = []
        # Cameras that cannot be started now, and when to try again (monotonic).
        self._postponed: dict[str, float] = {}
        self._supervised_monotonic = time.monotonic()
        self._lock = threading.RLock()

    @property
    def statuses(self) -> Sequence[CameraStatus]:
        """All cameras, in the order in which they were added."""
        with self._lock:
            return tuple(self._statuses.values())

    def status(self, camera_id: str) -> CameraStatus | None:
        """One camera; None if there is none of this name."""
        with self._lock:
            return self._statuses.get(camera_id)

    def add(self, camera: CameraConfig, *, epoch: int | None = None) -> CameraStatus:
        """Add a camera; `start` runs it. Its events carry the epoch."""
        with self._lock:
            self._next_generation(camera.id)
            status = CameraStatus(camera, self._metrics, self._on_state, epoch=epoch)
            self._statuses[camera.id] = status
            return status

    def start(self, camera_id: str) -> None:
        """Run a camera that does not run.

        It starts later if too many workers hang, or if there are no threads left.
        """
        with self._lock:
            status = self._statuses[camera_id]
            if (reason := self._why_waiting(camera_id)) is not None:
                self._postpone(status, 0.0, reason)
                return
            self._postponed.pop(camera_id, None)
            status.touch()
            status.set_state("connecting")
            worker = WorkerThreads(status, self._next_generation(camera_id))
            try:
                worker.spawn(lambda: self._run(worker), "camera")
            except RuntimeError as error:  # the system has no thread left
                self._postpone(status, _PAUSE_SECONDS, f"cannot be started: {error}")
            else:
                self._workers[camera_id] = worker

    def why_full(self) -> str | None:
        """Why no reader of any camera can be started now; None if one can."""
        with self._lock:
            hanging = sum(worker.is_alive() for worker in self._abandoned)
        if hanging < _MAX_ABANDONED_IN_ALL:
            return None
        return (
            f"{hanging} readers of stopped or hanging cameras have not returned from library calls;"
            f" below {_MAX_ABANDONED_IN_ALL} cameras are started again"
        )

    def halt(self, camera_id: str, reason: EndReason) -> None:
        """Ask a camera's threads to end, at once; what hangs is abandoned and counted."""
        with self._lock:
            self._postponed.pop(camera_id, None)
            worker = self._workers.pop(camera_id, None)
            if worker is not None:
                worker.stop.set()
                self._abandoned.append(worker)
            self._statuses[camera_id].end(reason)
            self._interrupt(camera_id, _BREAK_OF_END[reason])

    def forget(self, camera_id: str) -> None:
        """Forget a camera that was halted."""
        with self._lock:
            del self._statuses[camera_id]
            del self._newest[camera_id]

    def supervise(self) -> None:
        """Replace workers that hang, and start again what failed. Call this regularly."""
        with self._lock:
            self._collect_abandoned()
            pause = time.monotonic() - self._supervised_monotonic
            self._supervised_monotonic = time.monotonic()
            for worker in list(self._workers.values()):
                self._watch(worker, pause)
            for camera_id, earliest in list(self._postponed.items()):
                if time.monotonic() >= earliest:
                    self.start(camera_id)
            self._blindness.update(self.statuses)

    def all_ended(self) -> bool:
        """Whether no camera will deliver anything more."""
        with self._lock:
            running = (
                worker.is_alive() or not worker.status.is_recording
                for worker in self._workers.values()
            )
            return not self._postponed and not any(running)

    def stop(self, timeout_seconds: float = 5.0) -> None:
        """Ask all workers to end, and wait for them."""
        with self._lock:
            workers = list(self._workers.values())
            for worker in workers:
                worker.stop.set()
        deadline = time.monotonic() + timeout_seconds
        for worker in workers:
            worker.join(max(0.0, deadline - time.monotonic()))
        for status in self.statuses:
            if status.state != "ended":
                status.end(EndReason.STOPPED)

    # The methods below are called with the lock held.

    def _next_generation(self, camera_id: str) -> int:
        generation = self._newest[camera_id] = next(self._generations)
        self._metrics.note_generation(camera_id, generation)
        return generation

    def _interrupt(self, camera_id: str, reason: BreakReason) -> None:
        self._on_break(StreamBreak(camera_id, reason, self._newest[camera_id]))

    def _why_waiting(self, camera_id: str) -> str | None:
        """Why a camera cannot be started now; None if it can."""
        hanging = sum(
            worker.camera_id == camera_id and worker.is_alive() for worker in self._abandoned
        )
        if hanging < _MAX_ABANDONED:
            return self.why_full()
        return f"{hanging} readers hang in library calls; waiting for one of them to return"

    def _collect_abandoned(self) -> None:
        for worker in [worker for worker in self._abandoned if not worker.is_alive()]:
            self._abandoned.remove(worker)
            if worker.camera_id not in self._statuses:
                # It may have counted something after its camera was removed.
                self._metrics.forget(worker.camera_id, worker.generation)
        self._metrics.readers_abandoned.set(len(self._abandoned))

    def _watch(self, worker: WorkerThreads, pause_seconds: float) -> None:
        status = worker.status
        patience = self._patience(status)
        if pause_seconds > patience / 2:  # the whole process stood still: nobody could give a sign
            status.touch()
        silent = status.silent_seconds(worker.resting)
        if worker.is_alive() and silent > patience:
            self._replace(worker, silent)
        elif not worker.is_alive() and not status.is_recording:
            # Cameras do not end by themselves: this one failed.
            del self._workers[worker.camera_id]
            self._postpone(status, _PAUSE_SECONDS, f"{status.detail}; it is started again")

    def _patience(self, status: CameraStatus) -> float:
        """Seconds: twice as long as library calls may legitimately take."""
        config = status.camera.source or self._config
        reading = max(config.read_timeout_seconds, status.read_timeout_seconds)
        return 2 * (config.open_timeout_seconds + 2 * reading)

    def _postpone(self, status: CameraStatus, seconds: float, detail: str) -> None:
        self._postponed[status.camera.id] = time.monotonic() + seconds
        status.set_state("offline", detail)

    def _replace(self, worker: WorkerThreads, silent_seconds: float) -> None:
        camera = worker.status.camera
        worker.stop.set()  # if the call ever returns, the worker ends there
        self._abandoned.append(worker)
        del self._workers[camera.id]
        trouble = f"no sign of life for {silent_seconds:.0f} s"
        if worker.status.is_recording and not camera.loop:
            worker.status.end(EndReason.FAILED, f"{trouble}; a file is not restarted")
            self._interrupt(camera.id, BreakReason.ENDED)
            return
        worker.status.set_state("stalled", f"{trouble}; its reader was abandoned and replaced")
        self._interrupt(camera.id, BreakReason.STALLED)
        self._metrics.reconnects.labels(camera.id).inc()
        self.start(camera.id)
