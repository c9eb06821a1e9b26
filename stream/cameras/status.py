"""What is known about one camera: its state, its frame rate, its signs of life."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque

from stream.cameras.config import CameraConfig
from stream.metrics import Metrics
from stream.types import CameraState

__all__ = ["CameraStatus"]

_log = logging.getLogger(__name__)
_FPS_SECONDS = 3.0
# Ends that somebody wanted.
_ORDERLY = ("end of file", "stopped", "removed", "changed", "paused")


class CameraStatus:
    """What is known about one camera, for people and metrics. Any thread may read it."""

    def __init__(self, camera: CameraConfig, metrics: Metrics) -> None:
        self.camera = camera
        self._metrics = metrics
        self.state: CameraState = "connecting"
        self.detail = ""
        self.received_monotonic = self.decoded_monotonic = time.monotonic()
        self.last_frame_monotonic: float | None = None
        self._link: tuple[CameraState, str] = ("connecting", "")
        self._complaint: tuple[CameraState, str] | None = None
        self._blocked = False
        self._lock = threading.Lock()
        self._frames: deque[float] = deque(maxlen=1000)
        metrics.set_camera_state(camera.id, "connecting")

    def set_state(self, state: CameraState, detail: str = "") -> None:
        """The connection enters a state; `detail` is one line for people."""
        with self._lock:
            self._link = (state, detail)
            self._show()

    def set_blocked(self, blocked: bool) -> None:
        """The stages behind the camera are slow, or no longer are."""
        with self._lock:
            self._blocked = blocked
            self.touch(received=False)
            self._show()

    def silent_seconds(self, resting: bool) -> float:
        """For how long one of its sides has made no sign of life, though nobody blocks it and it
        does not rest.
        """
        now = time.monotonic()
        decoding = (
            0.0
            if self._blocked or (resting and self.camera.is_file)
            else now - self.decoded_monotonic
        )
        receiving = 0.0 if resting or self.camera.is_file else now - self.received_monotonic
        return max(decoding, receiving)

    def touch(self, *, received: bool = True, decoded: bool = True) -> None:
        """A sign of life of the side that receives, the side that decodes, or both."""
        now = time.monotonic()
        if received:
            self.received_monotonic = now
        if decoded:
            self.decoded_monotonic = now

    def frame_decoded(self, arrived_monotonic: float) -> None:
        """Count a decoded frame that came in at this time."""
        now = time.monotonic()
        self.last_frame_monotonic = arrived_monotonic
        self._frames.append(now)
        self._metrics.decoded.labels(self.camera.id).inc()
        self._metrics.last_frame.labels(self.camera.id).set(time.time() - (now - arrived_monotonic))

    def last_frame_age(self) -> float | None:
        """Seconds since the newest decoded frame came in, by our own clock; None before the
        first.
        """
        return (
            None
            if self.last_frame_monotonic is None
            else max(0.0, time.monotonic() - self.last_frame_monotonic)
        )

    def fps(self) -> float:
        """Decoded frames per second over the last seconds."""
        since = time.monotonic() - _FPS_SECONDS
        recent = [moment for moment in list(self._frames) if moment >= since]
        if len(recent) < 2:
            return 0.0
        return (len(recent) - 1) / max(recent[-1] - recent[0], 1e-6)

    def _show(self) -> None:
        state, detail = self._link
        if self._blocked and state == "running":
            state = "blocked"
        if (state, detail) == (self.state, self.detail):
            return
        changed = state != self.state
        self.state = state
        self.detail = detail
        if changed:
            self._metrics.set_camera_state(self.camera.id, state)
        self._log_change(state, detail)

    def _log_change(self, state: CameraState, detail: str) -> None:
        """Each trouble once, however often the camera is tried again, and its end."""
        about = {"camera": self.camera.id}
        if state == "ended":
            level = logging.INFO if detail in _ORDERLY else logging.WARNING
            _log.log(level, "camera %s ended: %s", self.camera.id, detail, extra=about)
        elif detail and (state, detail) != self._complaint:
            self._complaint = (state, detail)
            _log.warning("camera %s is %s: %s", self.camera.id, state, detail, extra=about)
        elif state == "running" and self._complaint is not None:
            self._complaint = None
            _log.info("camera %s is back", self.camera.id, extra=about)
