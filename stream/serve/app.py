"""The web applications: one with all routes, and one with only metrics and probes."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from configs import CameraError
from stream.serve import routes_cameras, routes_discover
from stream.serve.dependencies import Services
from stream.serve.hosts import HostRule
from stream.serve.schemas import complete_document, errors

__all__ = ["create_app", "create_probe_app"]

_STATUS = {
    "unknown": 404,
    "exists": 409,
    "no_room": 409,
    "invalid": 422,
    "not_kept": 507,
    "no_broker": 503,
    "hanging": 503,
    "searching": 409,
    "stopping": 503,
}
# Readers that do not hang return within seconds, and brokers restart in that time.
_RETRY_SECONDS = {"hanging": "5", "no_broker": "5"}
_log = logging.getLogger(__name__)


def create_app(services: Services, health: APIRouter, hosts: HostRule) -> FastAPI:
    """Create the application that serves metrics, health, cameras and pictures.

    Args:
        services: objects that the camera routes use.
        health: routes of metrics and probes, from `health_router`.
        hosts: rule that decides which requests may see the document.
    """
    app = _DocumentedApp()
    app.state.services = services
    app.include_router(health)
    app.add_api_route(
        "/openapi.json",
        _document,
        name="document",
        summary="This document",
        response_model=dict[str, Any],
        response_description="OpenAPI 3.1",
        responses=errors(403, 421, 503),
        dependencies=[Depends(hosts)],
    )
    app.include_router(routes_cameras.router)
    app.include_router(routes_discover.router)
    if services.topic is not None:
        app.include_router(routes_cameras.topic_router)
    return app


def create_probe_app(health: APIRouter) -> FastAPI:
    """Create the application of the second port, which serves only metrics and probes."""
    app = _DocumentedApp()
    app.include_router(health)
    return app


class _DocumentedApp(FastAPI):
    """FastAPI without pages that load external scripts, and with one form for all errors."""

    def __init__(self) -> None:
        super().__init__(
            title="cidc-stream",
            version="1",
            description="Health, metrics, and the cameras of a running pipeline.",
            openapi_url=None,
            docs_url=None,
            redoc_url=None,
            # Each class has one name in the document, both in requests and in answers.
            separate_input_output_schemas=False,
            generate_unique_id_function=_operation_id,
            exception_handlers={
                HTTPException: _explain,
                CameraError: _explain_camera_error,
                Exception: _report,
            },
            # Otherwise environment variables could make FastAPI send request data to other servers.
            telemetry={
                "auto_configure": False,
                "tracing": False,
                "metrics": False,
                "logs": False,
            },
        )
        self.add_middleware(_HeadAsGet)

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document; the first call creates it."""
        if self.openapi_schema is None:
            complete_document(super().openapi())
        assert self.openapi_schema is not None
        return self.openapi_schema


class _HeadAsGet:
    """Handles HEAD requests like GET requests; the server leaves out the body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("method") == "HEAD":
            scope = {**scope, "method": "GET"}
        await self._app(scope, receive, send)


def _operation_id(route: APIRoute) -> str:
    return route.name


async def _document(request: Request) -> Response:
    return JSONResponse(request.app.openapi())


async def _explain(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == 405 and isinstance(route := request.scope.get("route"), APIRoute):
        # FastAPI lists the methods of only one route, but other routes may have the same path.
        headers["Allow"] = ", ".join(_methods(request.app, route.path_format))
    return JSONResponse({"error": error.detail}, error.status_code, headers)


def _methods(app: FastAPI, path: str) -> list[str]:
    methods = [name.upper() for name in app.openapi()["paths"][path]]
    return sorted([*methods, "HEAD"] if "GET" in methods else methods)


async def _explain_camera_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, CameraError)
    seconds = _RETRY_SECONDS.get(error.kind)
    headers = None if seconds is None else {"Retry-After": seconds}
    return JSONResponse({"error": str(error)}, _STATUS[error.kind], headers)


async def _report(request: Request, error: Exception) -> Response:
    _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return JSONResponse({"error": "internal error, see the log"}, 500)
