"""Dependencies of the routes: the access check, the running cameras and the request's JSON."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Protocol

from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials
from starlette.requests import ClientDisconnect

from stream.serve import connections
from stream.serve.access import BEARER, Access
from stream.serve.discovery import DiscoveryRunner

__all__ = [
    "CameraControl",
    "CameraSettings",
    "CameraTopic",
    "RunningCameras",
    "Services",
    "SnapshotFolders",
    "TopicControl",
    "check_access",
]


class CameraControl(Protocol):
    """Controls the cameras of a running pipeline; all methods may raise CameraError."""

    def describe_all(self) -> list[dict[str, Any]]:
        """Describe every camera."""

    def describe(self, camera_id: str) -> dict[str, Any]:
        """Describe one camera."""

    def add(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Add a camera and start it."""

    def change(self, camera_id: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Change some settings of a camera."""

    def pause(self, camera_id: str) -> dict[str, Any]:
        """Stop a camera and keep it."""

    def resume(self, camera_id: str) -> dict[str, Any]:
        """Start a paused camera."""

    def remove(self, camera_id: str) -> None:
        """Remove a camera."""


class TopicControl(Protocol):
    """Changes cameras that live in a topic; all methods may raise CameraError.

    Each method returns the camera's id, its change (added, changed, unchanged, removed), and what
    happens next. Repeated calls change nothing more.
    """

    @property
    def worker(self) -> str:
        """Name of this worker."""

    def add(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Write a new camera."""

    def replace(self, camera_id: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Write a camera, whether it is new or not."""

    def change(self, camera_id: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Change some settings of a camera."""

    def remove(self, camera_id: str) -> dict[str, Any]:
        """Remove a camera."""


@dataclasses.dataclass(frozen=True)
class Services:
    """The objects that the routes of one server use, stored in `app.state.services`.

    Args:
        cameras: function called at each request; it returns None while the pipeline is loading.
        access: rule that decides which requests may use the cameras.
        max_body_bytes: maximum size of a request body in bytes.
        snapshots: folders of the pictures of events; empty if no pictures are stored.
        topic: takes the changes of cameras that live in a topic; None if they do not.
        discovery: looks for cameras in the network.
    """

    cameras: Callable[[], CameraControl | None]
    access: Access
    max_body_bytes: int
    snapshots: Sequence[Path]
    topic: TopicControl | None = None
    discovery: DiscoveryRunner = dataclasses.field(default_factory=DiscoveryRunner)


def _services(request: Request) -> Services:
    services = request.app.state.services
    assert isinstance(services, Services)
    return services


# The dependencies run in the event loop, so they do not wait for a free thread.
async def check_access(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)],
) -> None:
    """Refuse a request that may not use the cameras."""
    token = credentials.credentials if credentials is not None else None
    _services(request).access.check(request.headers, token)


async def _running_cameras(request: Request) -> CameraControl:
    cameras = _services(request).cameras()
    if cameras is None:
        raise HTTPException(503, "still loading; try again in a moment", {"Retry-After": "2"})
    return cameras


async def _camera_topic(request: Request) -> TopicControl | None:
    return _services(request).topic


async def _snapshot_folders(request: Request) -> Sequence[Path]:
    folders = _services(request).snapshots
    if not folders:
        raise HTTPException(404, "no pictures are kept; set snapshots.enabled: true to keep them")
    return folders


async def _camera_settings(request: Request) -> dict[str, Any]:
    """Return the JSON object in a request's body; `configs.check_tree` validates it later."""
    content_type = request.headers.get("content-type", "").partition(";")[0]
    if content_type.strip().lower() != "application/json":
        raise HTTPException(
            415, "send a JSON object with the header Content-Type: application/json"
        )
    body = await _body_in_time(request, _services(request).max_body_bytes)
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        raise HTTPException(400, "the request is not valid JSON") from None
    if not isinstance(fields, dict):
        raise HTTPException(422, "the request must be a JSON object of camera settings")
    return fields


async def _body_in_time(request: Request, max_bytes: int) -> bytes:
    max_seconds = connections.MAX_REQUEST_SECONDS
    try:
        return await asyncio.wait_for(_body(request, max_bytes), max_seconds)
    except TimeoutError:
        raise HTTPException(408, f"the request was not complete after {max_seconds:g} s") from None
    except ClientDisconnect:
        raise HTTPException(
            400, "the connection was closed before the request was complete"
        ) from None


async def _body(request: Request, max_bytes: int) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > max_bytes:
            raise HTTPException(413, f"the request is longer than http.max_body_bytes: {max_bytes}")
    return bytes(body)


RunningCameras = Annotated[CameraControl, Depends(_running_cameras)]
CameraTopic = Annotated[TopicControl | None, Depends(_camera_topic)]
CameraSettings = Annotated[dict[str, Any], Depends(_camera_settings)]
SnapshotFolders = Annotated[Sequence[Path], Depends(_snapshot_folders)]
