"""Cameras that several workers share: a manager whose cameras come and go as partitions move."""

from __future__ import annotations

from configs import CameraError, ConfigError
from stream.cameras.config import CameraConfig
from stream.cameras.manager import CameraManager
from stream.types import EndReason

__all__ = ["SharedCameraManager"]


class SharedCameraManager(CameraManager):
    """The cameras that this worker runs now. Methods may be called from any thread."""

    def take(self, camera: CameraConfig, *, epoch: int) -> None:
        """Run a camera; one of this id that runs already is replaced.

        Raises:
            CameraError: it cannot be run here: `invalid`, `no_room`, `hanging` or `stopping`.
        """
        with self._lock:
            if self._stopped:
                raise CameraError("the pipeline is stopping and takes no more cameras", "stopping")
            before = self._cameras.get(camera.id)
            try:
                self._check(camera)
            except ConfigError as error:
                raise CameraError(str(error), "invalid") from None
            others = [other for other in self._cameras.values() if other is not before]
            self._check_room(camera, others)
            self._check_readers()
            if before is not None:
                self._forget(camera.id, EndReason.CHANGED)
            self._cameras[camera.id] = camera
            self._supervisor.add(camera, epoch=epoch)
            self._start(camera.id)

    def give_up(self, camera_id: str, reason: EndReason) -> bool:
        """Stop a camera at once and forget it; whether it ran here."""
        with self._lock:
            if camera_id not in self._cameras:
                return False
            self._forget(camera_id, reason)
        return True

    def all_ended(self) -> bool:
        """Never: more cameras may come."""
        return False

    def _forget(self, camera_id: str, reason: EndReason) -> None:
        del self._cameras[camera_id]
        self._supervisor.halt(camera_id, reason)
        self._supervisor.forget(camera_id)
