"""Starts and stops the cameras of partitions, and names those that this worker cannot run."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from configs import CameraError, ConfigError
from stream.cameras.config import CameraConfig
from stream.fleet.records import CameraRecord, Tombstone
from stream.types import EndReason
from stream.worker_metrics import NotTakenReason

__all__ = ["WorkerCameras"]

_log = logging.getLogger(__name__)
_RETRY_SECONDS = 5.0
# The reasons of what a runner raises, by its kind; all others are about the camera's settings.
_REASONS: dict[str, NotTakenReason] = {
    "no_room": "no_slot",
    "twice": "twice",
    "hanging": "hanging",
    "stopping": "stopping",
    "load": "load",
}


class CameraRunner(Protocol):
    """What runs cameras."""

    def take(self, camera: CameraConfig, *, epoch: int) -> None:
        """Run a camera, or replace the one of this id; raises CameraError."""

    def give_up(self, camera_id: str, reason: EndReason) -> bool:
        """Stop a camera at once and forget it; whether it ran here."""


class NotTakenList(Protocol):
    """Where cameras that cannot be run are named, for `/health` and the metrics."""

    def note(self, camera_id: str, reason: NotTakenReason, detail: str) -> None:
        """Note that a camera cannot be taken now."""

    def forget(self, camera_id: str) -> None:
        """Note that a camera was taken, or that nobody expects it any more."""


@dataclasses.dataclass(frozen=True)
class _Refused:
    """A camera of this worker's partitions that it cannot run, as it is tried again."""

    record: CameraRecord
    partition: int
    epoch: int
    reason: NotTakenReason


class WorkerCameras:
    """The cameras of a worker's partitions. Methods may be called from any thread.

    Args:
        not_taken: gets the cameras that this worker cannot run.
        resolve: puts secrets into a camera's settings; may raise ConfigError.
        load: tells the fraction of the capacity in use.
        max_load: above it no camera is started that does not run yet; None: there is no limit.
    """

    def __init__(
        self,
        runner: CameraRunner,
        not_taken: NotTakenList,
        resolve: Callable[[CameraConfig], CameraConfig] = lambda camera: camera,
        clock: Callable[[], float] = time.monotonic,
        *,
        load: Callable[[], float] = lambda: 0.0,
        max_load: float | None = None,
    ) -> None:
        self._load = load
        self._max_load = max_load
        self._runner = runner
        self._not_taken = not_taken
        self._resolve = resolve
        self._clock = clock
        self._running: dict[str, int] = {}  # partitions of the cameras that run here
        self._partitions: dict[str, int] = {}  # also of those that ran here
        self._refused: dict[str, _Refused] = {}
        self._tried_monotonic = clock()
        self._lock = threading.RLock()

    def partition_of(self, camera_id: str) -> int | None:
        """The partition of a camera that runs or ran here; None if it is not known."""
        with self._lock:
            return self._partitions.get(camera_id)

    def start(self, partition: int, epoch: int, records: Sequence[CameraRecord]) -> None:
        """Start all cameras of a partition."""
        with self._lock:
            for record in records:
                self._take(partition, epoch, record)

    def change(self, partition: int, epoch: int, record: CameraRecord | Tombstone) -> None:
        """Start, restart or remove one camera of a partition that runs."""
        with self._lock:
            if isinstance(record, CameraRecord):
                self._take(partition, epoch, record)
            elif self._running.get(record.camera_id, partition) == partition:
                self._drop(record.camera_id, EndReason.REMOVED)

    def stop(self, partition: int, reason: EndReason) -> int:
        """Stop all cameras of a partition at once; returns how many there were."""
        with self._lock:
            running = [camera for camera, of in self._running.items() if of == partition]
            refused = [name for name, each in self._refused.items() if each.partition == partition]
            for camera_id in running + refused:
                self._drop(camera_id, reason)
        return len(running)

    def retry(self) -> None:
        """Try again to start cameras that could not be started, every few seconds."""
        if self._clock() - self._tried_monotonic < _RETRY_SECONDS:
            return
        self._tried_monotonic = self._clock()
        with self._lock:
            waits = [name for name, each in self._refused.items() if each.reason == "load"]
            for camera_id, each in list(self._refused.items()):
                if camera_id not in waits[1:]:  # one at a time: the load follows with a delay
                    self._take(each.partition, each.epoch, each.record)

    def _take(self, partition: int, epoch: int, record: CameraRecord) -> None:
        camera_id = record.camera_id
        elsewhere = self._running.get(camera_id, partition)
        try:
            if elsewhere != partition:
                raise CameraError(
                    f"partition {elsewhere} has a camera of this id, too; remove one of them",
                    "twice",
                )
            self._check_load(camera_id)
            self._runner.take(self._resolve(record.camera), epoch=epoch)
        except ConfigError as error:
            self._refuse(_Refused(record, partition, epoch, "secret"), str(error))
        except CameraError as error:
            reason = _REASONS.get(error.kind, "unusable")
            self._refuse(_Refused(record, partition, epoch, reason), str(error))
        else:
            self._forget_refusal(camera_id)
            self._running[camera_id] = partition
            self._partitions[camera_id] = partition

    def _check_load(self, camera_id: str) -> None:
        if self._max_load is None or camera_id in self._running:
            return
        load = self._load()
        if load > self._max_load:
            raise CameraError(
                f"this worker's load is {load:.2f}, above cameras_from.max_load"
                f" {self._max_load:g}; start another worker or raise the limit",
                "load",
            )

    def _refuse(self, each: _Refused, detail: str) -> None:
        camera_id = each.record.camera_id
        before = self._refused.get(camera_id)
        if before is None or before.reason != each.reason:
            about = {"camera": camera_id}
            _log.error("camera %s is not run here: %s", camera_id, detail, extra=about)
        self._refused[camera_id] = each
        self._not_taken.note(camera_id, each.reason, detail)

    def _forget_refusal(self, camera_id: str) -> None:
        if self._refused.pop(camera_id, None) is not None:
            self._not_taken.forget(camera_id)

    def _drop(self, camera_id: str, reason: EndReason) -> None:
        self._forget_refusal(camera_id)
        if self._running.pop(camera_id, None) is not None:
            self._runner.give_up(camera_id, reason)
