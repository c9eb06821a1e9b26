"""Who runs which camera: one supervised worker thread each, replaced when it hangs inside a library call."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from stream.frames import CameraState
from stream.metrics import Metrics
from stream.source import CameraConfig, SourceConfig

__all__ = ["CameraStatus", "Fleet"]

_log = logging.getLogger(__name__)
_FPS_SECONDS = 3.0


class CameraStatus:
    """What is known about one camera, for people and metrics. Any thread may read it."""

    def __init__(self, camera: CameraConfig, metrics: Metrics) -> None:
        self.camera, self._metrics = camera, metrics
        self.state: CameraState = "connecting"
        self.detail = ""
        self.touched_monotonic = time.monotonic()
        self.generation = 0
        self._frames: deque[float] = deque(maxlen=1000)
        metrics.set_camera_state(camera.id, "connecting")

    def set_state(self, state: CameraState, detail: str = "") -> None:
        """Enter a state; `detail` is one line for people."""
        self.touched_monotonic = time.monotonic()
        if state == self.state and detail == self.detail:
            return
        if detail and state != "ended":
            _log.warning("camera %s is %s: %s", self.camera.id, state, detail)
        elif state == "ended":
            _log.info("camera %s ended: %s", self.camera.id, detail)
        self.state, self.detail = state, detail
        self._metrics.set_camera_state(self.camera.id, state)

    def touch(self) -> None:
        """A sign of life."""
        self.touched_monotonic = time.monotonic()

    def frame_decoded(self, wall_seconds: float) -> None:
        """Count a decoded frame."""
        now = time.monotonic()
        self.touched_monotonic = now
        self._frames.append(now)
        self._metrics.decoded.labels(self.camera.id).inc()
        self._metrics.last_frame.labels(self.camera.id).set(wall_seconds)
        self._metrics.camera_fps.labels(self.camera.id).set(self.fps())

    def fps(self) -> float:
        """Decoded frames per second over the last seconds."""
        since = time.monotonic() - _FPS_SECONDS
        recent = [moment for moment in list(self._frames) if moment >= since]
        if len(recent) < 2:
            return 0.0
        return (len(recent) - 1) / max(recent[-1] - recent[0], 1e-6)


class _Worker:
    """One thread that runs a camera; `stop` asks it to end."""

    def __init__(self, camera_id: str, run: Callable[[threading.Event], None]) -> None:
        self.stop = threading.Event()
        self.thread = threading.Thread(target=run, args=(self.stop,), name=f"camera-{camera_id}", daemon=True)
        self.thread.start()


class Fleet:
    """Starts one worker per camera and watches over them.

    Args:
        run: runs one camera until it ends or its stop event is set, and keeps its status up to date.
    """

    def __init__(
        self, cameras: Sequence[CameraConfig], config: SourceConfig, metrics: Metrics,
        run: Callable[[CameraStatus, threading.Event], None],
    ) -> None:  # fmt: skip
        self._run, self._metrics = run, metrics
        # Anything a library call may legitimately take, and as much again.
        self._patience = 2 * (config.open_timeout_seconds + 2 * config.read_timeout_seconds)
        self.statuses = {camera.id: CameraStatus(camera, metrics) for camera in cameras}
        self._workers: dict[str, _Worker] = {}

    def start(self) -> None:
        """Start all cameras in parallel."""
        for camera_id in self.statuses:
            self._start_worker(camera_id)

    def supervise(self) -> None:
        """Replace workers that have made no sign of life although nobody blocks them. Call this regularly."""
        for camera_id, status in self.statuses.items():
            worker = self._workers[camera_id]
            silent = time.monotonic() - status.touched_monotonic
            waiting = status.state in ("ended", "blocked", "offline", "stalled")
            if worker.thread.is_alive() and not waiting and silent > self._patience and not self._paced(status):
                worker.stop.set()  # should the call ever return, the worker ends there
                status.set_state("stalled", f"no sign of life for {silent:.0f} s; its reader was abandoned and replaced")
                self._metrics.reconnects.labels(camera_id).inc()
                self._start_worker(camera_id)

    def all_ended(self) -> bool:
        """Whether no camera will deliver anything more."""
        return all(not worker.thread.is_alive() for worker in self._workers.values())

    def stop(self, timeout_seconds: float = 5.0) -> None:
        """Ask all workers to end, and wait for them."""
        for worker in self._workers.values():
            worker.stop.set()
        deadline = time.monotonic() + timeout_seconds
        for worker in self._workers.values():
            worker.thread.join(max(0.0, deadline - time.monotonic()))

    def _start_worker(self, camera_id: str) -> None:
        status = self.statuses[camera_id]
        status.generation += 1
        self._workers[camera_id] = _Worker(camera_id, lambda stop: self._run(status, stop))

    @staticmethod
    def _paced(status: CameraStatus) -> bool:
        """A file played in real time may hold frames far apart."""
        return status.camera.is_file and status.camera.pace == "realtime" and status.state == "running"
