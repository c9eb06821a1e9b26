"""The cameras of all workers, for the routes of `/cameras`; each request goes to the owner."""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from configs import CameraError
from stream.local.dealing import owner_of
from stream.local.worker_client import WorkerClient

__all__ = ["WorkerCameras"]


class WorkerCameras:
    """Controls the cameras of all workers; methods raise the `CameraError` of the worker.

    Args:
        clients: returns the client of each worker; None for one that does not run.
    """

    def __init__(self, clients: Callable[[], Sequence[WorkerClient | None]]) -> None:
        self._clients = clients

    def describe_all(self) -> list[dict[str, Any]]:
        """Describe every camera of the workers that run."""
        found: list[dict[str, Any]] = []
        for client in self._clients():
            if client is not None:
                found += client.call("GET", "/cameras")
        return found

    def describe(self, camera_id: str) -> dict[str, Any]:
        """Describe one camera."""
        return self._call("GET", camera_id)

    def add(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Add a camera to the worker that has it by its id."""
        camera_id = fields.get("id")
        # Without a usable id, any worker says what is wrong.
        owner = self._owner(camera_id if isinstance(camera_id, str) else "")
        return dict(owner.call("POST", "/cameras", fields))

    def change(self, camera_id: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Change some settings of a camera."""
        return self._call("PATCH", camera_id, fields=fields)

    def pause(self, camera_id: str) -> dict[str, Any]:
        """Stop a camera and keep it."""
        return self._call("POST", camera_id, "/pause")

    def resume(self, camera_id: str) -> dict[str, Any]:
        """Start a paused camera."""
        return self._call("POST", camera_id, "/resume")

    def remove(self, camera_id: str) -> None:
        """Remove a camera."""
        self._owner(camera_id).call("DELETE", _path(camera_id))

    def _call(
        self,
        method: str,
        camera_id: str,
        action: str = "",
        fields: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        return dict(self._owner(camera_id).call(method, _path(camera_id) + action, fields))

    def _owner(self, camera_id: str) -> WorkerClient:
        clients = self._clients()
        index = owner_of(camera_id, len(clients))
        client = clients[index]
        if client is None:
            raise CameraError(
                f"worker {index}, which has the camera {camera_id!r}, is being started; try again"
                " later",
                "hanging",
            )
        return client


def _path(camera_id: str) -> str:
    return f"/cameras/{urllib.parse.quote(camera_id, safe='')}"
