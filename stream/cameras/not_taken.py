"""Cameras that a pipeline should analyse and cannot take, and why."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence
from typing import get_args

from stream.metrics import Metrics
from stream.worker_metrics import NotTakenReason

__all__ = ["NotTaken", "NotTakenCamera"]


@dataclasses.dataclass(frozen=True)
class NotTakenCamera:
    """A camera that is not analysed, with the reason and one line for people."""

    camera: str
    reason: NotTakenReason
    detail: str


class NotTaken:
    """The cameras that cannot be taken now, for `/health` and the metrics.

    Any thread may call its methods.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._gauge = metrics.worker.not_taken
        self._cameras: dict[str, NotTakenCamera] = {}
        self._lock = threading.Lock()
        self._show()

    @property
    def cameras(self) -> Sequence[NotTakenCamera]:
        """The cameras, in the order in which they were refused."""
        with self._lock:
            return tuple(self._cameras.values())

    def note(self, camera_id: str, reason: NotTakenReason, detail: str) -> None:
        """Note that a camera cannot be taken now."""
        with self._lock:
            self._cameras[camera_id] = NotTakenCamera(camera_id, reason, detail)
            self._show()

    def forget(self, camera_id: str) -> None:
        """Note that a camera was taken, or that nobody expects it any more."""
        with self._lock:
            self._cameras.pop(camera_id, None)
            self._show()

    def _show(self) -> None:
        reasons = [camera.reason for camera in self._cameras.values()]
        for reason in get_args(NotTakenReason):
            self._gauge.labels(reason).set(reasons.count(reason))
