"""Routes for `/metrics`, `/health` and the probes `/startup`, `/ready` and `/live`.

None of them needs a token. The first two name cameras, so they answer only requests that name this
machine; the probes answer all, and their texts name no camera.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from stream.serve.exposition import OPENMETRICS_CONTENT, exposition
from stream.serve.hosts import HostRule
from stream.serve.schemas import HealthReport, errors
from stream.types import CameraSnapshot

__all__ = ["Check", "health_report", "health_router"]

# A health check: returns None if healthy, otherwise a one-line problem.
Check = Callable[[], str | None]

_SUMMARIES = {
    "startup": "Check whether warm-up has finished",
    "ready": "Check whether cameras are being analysed",
    "live": "Check whether the analysis makes progress",
}
_TEXT: dict[str, Any] = {"text/plain": {"schema": {"type": "string"}}}
_UNHEALTHY: dict[int | str, dict[str, Any]] = {
    503: {"description": "the check failed, with the reason", "content": _TEXT}
}


def health_router(
    metrics: Callable[[], bytes],
    checks: Mapping[str, Check],
    report: Callable[[], Mapping[str, Any]],
    *,
    hosts: HostRule,
    openmetrics: Callable[[], bytes] | None = None,
) -> APIRouter:
    """Create the routes for metrics, health and probes.

    Args:
        metrics: function that returns the text of `/metrics`.
        checks: health check of each probe, by its name: `startup`, `ready`, `live`.
        report: function that returns the answer of `/health`; see `health_report`.
        hosts: rule that decides which requests may see names of cameras.
        openmetrics: function that returns `/metrics` in the format OpenMetrics; None: requests
            cannot ask for it.
    """
    router = APIRouter()
    router.add_api_route(
        "/metrics",
        exposition(metrics, openmetrics),
        name="metrics",
        summary="Metrics in the text format of Prometheus",
        response_class=PlainTextResponse,
        response_description="metrics; a request that accepts OpenMetrics gets that format",
        responses={200: {"content": OPENMETRICS_CONTENT}, **errors(403, 421, 503)},
        dependencies=[Depends(hosts)],
    )
    router.add_api_route(
        "/health",
        _health(report),
        name="health",
        summary="Report the health of the pipeline and of its cameras",
        response_model=HealthReport,
        response_description="every check passed; cameras may have problems",
        responses={
            503: {"description": "a check failed", "model": HealthReport},
            **errors(403, 421),
        },
        dependencies=[Depends(hosts)],
    )
    for name, check in checks.items():
        router.add_api_route(
            f"/{name}",
            _probe(check),
            name=name,
            summary=_SUMMARIES.get(name),
            response_class=PlainTextResponse,
            response_description="the check passed",
            responses=_UNHEALTHY,
        )
    return router


def _health(report: Callable[[], Mapping[str, Any]]) -> Callable[[], Awaitable[Response]]:
    async def answer() -> Response:
        found = dict(report())
        return JSONResponse(found, 503 if found["status"] == "failing" else 200)

    return answer


def health_report(
    checks: Mapping[str, Check],
    cameras: Sequence[CameraSnapshot],
    *,
    load: Mapping[str, float],
    not_taken: Sequence[Any] = (),
    worker: Mapping[str, Any] | None = None,
    sinks: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Return the answer of `/health`; the schema `HealthReport` describes it.

    Args:
        checks: health check of each probe, by its name.
        cameras: the status of every camera.
        load: the load of each part of the pipeline.
        not_taken: cameras that cannot be taken: dataclasses with camera, reason and detail.
        worker: this worker's share in the cameras of a topic, with its `problem`; None if cameras
            do not come from one.
        sinks: describes each sink, with its `problem`.
    """
    found = {name: check() for name, check in checks.items()}
    problems = [problem for camera in cameras if (problem := _problem(camera)) is not None]
    is_failing = any(problem is not None for problem in found.values())
    has_problem = bool(problems) or bool(not_taken)
    parts = sinks if worker is None else (*sinks, worker)
    has_problem = has_problem or any(part["problem"] is not None for part in parts)
    report = {
        "status": "failing" if is_failing else "degraded" if has_problem else "ok",
        "checks": found,
        "cameras": dict(collections.Counter(camera.state for camera in cameras)),
        "problems": problems,
        "load": max(load.values(), default=None),
        "load_parts": dict(load),
        "not_taken": [dataclasses.asdict(camera) for camera in not_taken],
        "workers": {},
        "sinks": [dict(sink) for sink in sinks],
    }
    return report if worker is None else report | {"worker": dict(worker)}


def _problem(camera: CameraSnapshot) -> dict[str, str] | None:
    """Describe why a camera is not analysed; None if it is, or if nobody expects it."""
    if camera.blind is not None:
        reason, detail = camera.blind.reason.value, camera.blind.detail
    elif camera.state in ("stalled", "offline") or camera.has_failed:
        reason, detail = camera.state, camera.detail
    else:
        return None
    return {"camera": camera.camera_id, "state": camera.state, "reason": reason, "detail": detail}


def _probe(check: Check) -> Callable[[], Awaitable[Response]]:
    # This runs in the event loop, so a probe is answered even if all threads are busy.
    async def answer() -> Response:
        problem = check()
        if problem is not None:
            return PlainTextResponse(f"{problem}\n", 503)
        return PlainTextResponse("ok\n")

    return answer
