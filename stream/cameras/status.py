"""What is known about one camera: its state, its frame rate, its signs of life."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from stream.cameras.config import CameraConfig
from stream.metrics import Metrics
from stream.types import Blindness, CameraSnapshot, CameraState, EndReason

__all__ = ["CameraStatus"]

_log = logging.getLogger(__name__)
_FPS_SECONDS = 3.0
_FPS_PATIENCE_SECONDS = 5.0  # a camera without a frame for longer has no frame rate


class CameraStatus:
    """What is known about one camera, for people and metrics. Any thread may read it.

    Args:
        on_change: told every change of the state or its detail.
        epoch: grows each time that a worker takes the camera over; None unless workers share it.

    Attributes:
        is_recording: whether the video ends, as far as it is known.
        read_timeout_seconds: how long its source may wait for a packet; 0: as the settings say.
    """

    def __init__(
        self,
        camera: CameraConfig,
        metrics: Metrics,
        on_change: Callable[[CameraState, str], None] = lambda state, detail: None,
        *,
        epoch: int | None = None,
    ) -> None:
        self.camera = camera
        self.epoch = epoch
        self._on_change = on_change
        self.state: CameraState = "connecting"
        self.detail = ""
        self.end_reason: EndReason | None = None
        self.blind: Blindness | None = None
        self.is_recording = camera.is_file
        self.read_timeout_seconds = 0.0
        self._metrics = metrics
        self._received_monotonic = self._decoded_monotonic = time.monotonic()
        self._last_frame_monotonic: float | None = None
        self._counted_monotonic = float("-inf")
        self._link: tuple[CameraState, str] = ("connecting", "")
        self._reported: tuple[CameraState, str] | None = None
        self._blocked = False
        self._lock = threading.Lock()
        self._frames_monotonic: deque[float] = deque(maxlen=1000)
        metrics.set_camera_state(camera.id, "connecting")

    def set_state(self, state: CameraState, detail: str = "") -> None:
        """Enter a state of the connection; `detail` is one line for people."""
        with self._lock:
            self.end_reason = None
            self._link = (state, detail)
            self._show()

    def end(self, reason: EndReason, detail: str | None = None) -> None:
        """Enter the state `ended`; `detail` says more than the reason's own words."""
        with self._lock:
            self.end_reason = reason
            self._link = ("ended", detail or reason.value)
            self._show()

    def set_blocked(self, blocked: bool) -> None:
        """Note that the stages behind the camera are slow, or no longer are."""
        with self._lock:
            self._blocked = blocked
            self.touch(received=False)
            self._show()

    def set_source(self, *, is_recording: bool, read_timeout_seconds: float) -> None:
        """Note what the address turned out to be, and how long a read may take."""
        self.is_recording = is_recording
        self.read_timeout_seconds = read_timeout_seconds

    def set_blind(self, blind: Blindness | None) -> None:
        """Note that the camera runs and gives no clips, or that this is over."""
        before = self.blind
        if blind == before:
            return
        self.blind = blind
        about = {"camera": self.camera.id}
        if before is not None:
            self._metrics.camera_blind.remove_by_labels({"camera": self.camera.id})
        if blind is not None:
            self._metrics.camera_blind.labels(self.camera.id, blind.reason.value).set(1)
            seconds = time.monotonic() - blind.since_monotonic
            _log.warning(
                "camera %s is %s, but has given no clip for %.0f s (%s): %s",
                self.camera.id,
                self.state,
                seconds,
                blind.reason.value,
                blind.detail,
                extra=about,
            )
        elif self.state in ("running", "blocked"):
            _log.info("camera %s gives clips again", self.camera.id, extra=about)

    def silent_seconds(self, resting: bool) -> float:
        """Seconds for which receiver or decoder gave no sign of life without a good reason.

        Args:
            resting: whether the camera waits on purpose, for a reconnect or a file's next packet.
        """
        now = time.monotonic()
        decoder_waits = self._blocked or (resting and self.is_recording)
        decoding = 0.0 if decoder_waits else now - self._decoded_monotonic
        receiving = 0.0 if resting or self.is_recording else now - self._received_monotonic
        return max(decoding, receiving)

    def touch(self, *, received: bool = True, decoded: bool = True) -> None:
        """Give a sign of life of the receiver, the decoder, or both."""
        now = time.monotonic()
        if received:
            self._received_monotonic = now
        if decoded:
            self._decoded_monotonic = now

    def count_decoded(self, arrived_monotonic: float) -> None:
        """Count a decoded frame that arrived at this time."""
        now = time.monotonic()
        self._last_frame_monotonic = arrived_monotonic
        self._counted_monotonic = now
        self._frames_monotonic.append(arrived_monotonic)
        self._metrics.decoded.labels(self.camera.id).inc()
        arrived_at = time.time() - (now - arrived_monotonic)
        self._metrics.last_frame.labels(self.camera.id).set(arrived_at)

    def last_frame_age(self) -> float | None:
        """Seconds since the newest decoded frame arrived, by our clock; None before the first."""
        if self._last_frame_monotonic is None:
            return None
        return max(0.0, time.monotonic() - self._last_frame_monotonic)

    def fps(self) -> float:
        """Frames per second over the last seconds, by their arrival.

        Groups of pictures are decoded together, so the newest frame may have arrived a while ago.
        """
        moments = list(self._frames_monotonic)
        if not moments or time.monotonic() - self._counted_monotonic > _FPS_PATIENCE_SECONDS:
            return 0.0
        recent = [moment for moment in moments if moment >= moments[-1] - _FPS_SECONDS]
        if len(recent) < 2:
            return 0.0
        return (len(recent) - 1) / max(recent[-1] - recent[0], 1e-6)

    def snapshot(self) -> CameraSnapshot:
        """The status at this moment."""
        return CameraSnapshot(
            self.camera.id,
            self.state,
            self.detail,
            self.fps(),
            self.last_frame_age(),
            self.blind,
            self.end_reason is EndReason.FAILED,
        )

    def _show(self) -> None:
        state, detail = self._link
        if self._blocked and state == "running":
            state = "blocked"
        if (state, detail) == (self.state, self.detail):
            return
        if state != self.state:
            self._metrics.set_camera_state(self.camera.id, state)
        self.state = state
        self.detail = detail
        self._log_change()
        self._on_change(state, detail)

    def _log_change(self) -> None:
        """Log each trouble once, however often the camera is tried again, and its end."""
        about = {"camera": self.camera.id}
        if self.end_reason is not None:
            level = logging.INFO if self._ended_as_wanted() else logging.WARNING
            _log.log(level, "camera %s ended: %s", self.camera.id, self.detail, extra=about)
        elif self.detail and (self.state, self.detail) != self._reported:
            self._reported = (self.state, self.detail)
            _log.warning(
                "camera %s is %s: %s", self.camera.id, self.state, self.detail, extra=about
            )
        elif self.state == "running" and self._reported is not None:
            self._reported = None
            _log.info("camera %s is back", self.camera.id, extra=about)

    def _ended_as_wanted(self) -> bool:
        return self.end_reason is not None and self.end_reason.is_wanted
