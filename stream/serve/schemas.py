"""Schemas of requests and answers.

FastAPI generates the OpenAPI document from these classes. They do not validate requests:
`configs.check_tree` does, with messages that contain the dotted path of the setting.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import models_json_schema

from stream.cameras.config import CameraConfig
from stream.serve.discovery_schemas import DiscoveryRequest
from stream.types import BlindReason, CameraState
from stream.worker_metrics import NotTakenReason

__all__ = [
    "Blind",
    "Camera",
    "CameraChange",
    "CameraProblem",
    "CameraWritten",
    "Error",
    "HealthReport",
    "NewCamera",
    "NotTakenCamera",
    "complete_document",
    "errors",
    "request_body_schema",
]

_REFERENCE = "#/components/schemas/{model}"
_MEANING = {
    400: "not JSON",
    401: "the token is missing or wrong",
    403: "a page of another site asks, or without a token not a program on this machine",
    404: "the camera or picture does not exist",
    408: "the request was not complete in time",
    409: "the id is already used, the limit of cameras and regions is reached, or a discovery runs",
    413: "the request is too long",
    415: "the request was not sent as JSON",
    421: "the Host header names another machine; http.hosts can allow its name",
    422: "a setting is wrong; the error names it",
    503: "the pipeline is still loading or is stopping, or the broker with the topic of the cameras"
    " cannot be reached",
    507: "the change cannot be saved to disk",
}
_MEANING_IF_CAMERA_STARTS = (
    "the pipeline is still loading, or is stopping; or too many readers of cameras that were"
    " stopped have not ended, or the broker with the topic of the cameras cannot be reached, and"
    " Retry-After says when to try again"
)


class NewCamera(CameraConfig):
    """A camera to add."""


class CameraChange(CameraConfig):
    """The settings to change; all other settings keep their values, also inside sections."""

    model_config = ConfigDict(json_schema_extra={"required": []})


def _require_all(schema: dict[str, Any]) -> None:
    """Mark every field as always present, including fields with a default.

    Only `worker` is left out where there is one worker.
    """
    schema["required"] = [name for name in schema["properties"] if name != "worker"]


class Blind(BaseModel):
    """Why a camera that runs gives no clips."""

    model_config = ConfigDict(extra="forbid")

    reason: BlindReason = Field(description="reason, as in the metric cidc_camera_blind")
    detail: str = Field(description="what happens, and what to do about it")
    seconds: float = Field(description="time since the last clip, or since the camera started")


class Camera(CameraConfig):
    """The current settings and state of a camera."""

    model_config = ConfigDict(json_schema_extra=_require_all)

    url: str = Field(description="address without user name, password and query")
    state: CameraState = Field(description="current state of the camera")
    detail: str = Field(description="reason for the state")
    paused: bool = Field(description="whether the camera was paused over HTTP and not resumed yet")
    fps: float = Field(description="decoded frames per second over the last few seconds")
    last_frame_age_seconds: float | None = Field(
        description="time since the last frame; null before the first frame"
    )
    blind: Blind | None = Field(
        description="set if the camera runs and has given no clip for clip.blind_after_seconds"
    )
    worker: str = Field("", description="with cameras_from.topic: name of the worker that runs it")


class CameraWritten(BaseModel):
    """What was written to the topic of the cameras, and what happens next."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(description="name of the camera")
    change: Literal["added", "changed", "unchanged", "removed"] = Field(
        description="what became of the camera in the topic"
    )
    detail: str = Field(description="what happens next")


class CameraProblem(BaseModel):
    """A camera that is not analysed as it should be."""

    model_config = ConfigDict(extra="forbid")

    camera: str = Field(description="name of the camera")
    state: CameraState = Field(description="current state of the camera")
    reason: str = Field(description="the reason why it is blind; otherwise its state")
    detail: str = Field(description="what happens, and what to do about it")


class WorkerReport(BaseModel):
    """A worker's share in the cameras of a topic."""

    model_config = ConfigDict(extra="forbid")

    worker: str = Field(description="name of this worker")
    problem: str | None = Field(
        description="what keeps the worker from running its cameras; null if nothing does"
    )
    partitions: dict[str, int] = Field(
        description="its partitions: reading, claiming, taking_over, running, or waiting after it"
        " was cut from the broker"
    )
    epochs: dict[str, int] = Field(description="epoch of each partition whose cameras run")
    unreadable: list[str] = Field(description="records of cameras that cannot be used, and why")


