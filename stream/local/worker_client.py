"""Requests to the HTTP interface of a worker, from the process that started it."""

from __future__ import annotations

import contextlib
import http.client
import json
import urllib.parse
from collections.abc import Mapping
from typing import Any

from configs import CameraError

__all__ = ["WorkerClient"]

_SECONDS = 10.0  # a change of a camera may wait for a disk
_LOOK_SECONDS = 3.0
_KINDS = {404: "unknown", 409: "exists", 422: "invalid", 507: "not_kept"}


class WorkerClient:
    """Speaks to one worker. Any thread may call its methods; each request has its connection.

    Args:
        name: of the worker, for messages.
        address: such as `http://127.0.0.1:40123`.
    """

    def __init__(self, name: str, address: str, token: str) -> None:
        self._name = name
        self._host = urllib.parse.urlsplit(address).netloc
        self._token = token

    def metrics(self, *, openmetrics: bool = False) -> str:
        """Return the text of `/metrics`; empty if the worker does not answer.

        Args:
            openmetrics: whether to ask for the format OpenMetrics.
        """
        accept = {"Accept": "application/openmetrics-text"} if openmetrics else {}
        with contextlib.suppress(OSError, http.client.HTTPException):
            answer = self._request("GET", "/metrics", seconds=_LOOK_SECONDS, headers=accept)
            return answer[1].decode()
        return ""

    def health(self) -> dict[str, Any] | None:
        """Return the report of `/health`; None if the worker does not answer."""
        with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
            report = json.loads(self._request("GET", "/health", seconds=_LOOK_SECONDS)[1])
            return report if isinstance(report, dict) else None
        return None

    def call(self, method: str, path: str, fields: Mapping[str, Any] | None = None) -> Any:
        """Return the JSON that a request to `/cameras` gives; None if the answer is empty.

        Raises:
            CameraError: the worker refuses the request or does not answer.
        """
        try:
            status, body = self._request(method, path, fields, seconds=_SECONDS)
            answer = json.loads(body) if body else None
        except (OSError, ValueError, http.client.HTTPException):
            raise CameraError(
                f"worker {self._name} does not answer; it may be starting again. Try again later",
                "hanging",
            ) from None
        if status < 400:
            return answer
        message = answer.get("error") if isinstance(answer, dict) else None
        kind = _KINDS.get(status, "hanging")
        raise CameraError(str(message or f"worker {self._name} answered {status}"), kind)

    def _request(
        self,
        method: str,
        path: str,
        fields: Mapping[str, Any] | None = None,
        *,
        seconds: float,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self._host, timeout=seconds)
        with contextlib.closing(connection):
            sent = {"Authorization": f"Bearer {self._token}", **(headers or {})}
            body = None
            if fields is not None:
                sent["Content-Type"] = "application/json"
                body = json.dumps(fields)
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            return answer.status, answer.read()
