"""Routes that list, add, change, pause, resume and remove cameras, and that serve pictures.

Handlers are plain functions, so FastAPI runs them in threads, because a change may wait for the
disk. Access is checked first, then the handler's dependencies in the order of its arguments.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException
from fastapi import Path as PathParameter
from fastapi.responses import FileResponse, JSONResponse, Response

from stream.serve.dependencies import (
    CameraSettings,
    RunningCameras,
    SnapshotFolders,
    check_access,
)
from stream.serve.schemas import Camera, CameraChange, NewCamera, errors, request_body_schema

__all__ = ["router"]

CameraId = Annotated[str, PathParameter(description="name of the camera")]

_BODY_ERRORS = (400, 408, 413, 415, 422)
_JPEG = {"description": "JPEG", "content": {"image/jpeg": {"schema": {"type": "string"}}}}

router = APIRouter(dependencies=[Depends(check_access)], responses=errors(401, 403, 503))


@router.get(
    "/cameras",
    summary="List all cameras",
    response_model=list[Camera],
    response_description="all cameras",
)
def list_cameras(cameras: RunningCameras) -> Response:
    """Return all cameras, in the order in which they were added."""
    return JSONResponse(cameras.describe_all())


@router.post(
    "/cameras",
    summary="Add a camera and start it",
    status_code=201,
    response_model=Camera,
    response_description="the camera",
    responses=errors(*_BODY_ERRORS, 409, 503, 507, starts_camera=True),
    openapi_extra=request_body_schema(NewCamera),
)
def add_camera(cameras: RunningCameras, settings: CameraSettings) -> Response:
    """Add a camera. Sections missing from the request use the settings shared by all cameras."""
    return JSONResponse(cameras.add(settings), 201)


@router.get(
    "/cameras/{camera_id}",
    summary="Show one camera",
    response_model=Camera,
    response_description="the camera as it is now",
    responses=errors(404),
)
def show_camera(camera_id: CameraId, cameras: RunningCameras) -> Response:
    """Return the settings and the state of one camera."""
    return JSONResponse(cameras.describe(camera_id))


@router.patch(
    "/cameras/{camera_id}",
    summary="Change settings of a camera",
    response_model=Camera,
    response_description="the camera as it is now",
    responses=errors(*_BODY_ERRORS, 404, 409, 503, 507, starts_camera=True),
    openapi_extra=request_body_schema(CameraChange),
)
def change_camera(
    camera_id: CameraId, cameras: RunningCameras, settings: CameraSettings
) -> Response:
    """Change the settings in the request; the camera restarts if a value differs."""
    return JSONResponse(cameras.change(camera_id, settings))


@router.delete(
    "/cameras/{camera_id}",
    summary="Remove a camera",
    status_code=204,
    response_description="removed",
    responses=errors(404, 507),
)
def remove_camera(camera_id: CameraId, cameras: RunningCameras) -> Response:
    """Stop a camera and remove it; its events are kept."""
    cameras.remove(camera_id)
    return Response(status_code=204)


@router.post(
    "/cameras/{camera_id}/pause",
    summary="Stop a camera and keep it",
    response_model=Camera,
    response_description="the camera as it is now",
    responses=errors(404, 507),
)
def pause_camera(camera_id: CameraId, cameras: RunningCameras) -> Response:
    """Stop a camera until it is resumed; its open events are ended."""
    return JSONResponse(cameras.pause(camera_id))


@router.post(
    "/cameras/{camera_id}/resume",
    summary="Start a paused camera again",
    response_model=Camera,
    response_description="the camera as it is now",
    responses=errors(404, 409, 422, 503, 507, starts_camera=True),
)
def resume_camera(camera_id: CameraId, cameras: RunningCameras) -> Response:
    """Start a paused camera; a running camera is not changed."""
    return JSONResponse(cameras.resume(camera_id))


@router.get(
    "/snapshots/{camera_id}/{name}",
    summary="Show the picture of an action",
    response_class=FileResponse,
    responses={200: _JPEG, **errors(404)},
)
def show_snapshot(
    camera_id: CameraId, name: str, _cameras: RunningCameras, folders: SnapshotFolders
) -> Response:
    """Return the stored picture of an event as JPEG."""
    found = (_find_snapshot(folder, camera_id, name) for folder in folders)
    path = next((path for path in found if path is not None), None)
    if path is None:
        raise HTTPException(
            404, "there is no such picture; it may have been deleted because it was too old"
        )
    return FileResponse(path, media_type="image/jpeg")


def _find_snapshot(folder: Path, camera_id: str, name: str) -> Path | None:
    """Return the path of a picture; None if it is missing or lies outside the folder."""
    with contextlib.suppress(OSError, ValueError):
        folder = folder.resolve()
        path = (folder / camera_id / name).resolve()
        if path.suffix == ".jpg" and path.parent.parent == folder and path.is_file():
            return path
    return None
