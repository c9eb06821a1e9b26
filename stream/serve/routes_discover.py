"""Routes that look for cameras in the network, and add one of them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response

from configs import CameraError, ConfigError, check_tree
from stream.serve.dependencies import (
    CameraSettings,
    CameraTopic,
    RunningCameras,
    Services,
    check_access,
)
from stream.serve.discovery import DiscoveryRunner
from stream.serve.discovery_schemas import DiscoveryReport, DiscoveryRequest
from stream.serve.schemas import errors, request_body_schema

__all__ = ["router"]

router = APIRouter(dependencies=[Depends(check_access)], responses=errors(401, 403, 503))


async def _runner(request: Request) -> DiscoveryRunner:
    services = request.app.state.services
    assert isinstance(services, Services)
    return services.discovery


Runner = Annotated[DiscoveryRunner, Depends(_runner)]


@router.get(
    "/discover",
    summary="Show what the last discovery found",
    response_model=DiscoveryReport,
    response_description="the report",
)
def show_discovery(_cameras: RunningCameras, runner: Runner) -> Response:
    """Return the report of the last discovery of this process; nothing is sent."""
    return JSONResponse({"added": None} | runner.report)


@router.post(
    "/discover",
    summary="Look for cameras (ONVIF), and add one",
    response_model=DiscoveryReport,
    response_description="the report",
    responses=errors(400, 408, 409, 413, 415, 422, 503, 507, starts_camera=True),
    openapi_extra=request_body_schema(DiscoveryRequest),
)
def discover_cameras(
    cameras: RunningCameras, topic: CameraTopic, settings: CameraSettings, runner: Runner
) -> Response:
    """Ask the network, or single devices; with `add`, add the device that was found."""
    try:
        wanted = check_tree(settings, DiscoveryRequest, name="discovery", strict=True)
    except ConfigError as error:
        raise CameraError(str(error), "invalid") from None
    if topic is None and wanted.add is not None and wanted.add.secret is not None:
        raise CameraError("add.secret: secrets need cameras that live in a topic", "invalid")
    report, camera = runner.run(wanted)
    added: Any = None
    if camera is not None:
        added = topic.add(camera) if topic is not None else cameras.add(camera)
    return JSONResponse(report | {"added": added["id"] if added is not None else None})
