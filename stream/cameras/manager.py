"""Cameras while the pipeline runs: list, add, change, pause, resume, remove. Changes are kept
before they take effect.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from configs import CameraError, ConfigError, StrictModel, check_tree, merged
from stream.cameras.config import CameraConfig, redact_url
from stream.cameras.overrides import CameraChanges
from stream.cameras.status import CameraStatus
from stream.cameras.supervisor import Fleet
from stream.config import check_room, completed
from stream.metrics import Metrics
from stream.types import BreakReason, StreamBreak

__all__ = ["CameraManager"]


class CameraManager:
    """The cameras of a running pipeline. Methods may be called from any thread; changes go one
    after the other.

    Args:
        most_views: slots of the ring.
        common: the sections `events` and `source` of all cameras, which complete those of single
            cameras.
        check: refuses a camera whose settings cannot be used, by a ConfigError.
        interrupt: tells the analysis, after everything it was given of a camera, that this was the
            last.
    """

    def __init__(
        self,
        fleet: Fleet,
        changes: CameraChanges,
        metrics: Metrics,
        *,
        most_views: int,
        common: Mapping[str, StrictModel],
        check: Callable[[CameraConfig], None],
        interrupt: Callable[[StreamBreak], None],
    ) -> None:
        self._fleet = fleet
        self._changes = changes
        self._metrics = metrics
        self._most_views = most_views
        self._common = common
        self._check = check
        self._interrupt = interrupt
        self._cameras: dict[str, CameraConfig] = {}
        self._paused: set[str] = set()
        self._unusable: set[str] = set()
        self._lock = threading.Lock()
        self._started = self._stopped = False

    def config(self, camera_id: str) -> CameraConfig | None:
        """A camera's settings; None if there is no such camera."""
        return self._cameras.get(camera_id)

    def load(self, cameras: Sequence[CameraConfig], unusable: Mapping[str, str]) -> None:
        """Know the cameras that there are from the start; `unusable` says of some why they
        cannot be started.
        """
        self._unusable = set(unusable)
        for camera in cameras:
            self._cameras[camera.id] = camera
            status = self._fleet.add(camera)
            if camera.id in unusable:
                status.set_state("ended", unusable[camera.id])
            if self._changes.is_paused(camera.id):
                self._paused.add(camera.id)
                status.set_state("ended", "paused")
            self._metrics.paused.labels(camera.id).set(camera.id in self._paused)

    def start(self) -> None:
        """Start all cameras, in parallel."""
        with self._lock:
            self._started = True
            for camera_id in self._cameras:
                if camera_id not in self._paused | self._unusable:
                    self._fleet.start(camera_id)

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
                and self._fleet.all_ended()
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
        """Every camera, in the order in which they came."""
        return [self._described(status) for status in self._fleet.statuses]

    def add(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Add and start a camera.

        Raises:
            CameraError: its settings are wrong, there is one of this name, or there is no room for
                it.
        """
        camera = self._checked(completed(fields, self._common))
        with self._lock:
            if camera.id in self._cameras:
                raise CameraError(
                    f"there is a camera {camera.id!r} already; change it, or choose another id",
                    "exists",
                )
            self._check_room(camera, self._cameras.values())
            self._keep(lambda: self._changes.note(camera.id, camera))
            self._cameras[camera.id] = camera
            self._fleet.add(camera)
            self._begin(camera.id)
        return self.describe(camera.id)

    def change(self, camera_id: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Change some settings of a camera, which then starts anew; those that are not named stay,
        at any depth.

        Raises:
            CameraError: there is no such camera, or the settings are wrong.
        """
        with self._lock:
            before = self._status(camera_id).camera
            if fields.get("id", camera_id) != camera_id:
                raise CameraError(
                    f"a camera keeps its id; add {fields['id']!r} and remove {camera_id!r}",
                    "invalid",
                )
            settings = before.model_dump(mode="json", exclude_none=True)
            for section in ("events", "source"):
                if section in fields and section not in settings:
                    settings[section] = self._common[section].model_dump(mode="json")
            camera = self._checked(merged(settings, fields))
            is_idle = camera_id in self._unusable or self._status(camera_id).state == "ended"
            if camera == before and not is_idle:
                return self.describe(camera_id)
            self._check_room(
                camera, (other for other in self._cameras.values() if other is not before)
            )
            self._keep(lambda: self._changes.note(camera_id, camera))
            self._end(camera_id, "changed")
            self._cameras[camera_id] = camera
            self._fleet.forget(camera_id)
            self._fleet.add(camera)
            self._begin(camera_id)
        return self.describe(camera_id)

    def pause(self, camera_id: str) -> dict[str, Any]:
        """Stop a camera and keep it; events that go on are ended.

        Raises:
            CameraError: there is no such camera.
        """
        with self._lock:
            self._status(camera_id)
            if camera_id not in self._paused:
                self._keep(lambda: self._changes.pause(camera_id, paused=True))
                self._paused.add(camera_id)
                self._metrics.paused.labels(camera_id).set(1)
                self._end(camera_id, "paused")
        return self.describe(camera_id)

    def resume(self, camera_id: str) -> dict[str, Any]:
        """Start a paused camera.

        Raises:
            CameraError: there is no such camera, or it cannot be started as it is.
        """
        with self._lock:
            camera = self._status(camera_id).camera
            if camera_id in self._paused:
                if camera_id in self._unusable:
                    self._checked(camera.model_dump(mode="json"))
                    self._check_room(
                        camera, (other for other in self._cameras.values() if other is not camera)
                    )
                self._keep(lambda: self._changes.pause(camera_id, paused=False))
                self._paused.discard(camera_id)
                self._begin(camera_id)
        return self.describe(camera_id)

    def remove(self, camera_id: str) -> None:
        """Stop a camera and forget it; its events stay.

        Raises:
            CameraError: there is no such camera.
        """
        with self._lock:
            self._status(camera_id)
            self._keep(lambda: self._changes.note(camera_id, None))
            del self._cameras[camera_id]
            self._end(camera_id, "removed")
            self._paused.discard(camera_id)
            self._unusable.discard(camera_id)
            self._fleet.forget(camera_id)

    def forget_counts(self, camera_id: str) -> bool:
        """Forget what was counted of a camera that is gone, unless another has come under its
        name; False while a change is being kept.
        """
        if not self._lock.acquire(blocking=False):
            return False
        try:
            if camera_id not in self._cameras:
                self._metrics.forget(camera_id)
            return True
        finally:
            self._lock.release()

    def _begin(self, camera_id: str) -> None:
        self._unusable.discard(camera_id)
        self._metrics.paused.labels(camera_id).set(camera_id in self._paused)
        if camera_id in self._paused:
            status = self._fleet.status(camera_id)
            assert status is not None
            status.set_state("ended", "paused")
        elif self._started:
            self._fleet.start(camera_id)

    def _end(self, camera_id: str, reason: BreakReason) -> None:
        self._fleet.halt(camera_id, reason)
        self._interrupt(StreamBreak(camera_id, reason))

    def _status(self, camera_id: str) -> CameraStatus:
        status = self._fleet.status(camera_id)
        if status is None:
            raise CameraError(f"there is no camera {camera_id!r}", "unknown")
        return status

    def _checked(self, fields: Mapping[str, Any]) -> CameraConfig:
        try:
            camera = check_tree(fields, CameraConfig, name="camera", strict=True)
            self._check(camera)
        except ConfigError as error:
            raise CameraError(str(error), "invalid") from None
        return camera

    def _check_room(self, camera: CameraConfig, others: Iterable[CameraConfig]) -> None:
        try:
            check_room(camera, others, self._most_views)
        except ConfigError as error:
            raise CameraError(str(error), "no_room") from None

    def _keep(self, change: Callable[[], None]) -> None:
        """Keep a change first: what cannot be kept does not happen."""
        if self._stopped:
            raise CameraError("the pipeline is stopping and takes no more changes", "stopping")
        try:
            change()
        except ConfigError as error:
            raise CameraError(str(error), "not_kept") from None

    def _described(self, status: CameraStatus) -> dict[str, Any]:
        camera = status.camera
        age = status.last_frame_age()
        settings = camera.model_dump(mode="json", exclude={"url"})
        return settings | {
            "url": redact_url(camera.url),
            "state": status.state,
            "detail": status.detail,
            "paused": camera.id in self._paused,
            "fps": round(status.fps(), 2),
            "last_frame_age_seconds": None if age is None else round(age, 3),
        }
