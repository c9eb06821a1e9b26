"""The OpenAPI document of the HTTP interface, made from the settings classes themselves."""

from __future__ import annotations

import functools
from typing import Any, get_args

from stream.cameras.config import CameraConfig
from stream.types import CameraState

__all__ = ["document"]

_JSON = "application/json"


@functools.cache
def document() -> dict[str, Any]:
    """OpenAPI 3.1."""
    schemas = _schemas()
    camera_id = {
        "name": "camera_id",
        "in": "path",
        "required": True,
        "schema": {"type": "string"},
        "description": "name of the camera",
    }
    one = {"200": _answer("the camera as it is now", "Camera"), **_errors("404")}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "cidc-stream",
            "version": "1",
            "description": "Health, metrics, and the cameras of a running pipeline.",
        },
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "paths": {
            "/metrics": {
                "get": _operation(
                    "Metrics in Prometheus's text format",
                    {"200": _text("metrics")},
                    open_to_all=True,
                )
            },
            **{f"/{name}": {"get": _health(summary)} for name, summary in _HEALTH.items()},
            "/openapi.json": {
                "get": _operation(
                    "This document", {"200": _answer("OpenAPI 3.1", None)}, open_to_all=True
                )
            },
            "/cameras": {
                "get": _operation("List all cameras", {"200": _answer("all cameras", "Cameras")}),
                "post": _operation(
                    "Add a camera and start it",
                    {"201": _answer("the camera", "Camera"), **_errors(*_REFUSED, "409", "507")},
                    body="NewCamera",
                ),
            },
            "/cameras/{camera_id}": {
                "parameters": [camera_id],
                "get": _operation("One camera", one),
                "patch": _operation(
                    "Change settings: starts anew if any differs",
                    one | _errors(*_REFUSED, "409", "507"),
                    body="CameraChange",
                ),
                "delete": _operation(
                    "Remove a camera", {"204": {"description": "removed"}, **_errors("404", "507")}
                ),
            },
            "/cameras/{camera_id}/pause": {
                "parameters": [camera_id],
                "post": _operation("Stop a camera, keep it", one | _errors("507")),
            },
            "/cameras/{camera_id}/resume": {
                "parameters": [camera_id],
                "post": _operation("Start it again", one | _errors("409", "422", "507")),
            },
            "/snapshots/{camera_id}/{name}": {
                "parameters": [
                    camera_id,
                    {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}},
                ],
                "get": _operation(
                    "Picture of an action, where pictures are kept",
                    {
                        "200": {
                            "description": "JPEG",
                            "content": {"image/jpeg": {"schema": {"type": "string"}}},
                        },
                        **_errors("404"),
                    },
                ),
            },
        },
    }


_HEALTH = {
    "startup": "Has warm-up finished",
    "ready": "Are cameras being analysed",
    "live": "Is the analysis moving",
}
_REFUSED = ("400", "408", "413", "415", "422")
_MEANING = {
    "400": "not JSON",
    "401": "the token is missing or wrong",
    "403": "without a token only this machine is served",
    "404": "no such thing",
    "408": "not complete in time",
    "409": "the id is taken, or there is no room for another view",
    "413": "too long",
    "415": "not sent as JSON",
    "422": "a setting is wrong; the error names it",
    "503": "still loading",
    "507": "the change cannot be kept on disk",
}


def _schemas() -> dict[str, Any]:
    new: dict[str, Any] = CameraConfig.model_json_schema(
        ref_template="#/components/schemas/{model}"
    )
    schemas: dict[str, Any] = new.pop("$defs")
    change = {
        **new,
        "required": [],
        "title": "CameraChange",
        "description": "The settings to change; others stay, at any depth.",
    }
    settings = {name: field for name, field in new["properties"].items() if name != "url"}
    seen = {
        "url": {"type": "string", "description": "without user name, password and query"},
        "state": {"enum": list(get_args(CameraState))},
        "detail": {"type": "string"},
        "paused": {"type": "boolean"},
        "fps": {"type": "number", "description": "decoded frames per second over the last seconds"},
        "last_frame_age_seconds": {
            "type": ["number", "null"],
            "description": "null before the first frame",
        },
    }
    camera = {
        "type": "object",
        "properties": settings | seen,
        "required": [*settings, *seen],
        "additionalProperties": False,
    }
    error = {
        "type": "object",
        "properties": {"error": {"type": "string"}},
        "required": ["error"],
        "additionalProperties": False,
    }
    cameras = {"type": "array", "items": {"$ref": "#/components/schemas/Camera"}}
    return schemas | {
        "NewCamera": new,
        "CameraChange": change,
        "Camera": camera,
        "Cameras": cameras,
        "Error": error,
    }


def _operation(
    summary: str, answers: dict[str, Any], *, body: str | None = None, open_to_all: bool = False
) -> dict[str, Any]:
    operation: dict[str, Any] = {"summary": summary, "responses": answers | _errors("503")}
    if not open_to_all:
        operation |= {
            "security": [{"token": []}, {}],
            "responses": operation["responses"] | _errors("401", "403"),
        }
    if body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {_JSON: {"schema": {"$ref": f"#/components/schemas/{body}"}}},
        }
    return operation


def _health(summary: str) -> dict[str, Any]:
    answers = {"200": _text("yes"), "503": _text("no, and why")}
    return {"summary": summary, "responses": answers}


def _answer(description: str, schema: str | None) -> dict[str, Any]:
    content = {
        "schema": {"$ref": f"#/components/schemas/{schema}"} if schema else {"type": "object"}
    }
    return {"description": description, "content": {_JSON: content}}


def _errors(*statuses: str) -> dict[str, Any]:
    return {status: _answer(_MEANING[status], "Error") for status in statuses}


def _text(description: str) -> dict[str, Any]:
    return {"description": description, "content": {"text/plain": {"schema": {"type": "string"}}}}