class NotTakenCamera(BaseModel):
    """A camera that should be analysed and cannot be taken."""

    model_config = ConfigDict(extra="forbid")

    camera: str = Field(description="name of the camera")
    reason: NotTakenReason = Field(description="reason, as in the metric cidc_cameras_not_taken")
    detail: str = Field(description="what happens, and what to do about it")


class SinkReport(BaseModel):
    """A sink: Kafka, a webhook or another receiver of events."""

    model_config = ConfigDict(extra="forbid")

    sink: str = Field(description="name of the sink; kafka is that of section kafka")
    address: str = Field(description="address of the receiver, without user name and password")
    problem: str | None = Field(description="why it takes no events; null if it takes them")
    waiting: int = Field(description="number of events that wait for it in the outbox")


class HealthReport(BaseModel):
    """The health of the pipeline and of its cameras."""

    model_config = ConfigDict(extra="forbid")

    status: Literal["ok", "degraded", "failing"] = Field(
        description="failing: a check fails; degraded: a camera or a sink has a problem"
    )
    checks: dict[str, str | None] = Field(
        description="the problem of each probe, by its name; null if it passes"
    )
    cameras: dict[str, int] = Field(description="number of cameras in each state")
    problems: list[CameraProblem] = Field(description="the cameras with a problem")
    load: float | None = Field(
        description="fraction of the capacity that is used, as in the metric cidc_worker_load; with"
        " several workers, of the busiest; null before it is known"
    )
    load_parts: dict[str, float] = Field(description="load of each part of the pipeline")
    not_taken: list[NotTakenCamera] = Field(
        description="cameras that should be analysed and cannot be taken"
    )
    workers: dict[str, str | None] = Field(
        description="the problem of each worker process, by its name; null if it runs; empty if the"
        " pipeline has no workers"
    )
    sinks: list[SinkReport] = Field(
        description="the sinks that get events; with several workers, what waits in all outboxes"
    )
    worker: WorkerReport | None = Field(
        None, description="where workers share the cameras of a topic: this worker's share"
    )


class Error(BaseModel):
    """The reason that a request was refused."""

    model_config = ConfigDict(extra="forbid")

    error: str = Field(description="description of the problem and how to solve it")


def errors(*statuses: int, starts_camera: bool = False) -> dict[int | str, dict[str, Any]]:
    """Describe the error answers with these statuses; each answer has the schema `Error`.

    Args:
        starts_camera: whether the route starts a camera, and so has another reason for 503.
    """
    meaning = _MEANING | ({503: _MEANING_IF_CAMERA_STARTS} if starts_camera else {})
    return {
        status: {"description": meaning[status], "content": _content("Error")}
        for status in statuses
    }


def request_body_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Describe a request body, for the parameter `openapi_extra` of a route."""
    return {"requestBody": {"required": True, "content": _content(model.__name__)}}


def complete_document(document: dict[str, Any]) -> None:
    """Complete FastAPI's OpenAPI document in place: schemas, and routes usable without a token."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    _add_schemas(schemas)
    for path in document["paths"].values():
        for operation in path.values():
            _drop_unused_answer(operation)
            if "security" in operation:
                # If http.token is not set, requests need no token.
                operation["security"].append({})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)


def _add_schemas(schemas: dict[str, Any]) -> None:
    _, described = models_json_schema(
        [(model, "validation") for model in (NewCamera, CameraChange, DiscoveryRequest, Error)],
        ref_template=_REFERENCE,
    )
    for name, schema in described["$defs"].items():
        schemas.setdefault(name, schema)


def _drop_unused_answer(operation: dict[str, Any]) -> None:
    """Remove FastAPI's own 422 answer, which cannot occur: parts of a path may be any text."""
    answers = operation["responses"]
    if answers.get("422", {}).get("content") == _content("HTTPValidationError"):
        del answers["422"]


def _content(name: str) -> dict[str, Any]:
    """Describe JSON content with the named schema, which `complete_document` adds."""
    return {"application/json": {"schema": {"$ref": _REFERENCE.format(model=name)}}}
