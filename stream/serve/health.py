"""Routes for `/metrics` and the probes `/startup`, `/ready` and `/live`; none needs a token."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from stream.serve.schemas import errors

__all__ = ["Check", "health_router"]

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


def health_router(metrics: Callable[[], bytes], checks: Mapping[str, Check]) -> APIRouter:
    """Create the routes for metrics and probes.

    Args:
        metrics: function that returns the text of `/metrics`.
        checks: health check of each probe, by its name: `startup`, `ready`, `live`.
    """
    router = APIRouter()
    router.add_api_route(
        "/metrics",
        _exposition(metrics),
        name="metrics",
        summary="Metrics in the text format of Prometheus",
        response_class=PlainTextResponse,
        response_description="metrics",
        responses=errors(503),
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


def _probe(check: Check) -> Callable[[], Awaitable[Response]]:
    # This runs in the event loop, so a probe is answered even if all threads are busy.
    async def answer() -> Response:
        problem = check()
        if problem is not None:
            return PlainTextResponse(f"{problem}\n", 503)
        return PlainTextResponse("ok\n")

    return answer
