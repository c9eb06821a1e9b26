"""Who runs which camera: supervised threads for each, replaced when they hang inside a library
call, given back when a camera goes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from stream.cameras.config import CameraConfig
from stream.cameras.status import CameraStatus
from stream.ingest.config import SourceConfig
from stream.metrics import Metrics
from stream.types import StreamBreak

__all__ = ["Fleet", "Worker"]
# When so many readers of one camera have been given up and have not ended, it waits until one of
# them does.
_MOST_ABANDONED = 3
# A camera whose thread could not be started, or failed, is left alone for this long.
_PAUSE_SECONDS = 10.0


class Worker:
    """The threads that run one camera; `stop` asks them to end."""

    def __init__(self, camera_id: str) -> None:
        self.camera_id = camera_id
        self.stop = threading.Event()
        self.resting = False  # between two connections, or until a file's next packet is due
        self._threads: list[threading.Thread] = []

    def spawn(self, run: Callable[[], None], name: str) -> None:
        """Run something in a thread of this worker."""
        thread = threading.Thread(target=run, name=f"{name}-{self.camera_id}", daemon=True)
        thread.start()
        self._threads.append(thread)

    def is_alive(self) -> bool:
        """Whether any of the threads runs."""
        return any(thread.is_alive() for thread in self._threads)

    def join(self, timeout_seconds: float) -> bool:
        """Wait for the threads; whether all have ended."""
        deadline = time.monotonic() + timeout_seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not self.is_alive()


class Fleet:
    """Runs cameras and watches over them. Methods may be called from any thread.

    Args:
        run: runs one camera until it ends or its worker's stop event is set, and keeps its status
            up to date.
        on_break: told, after everything that a reader that was given up had delivered, that no more
            comes of it, and why.
    """

    def __init__(
        self,
        config: SourceConfig,
        metrics: Metrics,
        run: Callable[[CameraStatus, Worker], None],
        on_break: Callable[[StreamBreak], None] = lambda broken: None,
    ) -> None:
        self._run = run
        self._metrics = metrics
        self._on_break = on_break
        self._config = config
        self._statuses: dict[str, CameraStatus] = {}
        self._workers: dict[str, Worker] = {}
        self._abandoned: list[Worker] = []
        # cameras that cannot be started now, and when to try again (monotonic)
        self._held_back: dict[str, float] = {}
        self._supervised = time.monotonic()
        self._lock = threading.RLock()

    @property
    def statuses(self) -> Sequence[CameraStatus]:
        """All cameras, in the order in which they came."""
        with self._lock:
            return tuple(self._statuses.values())

    def status(self, camera_id: str) -> CameraStatus | None:
        """One camera; None if there is none of this name."""
        with self._lock:
            return self._statuses.get(camera_id)

    def add(self, camera: CameraConfig) -> CameraStatus:
        """Know a camera; `start` runs it."""
        with self._lock:
            status = self._statuses[camera.id] = CameraStatus(camera, self._metrics)
            return status

    def start(self, camera_id: str) -> None:
        """Run a camera that does not run; later, if too many readers of it hang or there are no
        threads left.
        """
        with self._lock:
            status = self._statuses[camera_id]
            hanging = sum(
                worker.camera_id == camera_id and worker.is_alive() for worker in self._abandoned
            )
            if hanging >= _MOST_ABANDONED:
                self._hold_back(
                    status,
                    0.0,
                    f"{hanging} readers hang in library calls; waiting for one of them to return",
                )
                return
            self._held_back.pop(camera_id, None)
            status.touch()
            status.set_state("connecting")
            worker = Worker(camera_id)
            try:
                worker.spawn(lambda: self._run(status, worker), "camera")
            except RuntimeError as error:  # the system gives no more threads
                self._hold_back(status, _PAUSE_SECONDS, f"cannot be started: {error}")
            else:
                self._workers[camera_id] = worker

    def halt(self, camera_id: str, detail: str) -> None:
        """Ask a camera's threads to end, at once; what hangs is left to itself and counted."""
        with self._lock:
            self._held_back.pop(camera_id, None)
            worker = self._workers.pop(camera_id, None)
            if worker is not None:
                worker.stop.set()
                self._abandoned.append(worker)
            self._statuses[camera_id].set_state("ended", detail)

    def forget(self, camera_id: str) -> None:
        """Know a camera that was halted no longer."""
        with self._lock:
            del self._statuses[camera_id]

    def supervise(self) -> None:
        """Replace workers that have made no sign of life although nobody blocks them. Call this
        regularly.
        """
        with self._lock:
            for worker in [worker for worker in self._abandoned if not worker.is_alive()]:
                self._abandoned.remove(worker)
                if worker.camera_id not in self._statuses:
                    # what it counted after its camera was gone
                    self._metrics.forget(worker.camera_id)
            self._metrics.readers_abandoned.set(len(self._abandoned))
            slept = time.monotonic() - self._supervised
            self._supervised = time.monotonic()
            for camera_id, worker in list(self._workers.items()):
                status = self._statuses[camera_id]
                patience = self._patience(status.camera)
                if slept > patience / 2:  # the whole process stood still: nobody could make a sign
                    status.touch()
                silent = status.silent_seconds(worker.resting)
                if worker.is_alive() and silent > patience:
                    self._replace(status, worker, silent)
                elif not worker.is_alive() and not status.camera.is_file:
                    # cameras do not end by themselves: it failed
                    del self._workers[camera_id]
                    self._hold_back(status, _PAUSE_SECONDS, f"{status.detail}; it is started again")
            for camera_id, earliest in list(self._held_back.items()):
                if time.monotonic() >= earliest:
                    self.start(camera_id)

    def all_ended(self) -> bool:
        """Whether no camera will deliver anything more."""
        with self._lock:
            running = (
                worker.is_alive() or not self._statuses[camera_id].camera.is_file
                for camera_id, worker in self._workers.items()
            )
            return not self._held_back and not any(running)

    def stop(self, timeout_seconds: float = 5.0) -> None:
        """Ask all workers to end, and wait for them."""
        with self._lock:
            workers = list(self._workers.values())
            for worker in workers:
                worker.stop.set()
        deadline = time.monotonic() + timeout_seconds
        for worker in workers:
            worker.join(max(0.0, deadline - time.monotonic()))

    def _patience(self, camera: CameraConfig) -> float:
        """Anything a library call may legitimately take, and as much again."""
        config = camera.source or self._config
        return 2 * (config.open_timeout_seconds + 2 * config.read_timeout_seconds)

    def _hold_back(self, status: CameraStatus, seconds: float, detail: str) -> None:
        self._held_back[status.camera.id] = time.monotonic() + seconds
        status.set_state("offline", detail)

    def _replace(self, status: CameraStatus, worker: Worker, silent: float) -> None:
        worker.stop.set()  # should the call ever return, the worker ends there
        self._abandoned.append(worker)
        del self._workers[status.camera.id]
        if status.camera.is_file and not status.camera.loop:
            status.set_state(
                "ended", f"no sign of life for {silent:.0f} s; a file is not begun again"
            )
            self._on_break(StreamBreak(status.camera.id, "ended"))
            return
        status.set_state(
            "stalled", f"no sign of life for {silent:.0f} s; its reader was abandoned and replaced"
        )
        self._on_break(StreamBreak(status.camera.id, "stalled"))
        self._metrics.reconnects.labels(status.camera.id).inc()
        self.start(status.camera.id)
