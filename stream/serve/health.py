"""Routes for `/metrics`, `/health` and the probes `/startup`, `/ready` and `/live`.

None of them needs a token. The first two name cameras, so they answer only requests that name this
machine; the probes answer all, and their texts name no camera.
"""

from __future__ import annotations

import collections
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from stream.serve.hosts import HostRule
from stream.serve.schemas import HealthReport, errors
from stream.types import CameraSnapshot

__all__ = ["Check", "Worker", "health_router"]

# A health check: returns None if healthy, otherwise a one-line problem.
Check = Callable[[], str | None]
# Describes this worker's share in the cameras of a topic: at least `problem` and `not_taken`.
Worker = Callable[[], Mapping[str, Any] | None]

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
    cameras: Callable[[], Sequence[CameraSnapshot]] = tuple,
    worker: Worker = lambda: None,
    *,
    hosts: HostRule,
) -> APIRouter:
    """Create the routes for metrics, health and probes.

    Args:
        metrics: function that returns the text of `/metrics`.
        checks: health check of each probe, by its name: `startup`, `ready`, `live`.
        cameras: function that returns the status of every camera.
        worker: function that describes this worker's share in the cameras of a topic; it returns
            None if cameras do not come from a topic.
        hosts: rule that decides which requests may see names of cameras.
    """
    router = APIRouter()
    router.add_api_route(
        "/metrics",
        _exposition(metrics),
        name="metrics",
        summary="Metrics in the text format of Prometheus",
        response_class=PlainTextResponse,
        response_description="metrics",
        responses=errors(403, 421, 503),
        dependencies=[Depends(hosts)],
    )
    router.add_api_route(
        "/health",
        _health(checks, cameras, worker),
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


def _exposition(metrics: Callable[[], bytes]) -> Callable[[], Response]:
    def answer() -> Response:
        return Response(metrics(), media_type=CONTENT_TYPE_LATEST)

    return answer


def _health(
    checks: Mapping[str, Check],
    cameras: Callable[[], Sequence[CameraSnapshot]],
    worker: Worker,
) -> Callable[[], Awaitable[Response]]:
    async def answer() -> Response:
        found = {name: check() for name, check in checks.items()}
        snapshots = cameras()
        problems = [problem for camera in snapshots if (problem := _problem(camera)) is not None]
        share = worker()
        if share is not None:
            problems += [
                {
                    "camera": name,
                    "state": "ended",
                    "reason": each["reason"],
                    "detail": each["detail"],
                }
                for name, each in share["not_taken"].items()
            ]
        is_degraded = bool(problems) or (share is not None and share["problem"] is not None)
        is_failing = any(problem is not None for problem in found.values())
        report: dict[str, Any] = {
            "status": "failing" if is_failing else "degraded" if is_degraded else "ok",
            "checks": found,
            "cameras": collections.Counter(camera.state for camera in snapshots),
            "problems": problems,
        }
        if share is not None:
            report["worker"] = share
        return JSONResponse(report, 503 if is_failing else 200)

    return answer


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
