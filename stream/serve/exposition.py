"""The formats of `/metrics`: Prometheus's text, and OpenMetrics, which alone has exemplars."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import Request
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST
from prometheus_client.openmetrics.exposition import (
    CONTENT_TYPE_LATEST as CONTENT_TYPE_OPENMETRICS,
)

__all__ = ["OPENMETRICS_CONTENT", "accepts_openmetrics", "exposition"]

_OPENMETRICS = "application/openmetrics-text"
OPENMETRICS_CONTENT: dict[str, Any] = {_OPENMETRICS: {"schema": {"type": "string"}}}


def exposition(
    metrics: Callable[[], bytes], openmetrics: Callable[[], bytes] | None
) -> Callable[[Request], Response]:
    """Return what answers `/metrics`, in the format that the request accepts."""

    def answer(request: Request) -> Response:
        if openmetrics is not None and accepts_openmetrics(request.headers.get("accept", "")):
            return Response(openmetrics(), media_type=CONTENT_TYPE_OPENMETRICS)
        return Response(metrics(), media_type=CONTENT_TYPE_LATEST)

    return answer


def accepts_openmetrics(accept: str) -> bool:
    """Whether a header `Accept` names OpenMetrics and does not prefer plain text."""
    qualities: dict[str, float] = {}
    for part in accept.split(","):
        name, *parameters = (text.strip().lower() for text in part.split(";"))
        qualities[name] = max(qualities.get(name, 0.0), _quality(parameters))
    wanted = qualities.get(_OPENMETRICS, 0.0)
    return wanted > 0 and wanted >= qualities.get("text/plain", 0.0)


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
