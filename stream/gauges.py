"""Gauges that are brought up to date when somebody scrapes them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Protocol

import torch

from configs import OutboxError
from stream.metrics import Metrics
from stream.types import CameraSnapshot

__all__ = ["EventStoreFigures", "refresh_cameras", "refresh_device", "refresh_events"]


class EventStoreFigures(Protocol):
    """What the gauges need of an outbox."""

    def __len__(self) -> int: ...

    def oldest_age_seconds(self, sink: str | None = None) -> float:
        """Age of the oldest event, of a sink or of all; raises OutboxError."""


def refresh_cameras(metrics: Metrics, cameras: Callable[[], Sequence[CameraSnapshot]]) -> None:
    """Set frame rates and ages of last frames."""
    for camera in cameras():
        metrics.camera_fps.labels(camera.camera_id).set(camera.fps)
        if camera.state == "ended":
            with contextlib.suppress(KeyError):
                metrics.last_frame_age.remove(camera.camera_id)  # no further frame is expected
        elif camera.last_frame_age_seconds is not None:
            metrics.last_frame_age.labels(camera.camera_id).set(camera.last_frame_age_seconds)


def refresh_events(
    metrics: Metrics, outbox: EventStoreFigures, unsaved: int, sink: str | None = None
) -> None:
    """Set how many events wait, and for how long; NaN where the outbox does not say.

    Args:
        sink: the sink whose oldest event counts; None: the oldest of all.
    """
    metrics.outbox_events.set(len(outbox))
    metrics.outbox_unsaved.set(unsaved)
    try:
        metrics.outbox_age.set(outbox.oldest_age_seconds(sink))
    except OutboxError:
        metrics.outbox_age.set(float("nan"))


def refresh_device(metrics: Metrics, device: torch.device, views: int) -> None:
    """Set how many slots of the ring are in use, and the memory of a GPU."""
    metrics.views.set(views)
    if device.type == "cuda":
        metrics.device_memory.set(torch.cuda.memory_reserved(device))
