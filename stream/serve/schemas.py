"""The form of requests and answers.

FastAPI generates the OpenAPI document from these classes. Requests are not validated with them:
`configs.check_tree` does that, with messages that name the setting by its dotted path.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import models_json_schema

from stream.camera import CameraConfig
from stream.frames import CameraState

__all__ = [
    "Camera",
    "CameraChange",
    "Error",
    "NewCamera",
    "body_of",
    "complete_document",
    "errors",
]

_REFERENCE = "#/components/schemas/{model}"
_MEANING = {
    400: "not JSON",
    401: "the token is missing or wrong",
    403: "without a token only programs on this machine are served",
    404: "there is no such thing",
    408: "the request was not complete in time",
    409: "the id is taken, or there is no room for another camera or region",
    413: "the request is too long",
    415: "the request was not sent as JSON",
    422: "a setting is wrong; the error names it",
    503: "the pipeline is still loading, or is stopping",
    507: "the change cannot be kept on disk",
}


class NewCamera(CameraConfig):
    """One camera."""


class CameraChange(CameraConfig):
    """The settings to change; others stay, at any depth."""

    model_config = ConfigDict(json_schema_extra={"required": []})


def _require_all(schema: dict[str, Any]) -> None:
    """Mark every field as always present, those with a default too."""
    schema["required"] = list(schema["properties"])


class Camera(CameraConfig):
    """A camera as it is now: its settings, and what it does."""

    model_config = ConfigDict(json_schema_extra=_require_all)

    url: str = Field(description="without user name, password and query")
    state: CameraState = Field(description="what its source does")
    detail: str = Field(description="why it is in this state")
    paused: bool = Field(description="stopped over HTTP until it is resumed")
    fps: float = Field(description="decoded frames per second over the last seconds")
    last_frame_age_seconds: float | None = Field(description="null before the first frame")


class Error(BaseModel):
    """Why a request was refused."""

    model_config = ConfigDict(extra="forbid")

    error: str = Field(description="what is wrong, and what to do")


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe the answers with these statuses, all of the form `Error`."""
    return {
        status: {"description": _MEANING[status], "content": _content("Error")}
        for status in statuses
    }


def body_of(model: type[BaseModel]) -> dict[str, Any]:
    """Describe the body of a request, for the parameter `openapi_extra` of a route."""
    return {"requestBody": {"required": True, "content": _content(model.__name__)}}


def complete_document(document: dict[str, Any]) -> None:
    """Add to an OpenAPI document from FastAPI, in place, what FastAPI cannot know."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    _add_schemas(schemas)
    for path in document["paths"].values():
        for operation in path.values():
            _drop_unused_answer(operation)
            if "security" in operation:
                # Without http.token, no token is asked for.
                operation["security"].append({})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)


def _add_schemas(schemas: dict[str, Any]) -> None:
    _, described = models_json_schema(
        [(model, "validation") for model in (NewCamera, CameraChange, Error)],
        ref_template=_REFERENCE,
    )
    for name, schema in described["$defs"].items():
        schemas.setdefault(name, schema)


def _drop_unused_answer(operation: dict[str, Any]) -> None:
    """Drop FastAPI's own 422: parts of a path may be any text."""
    answers = operation["responses"]
    if answers.get("422", {}).get("content") == _content("HTTPValidationError"):
        del answers["422"]


def _content(name: str) -> dict[str, Any]:
    """Describe JSON of the form with this name; `complete_document` adds the form itself."""
    return {"application/json": {"schema": {"$ref": _REFERENCE.format(model=name)}}}
