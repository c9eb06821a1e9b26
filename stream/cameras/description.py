"""Describe a camera for people and programs, without secrets."""

from __future__ import annotations

from typing import Any

from stream.cameras.config import redact_url
from stream.cameras.status import CameraStatus

__all__ = ["describe_camera"]


def describe_camera(status: CameraStatus, *, paused: bool) -> dict[str, Any]:
    """Return a camera's settings and state as plain values; its address has no secrets.

    Args:
        paused: whether it was paused over HTTP and not resumed yet.
    """
    camera = status.camera
    age = status.last_frame_age()
    settings = camera.model_dump(mode="json", exclude={"url"})
    return settings | {
        "url": redact_url(camera.url),
        "state": status.state,
        "detail": status.detail,
        "paused": paused,
        "fps": round(status.fps(), 2),
        "last_frame_age_seconds": None if age is None else round(age, 3),
        "blind": None if status.blind is None else status.blind.as_dict(),
    }
