"""Cameras while the pipeline runs: list, add, change, pause, resume, remove.

A change is saved before it takes effect.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from configs import (
    CameraError,
    ConfigError,
    StrictModel,
    check_tree,
    merged,
    with_current_names,
)
from stream.cameras.checks import SHARED_SECTIONS, check_room, with_shared_settings
from stream.cameras.config import CameraConfig
from stream.cameras.description import describe_camera
from stream.cameras.not_taken import NotTaken
from stream.cameras.overrides import CameraOverrides
from stream.cameras.status import CameraStatus
from stream.cameras.supervisor import Supervisor
from stream.metrics import Metrics
from stream.types import EndReason

__all__ = ["CameraManager"]


class CameraManager:
    """The cameras of a running pipeline. Methods may be called from any thread, one at a time.

    `not_taken` has those that cannot be taken, although they should be analysed.

    Args:
        max_views: slots of the ring.
        shared: the sections `events` and `source` of all cameras, which complete those of single
            cameras.
        check: raises a ConfigError for a camera that cannot be used as it is described over HTTP.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        overrides: CameraOverrides,
        metrics: Metrics,
        *,
        max_views: int,
        shared: Mapping[str, StrictModel],
        check: Callable[[CameraConfig], None],
    ) -> None:
        self._supervisor = supervisor
        self._overrides = overrides
        self._metrics = metrics
        self._max_views = max_views
        self._shared = shared
        self._check = check
        self.not_taken = NotTaken(metrics)
        self._cameras: dict[str, CameraConfig] = {}
        self._paused: set[str] = set()
        self._unusable: set[str] = set()
        self._lock = threading.Lock()
        self._started = False
        self._stopped = False

    def load(self, cameras: Sequence[CameraConfig], unusable: Mapping[str, str]) -> None:
        """Add the cameras that exist from the start.

        Args:
            unusable: why some of them cannot be started, by their ids.
        """
        self._unusable = set(unusable)
        for camera in cameras:
            self._cameras[camera.id] = camera
            status = self._supervisor.add(camera)
            if camera.id in unusable:
                status.end(EndReason.FAILED, unusable[camera.id])
            if self._overrides.is_paused(camera.id):
                self._paused.add(camera.id)
                status.end(EndReason.PAUSED)
            self._metrics.paused.labels(camera.id).set(camera.id in self._paused)

    def start(self) -> None:
        """Start all cameras, in parallel."""
        with self._lock:
            self._started = True
            for camera_id in self._cameras:
                if camera_id not in self._paused | self._unusable:
                    self._supervisor.start(camera_id)

    def all_ended(self) -> bool:
        """Whether there are cameras and none of them will deliver anything more.

        Not while one is being changed, is paused, or cannot be started as it is: somebody may
        change that.
        """
        if not self._lock.acquire(blocking=False):
            return False
        try:
            return (
                bool(self._cameras)
                and not self._paused | self._unusable
                and self._supervisor.all_ended()
            )
        finally:
            self._lock.release()

    def stop(self) -> None:
        """Take no more changes."""
        with self._lock:
            self._stopped = True

    def describe(self, camera_id: str) -> dict[str, Any]:
        """One camera for people and programs; its address without secrets.

        Raises:
            CameraError: there is no such camera.
        """
        return self._described(self._status(camera_id))

    def describe_all(self) -> list[dict[str, Any]]:
        """Every camera, in the order in which they were added."""
        return [self._described(status) for status in self._supervisor.statuses]

    def add(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Add and start a camera.

        Raises:
            CameraError: its settings are wrong, there is one of this name, there is no room for
                it, or too many readers hang.
        """
        camera = self._checked(self._completed(fields))
        with self._lock:
            if camera.id in self._cameras:
                raise CameraError(
                    f"there is a camera {camera.id!r} already; change it, or choose another id",
                    "exists",
                )
            self._check_room(camera, self._cameras.values())
            self._check_readers()
            self._save(lambda: self._overrides.note(camera.id, camera))
            self._cameras[camera.id] = camera
            self._supervisor.add(camera)
            self._start(camera.id)
        return self.describe(camera.id)

    def change(self, camera_id: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Change some settings of a camera and restart it; settings not named stay, at any depth.

        Raises:
            CameraError: there is no such camera, the settings are wrong, or too many readers hang.
        """
        with self._lock:
            before = self._status(camera_id).camera
            fields = self._with_current_names(fields)
            if fields.get("id", camera_id) != camera_id:
                raise CameraError(
                    f"a camera keeps its id; add {fields['id']!r} and remove {camera_id!r}",
                    "invalid",
                )
            settings = before.model_dump(mode="json", exclude_none=True)
            for section in SHARED_SECTIONS:
                if section in fields and section not in settings:
                    settings[section] = self._shared[section].model_dump(mode="json")
            camera = self._checked(merged(settings, fields))
            is_idle = camera_id in self._unusable or self._status(camera_id).state == "ended"
            if camera == before and not is_idle:
                return self.describe(camera_id)
            self._check_room(
                camera, (other for other in self._cameras.values() if other is not before)
            )
            if camera_id not in self._paused:
                self._check_readers()
            self._save(lambda: self._overrides.note(camera_id, camera))
            self._supervisor.halt(camera_id, EndReason.CHANGED)
            self._cameras[camera_id] = camera
            self._supervisor.forget(camera_id)
            self._supervisor.add(camera)
            self._start(camera_id)
        return self.describe(camera_id)

    def pause(self, camera_id: str) -> dict[str, Any]:
        """Stop a camera and keep it; its open events end.

        Raises:
            CameraError: there is no such camera.
        """
        with self._lock:
            self._status(camera_id)
            if camera_id not in self._paused:
                self._save(lambda: self._overrides.pause(camera_id, paused=True))
                self._paused.add(camera_id)
                self._metrics.paused.labels(camera_id).set(1)
                self._supervisor.halt(camera_id, EndReason.PAUSED)
        return self.describe(camera_id)

    def resume(self, camera_id: str) -> dict[str, Any]:
        """Start a paused camera.

        Raises:
            CameraError: there is no such camera, it cannot be started as it is, or too many readers
                hang.
        """
        with self._lock:
            camera = self._status(camera_id).camera
            if camera_id in self._paused:
                self._checked(camera.model_dump(mode="json"))
                if camera_id in self._unusable:
                    self._check_room(
                        camera, (other for other in self._cameras.values() if other is not camera)
                    )
                self._check_readers()
                self._save(lambda: self._overrides.pause(camera_id, paused=False))
                self._paused.discard(camera_id)
                self._start(camera_id)
        return self.describe(camera_id)

    def remove(self, camera_id: str) -> None:
        """Stop a camera and forget it; its events stay.

        Raises:
            CameraError: there is no such camera.
        """
        with self._lock:
            self._status(camera_id)
            self._save(lambda: self._overrides.note(camera_id, None))
            del self._cameras[camera_id]
            self._supervisor.halt(camera_id, EndReason.REMOVED)
            self._paused.discard(camera_id)
            self._unusable.discard(camera_id)
            self.not_taken.forget(camera_id)
            self._supervisor.forget(camera_id)

    def _start(self, camera_id: str) -> None:
        self._unusable.discard(camera_id)
        self.not_taken.forget(camera_id)
        self._metrics.paused.labels(camera_id).set(camera_id in self._paused)
        if camera_id in self._paused:
            status = self._supervisor.status(camera_id)
            assert status is not None
            status.end(EndReason.PAUSED)
        elif self._started:
            self._supervisor.start(camera_id)

    def _with_current_names(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            current: Mapping[str, Any] = with_current_names(fields, CameraConfig)
        except ConfigError as error:
            raise CameraError(f"camera: {error}", "invalid") from None
        return current

    def _status(self, camera_id: str) -> CameraStatus:
        status = self._supervisor.status(camera_id)
        if status is None:
            raise CameraError(f"there is no camera {camera_id!r}", "unknown")
        return status

    def _completed(self, fields: Mapping[str, Any]) -> Any:
        try:
            return with_shared_settings(fields, self._shared)
        except ConfigError as error:
            raise CameraError(f"camera: {error}", "invalid") from None

    def _checked(self, fields: Mapping[str, Any]) -> CameraConfig:
        try:
            camera = check_tree(fields, CameraConfig, name="camera", strict=True)
            self._check(camera)
        except ConfigError as error:
            raise CameraError(str(error), "invalid") from None
        return camera

    def _check_room(self, camera: CameraConfig, others: Iterable[CameraConfig]) -> None:
        try:
            check_room(camera, others, self._max_views)
        except ConfigError as error:
            raise CameraError(str(error), "no_room") from None

    def _check_readers(self) -> None:
        reason = self._supervisor.why_full()
        if self._started and reason is not None:
            raise CameraError(f"{reason}; try again later", "hanging")

    def _save(self, store: Callable[[], None]) -> None:
        """Store a change by calling `store`; the caller applies the change afterwards.

        Raises:
            CameraError: the change cannot be stored, so it must not be applied.
        """
        if self._stopped:
            raise CameraError("the pipeline is stopping and takes no more changes", "stopping")
        try:
            store()
        except ConfigError as error:
            raise CameraError(str(error), "not_kept") from None

    def _described(self, status: CameraStatus) -> dict[str, Any]:
        return describe_camera(status, paused=status.camera.id in self._paused)
