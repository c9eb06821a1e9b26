"""`/metrics` for Prometheus, and the probes `/startup`, `/ready` and `/live`; open to everybody."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from stream.serve.schemas import errors

__all__ = ["Check", "health_router"]

# Returns what is wrong, or None.
Check = Callable[[], str | None]

_SUMMARIES = {
    "startup": "Whether warm-up has finished",
    "ready": "Whether cameras are being analysed",
    "live": "Whether the analysis is moving",
}
_TEXT: dict[str, Any] = {"text/plain": {"schema": {"type": "string"}}}
_UNHEALTHY: dict[int | str, dict[str, Any]] = {
    503: {"description": "no, and why", "content": _TEXT}
}


def health_router(metrics: Callable[[], bytes], checks: Mapping[str, Check]) -> APIRouter:
    """Make the routes of metrics and probes.

    Args:
        metrics: returns the text of `/metrics`.
        checks: the function behind each probe, by name: `startup`, `ready`, `live`.
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
            response_description="yes",
            responses=_UNHEALTHY,
        )
    return router


def _exposition(metrics: Callable[[], bytes]) -> Callable[[], Response]:
    def answer() -> Response:
        return Response(metrics(), media_type=CONTENT_TYPE_LATEST)

    return answer


def _probe(check: Check) -> Callable[[], Awaitable[Response]]:
    # In the event loop: a probe must be answered even when every thread is busy.
    async def answer() -> Response:
        problem = check()
        if problem is not None:
            return PlainTextResponse(f"{problem}\n", 503)
        return PlainTextResponse("ok\n")

    return answer
