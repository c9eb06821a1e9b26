"""Routes that list, add, change, pause, resume and remove cameras, and that serve pictures.

If the cameras live in a topic (`cameras_from.topic`), changes are written to it, answered with 202,
and carried out by whichever worker owns the camera.

Handlers are plain functions, so FastAPI runs them in threads, because a change may wait for the
disk. Access is checked first, then the handler's dependencies in the order of its arguments.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException
from fastapi import Path as PathParameter
from fastapi.responses import FileResponse, JSONResponse, Response

from configs import CameraError
from stream.serve.dependencies import (
    CameraSettings,
    CameraTopic,
    RunningCameras,
    SnapshotFolders,
    TopicControl,
    check_access,
)
from stream.serve.schemas import (
    Camera,
    CameraChange,
    CameraWritten,
    NewCamera,
    errors,
    request_body_schema,
)

__all__ = ["router", "topic_router"]

CameraId = Annotated[str, PathParameter(description="name of the camera")]

_BODY_ERRORS = (400, 408, 413, 415, 422)
_WRITTEN: dict[int | str, dict[str, Any]] = {
    202: {
        "model": CameraWritten,
        "description": "with cameras_from.topic: written to the topic, or there already",
    }
}
_JPEG = {"description": "JPEG", "content": {"image/jpeg": {"schema": {"type": "string"}}}}

router = APIRouter(dependencies=[Depends(check_access)], responses=errors(401, 403, 503))
# Further routes where the cameras live in a topic.
topic_router = APIRouter(dependencies=[Depends(check_access)], responses=errors(401, 403, 503))


@router.get(
    "/cameras",
    summary="List all cameras",
    response_model=list[Camera],
    response_description="all cameras",
)
def list_cameras(cameras: RunningCameras, topic: CameraTopic) -> Response:
    """Return all cameras of this process, in the order in which they were added."""
    return JSONResponse([_with_worker(camera, topic) for camera in cameras.describe_all()])


@router.post(
    "/cameras",
    summary="Add a camera and start it",
    status_code=201,
    response_model=Camera,
    response_description="the camera",
    responses=_WRITTEN | errors(*_BODY_ERRORS, 409, 503, 507, starts_camera=True),
    openapi_extra=request_body_schema(NewCamera),
)
def add_camera(cameras: RunningCameras, topic: CameraTopic, settings: CameraSettings) -> Response:
    """Add a camera. Sections missing from the request use the settings shared by all cameras."""
    if topic is not None:
        return JSONResponse(topic.add(settings), 202)
    return JSONResponse(cameras.add(settings), 201)


@router.get(
    "/cameras/{camera_id}",
    summary="Show one camera",
    response_model=Camera,
    response_description="the camera as it is now",
    responses=errors(404),
)
def show_camera(camera_id: CameraId, cameras: RunningCameras, topic: CameraTopic) -> Response:
    """Return the settings and the state of one camera of this process."""
    try:
        camera = cameras.describe(camera_id)
    except CameraError as error:
        if topic is None or error.kind != "unknown":
            raise
        raise CameraError(
            f"this worker, {topic.worker}, does not run a camera {camera_id!r}; `cidc-stream"
            " cameras list` shows all cameras of the topic",
            "unknown",
        ) from None
    return JSONResponse(_with_worker(camera, topic))


@router.patch(
    "/cameras/{camera_id}",
    summary="Change settings of a camera",
    response_model=Camera,
    response_description="the camera as it is now",
    responses=_WRITTEN | errors(*_BODY_ERRORS, 404, 409, 503, 507, starts_camera=True),
    openapi_extra=request_body_schema(CameraChange),
)
def change_camera(
    camera_id: CameraId, cameras: RunningCameras, topic: CameraTopic, settings: CameraSettings
) -> Response:
    """Change the settings in the request; the camera restarts if a value differs."""
    if topic is not None:
        return JSONResponse(topic.change(camera_id, settings), 202)
    return JSONResponse(cameras.change(camera_id, settings))


@router.delete(
    "/cameras/{camera_id}",
    summary="Remove a camera",
    status_code=204,
    response_description="removed",
    responses=_WRITTEN | errors(404, 422, 503, 507),
)
def remove_camera(camera_id: CameraId, cameras: RunningCameras, topic: CameraTopic) -> Response:
    """Stop a camera and remove it; its events are kept."""
    if topic is not None:
        return JSONResponse(topic.remove(camera_id), 202)
    cameras.remove(camera_id)
    return Response(status_code=204)


@router.post(
    "/cameras/{camera_id}/pause",
    summary="Stop a camera and keep it",
    response_model=Camera,
    response_description="the camera as it is now",
    responses=errors(404, 422, 507),
)
def pause_camera(camera_id: CameraId, cameras: RunningCameras, topic: CameraTopic) -> Response:
    """Stop a camera until it is resumed; its open events are ended."""
    _refuse_pause(topic)
    return JSONResponse(cameras.pause(camera_id))


@router.post(
    "/cameras/{camera_id}/resume",
    summary="Start a paused camera again",
    response_model=Camera,
    response_description="the camera as it is now",
    responses=errors(404, 409, 422, 503, 507, starts_camera=True),
)
def resume_camera(camera_id: CameraId, cameras: RunningCameras, topic: CameraTopic) -> Response:
    """Start a paused camera; a running camera is not changed."""
    _refuse_pause(topic)
    return JSONResponse(cameras.resume(camera_id))


@topic_router.put(
    "/cameras/{camera_id}",
    summary="Add a camera, or replace all its settings",
    status_code=202,
    response_model=CameraWritten,
    response_description=_WRITTEN[202]["description"],
    responses=errors(*_BODY_ERRORS, 503),
    openapi_extra=request_body_schema(CameraChange),
)
def replace_camera(
    camera_id: CameraId, _cameras: RunningCameras, topic: CameraTopic, settings: CameraSettings
) -> Response:
    """Write a camera to the topic, whether it is new or not."""
    assert topic is not None
    return JSONResponse(topic.replace(camera_id, settings), 202)


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


def _with_worker(camera: dict[str, Any], topic: TopicControl | None) -> dict[str, Any]:
    return camera if topic is None else camera | {"worker": topic.worker}


def _refuse_pause(topic: TopicControl | None) -> None:
    """Refuse to pause or resume a camera that may move to another worker at any time.

    Raises:
        CameraError: the cameras live in a topic.
    """
    if topic is not None:
        raise CameraError(
            "a camera that lives in a topic (cameras_from.topic) cannot be paused or resumed;"
            " remove it, and add it again later",
            "invalid",
        )


def _find_snapshot(folder: Path, camera_id: str, name: str) -> Path | None:
    """Return the path of a picture; None if it is missing or lies outside the folder."""
    with contextlib.suppress(OSError, ValueError):
        folder = folder.resolve()
        path = (folder / camera_id / name).resolve()
        if path.suffix == ".jpg" and path.parent.parent == folder and path.is_file():
            return path
    return None
