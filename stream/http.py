"""Metrics, health and cameras over HTTP.

`/metrics` Prometheus text; `/startup` has warm-up finished; `/ready` is it analysing; `/live` is
the analysis moving; `/cameras` lists, adds, changes, pauses and removes; `/openapi.json` describes
all of it. Without a token only programs on this machine may use `/cameras`; with one, those that
send it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import json
import logging
import re
import socket
import threading
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import Field, SecretStr, model_validator
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from configs import CameraError, ConfigError, OutputPath, StrictModel
from stream.openapi import document

__all__ = ["Cameras", "HttpConfig", "HttpServer"]

_STATUS = {
    "unknown": 404,
    "exists": 409,
    "no_room": 409,
    "invalid": 422,
    "not_kept": 507,
    "stopping": 503,
}
# Whoever connects and sends no whole request within this time is cut off: idle connections must not
# use up the places.
_REQUEST_SECONDS = 10.0
_log = logging.getLogger(__name__)


class _Impatient(H11Protocol):
    """Cuts off connections that send no request, and the oldest when there are too many: probes
    of health always get in.
    """

    most_connections = 64
    _limit: asyncio.TimerHandle | None = None
    _awaited_after: Any = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._since = self.loop.time()
        self._expect_request()
        open_ones: list[Any] = [
            each for each in self.connections if not each.transport.is_closing()
        ]
        for each in sorted(open_ones, key=lambda each: each._since)[
            : max(0, len(open_ones) - self.most_connections)
        ]:
            each.transport.abort()

    def data_received(self, data: bytes) -> None:
        answered = self.cycle
        super().data_received(data)
        if self.cycle is answered and (answered is None or answered.response_complete):
            self._expect_request()  # a beginning: uvicorn waits for the rest for ever

    def _expect_request(self) -> None:
        if self._limit is not None:
            if self._awaited_after is self.cycle:
                return  # its time runs already: a byte now and then does not prolong it
            self._limit.cancel()
        self._awaited_after = self.cycle
        self._limit = self.loop.call_later(_REQUEST_SECONDS, self._cut_off, self.cycle)

    def _cut_off(self, answered: Any) -> None:
        if self.cycle is answered:
            self.transport.close()


class HttpConfig(StrictModel):
    """Where to listen, and who may change cameras."""

    enabled: bool = Field(True, description="serve metrics and health, and take changes of cameras")
    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 for all")
    port: int = Field(9108, ge=0, le=65535, description="port to listen on; 0 for any free one")
    token: SecretStr | None = Field(
        None,
        description="bearer token that /cameras asks for; without one it serves this machine alone",
    )
    token_file: Path | None = Field(None, description="file that holds the token instead")
    changes: OutputPath | None = Field(
        None,
        description=(
            "file that keeps changes of cameras across restarts; null: beside the outbox, under its"
            " name and .cameras.json"
        ),
    )
    most_body_bytes: int = Field(
        65_536, ge=1024, le=16_777_216, description="longer requests are refused"
    )
    most_connections: int = Field(
        64, ge=4, le=4096, description="when there are more at once the oldest is cut off"
    )

    @model_validator(mode="after")
    def _check(self) -> HttpConfig:
        if self.token is not None and self.token_file is not None:
            raise ValueError("give token or token_file, not both")
        if self.token is not None:
            token = self.token.get_secret_value()
            if not token or not token.isascii() or token != token.strip():
                raise ValueError(
                    "token must be plain ASCII without spaces around it, and not empty"
                )
        return self

    def secret(self) -> str | None:
        """The token.

        Raises:
            ConfigError: its file cannot be read or is empty.
        """
        if self.token_file is None:
            return self.token.get_secret_value() if self.token else None
        try:
            token = self.token_file.read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"http.token_file {self.token_file} cannot be read: {error}"
            ) from None
        if not token or not token.isascii():
            raise ConfigError(f"http.token_file {self.token_file} must hold a token of plain ASCII")
        return token


class Cameras(Protocol):
    """What can be done to the cameras of a running pipeline; all raise CameraError."""

    def describe_all(self) -> list[dict[str, Any]]:
        """Every camera."""

    def describe(self, camera_id: str) -> dict[str, Any]:
        """One camera."""

    def add(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Add one."""

    def change(self, camera_id: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Change some settings of one."""

    def pause(self, camera_id: str) -> dict[str, Any]:
        """Stop one and keep it."""

    def resume(self, camera_id: str) -> dict[str, Any]:
        """Start a paused one."""

    def remove(self, camera_id: str) -> None:
        """Remove one."""


class HttpServer:
    """Serves in its own thread from construction to `close`.

    Args:
        metrics: the text of `/metrics`.
        checks: name of a health check (`live`, `ready`, `startup`) to a function that returns None
            or what is wrong.
        cameras: asked at each request; None while the pipeline is still loading.
        snapshots: folder of the pictures of events, served below `/snapshots`; None for none.

    Raises:
        ConfigError: the address cannot be listened on, or the token cannot be read.
    """

    def __init__(
        self,
        config: HttpConfig,
        *,
        metrics: Callable[[], bytes],
        checks: dict[str, Callable[[], str | None]],
        cameras: Callable[[], Cameras | None],
        snapshots: Path | None = None,
    ) -> None:
        self._config = config
        self._token = config.secret()
        self._cameras = cameras
        self._snapshots = snapshots
        self._socket = _listen(config)
        self.port: int = self._socket.getsockname()[1]
        host = f"[{config.host}]" if ":" in config.host else config.host
        self.address = f"http://{host}:{self.port}"
        self._is_private = _is_local(self._socket.getsockname()[0])
        routes = [
            Route("/metrics", lambda request: Response(metrics(), media_type=CONTENT_TYPE_LATEST)),
            Route("/openapi.json", lambda request: JSONResponse(document())),
            Route("/cameras", self._guarded(self._all), methods=["GET", "POST"]),
            Route(
                "/cameras/{camera_id}", self._guarded(self._one), methods=["GET", "PATCH", "DELETE"]
            ),
            Route("/cameras/{camera_id}/pause", self._guarded(self._pause), methods=["POST"]),
            Route("/cameras/{camera_id}/resume", self._guarded(self._resume), methods=["POST"]),
            *(Route(f"/{name}", _health(check)) for name, check in checks.items()),
        ]
        if snapshots is not None:
            routes.append(Route("/snapshots/{camera_id}/{name}", self._guarded(self._snapshot)))
        app = Starlette(
            routes=routes, exception_handlers={HTTPException: _explain, Exception: _report}
        )
        protocol = type("Bounded", (_Impatient,), {"most_connections": config.most_connections})
        settings = uvicorn.Config(
            app,
            http=protocol,
            proxy_headers=False,
            server_header=False,
            lifespan="off",
            log_config=None,
            log_level=logging.CRITICAL,
            access_log=False,
            timeout_graceful_shutdown=1,
            timeout_keep_alive=5,
        )
        self._server = uvicorn.Server(settings)
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), name="http", daemon=True
        )
        self._thread.start()
        _log.info("metrics, health and cameras at %s", self.address)

    def close(self) -> None:
        """Stop listening."""
        self._server.should_exit = True
        self._thread.join(3)
        self._socket.close()

    def _guarded(
        self, answer: Callable[[Request, Cameras], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def guarded(request: Request) -> Response:
            self._authorise(request)
            cameras = self._cameras()
            if cameras is None:
                raise HTTPException(
                    503, "still loading; try again in a moment", {"Retry-After": "2"}
                )
            try:
                return await answer(request, cameras)
            except CameraError as error:
                raise HTTPException(_STATUS[error.kind], str(error)) from None

        return guarded

    def _authorise(self, request: Request) -> None:
        if self._token is not None:
            scheme, _, given = request.headers.get("authorization", "").partition(" ")
            if scheme.lower() != "bearer" or not hmac.compare_digest(
                given.strip().encode(), self._token.encode()
            ):
                raise HTTPException(
                    401,
                    "send the header Authorization: Bearer TOKEN with the token of http.token",
                    {"WWW-Authenticate": "Bearer"},
                )
            return
        # What a browser or a forwarder on this machine sends for others shows in these headers.
        foreign = any(
            name in request.headers for name in ("origin", "forwarded", "x-forwarded-for")
        )
        foreign = foreign or request.headers.get("sec-fetch-site", "none") not in (
            "none",
            "same-origin",
        )
        if foreign or not (self._is_private and _names_local(request.headers.get("host", ""))):
            raise HTTPException(
                403,
                "cameras are served to programs on this machine alone; set http.token to serve"
                " others",
            )

    async def _all(self, request: Request, cameras: Cameras) -> Response:
        if request.method in ("GET", "HEAD"):
            return JSONResponse(await run_in_threadpool(cameras.describe_all))
        fields = await self._document(request)
        return JSONResponse(await run_in_threadpool(cameras.add, fields), 201)

    async def _one(self, request: Request, cameras: Cameras) -> Response:
        camera_id = request.path_params["camera_id"]
        if request.method in ("GET", "HEAD"):
            return JSONResponse(await run_in_threadpool(cameras.describe, camera_id))
        if request.method == "DELETE":
            await run_in_threadpool(cameras.remove, camera_id)
            return Response(status_code=204)
        fields = await self._document(request)
        return JSONResponse(await run_in_threadpool(cameras.change, camera_id, fields))

    async def _pause(self, request: Request, cameras: Cameras) -> Response:
        return JSONResponse(
            await run_in_threadpool(cameras.pause, request.path_params["camera_id"])
        )

    async def _resume(self, request: Request, cameras: Cameras) -> Response:
        return JSONResponse(
            await run_in_threadpool(cameras.resume, request.path_params["camera_id"])
        )

    async def _snapshot(self, request: Request, cameras: Cameras) -> Response:
        path = await run_in_threadpool(
            self._find_snapshot, request.path_params["camera_id"], request.path_params["name"]
        )
        if path is None:
            raise HTTPException(
                404, "there is no such picture; it may have been deleted for its age"
            )
        return FileResponse(path, media_type="image/jpeg")

    def _find_snapshot(self, camera_id: str, name: str) -> Path | None:
        assert self._snapshots is not None
        with contextlib.suppress(OSError, ValueError):
            folder = self._snapshots.resolve()
            path = (folder / camera_id / name).resolve()
            if path.suffix == ".jpg" and path.parent.parent == folder and path.is_file():
                return path
        return None

    async def _body(self, request: Request) -> bytes:
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > self._config.most_body_bytes:
                raise HTTPException(
                    413,
                    "the request is longer than http.most_body_bytes:"
                    f" {self._config.most_body_bytes}",
                )
        return body

    async def _document(self, request: Request) -> dict[str, Any]:
        if (
            request.headers.get("content-type", "").partition(";")[0].strip().lower()
            != "application/json"
        ):
            raise HTTPException(
                415, "send a JSON object with the header Content-Type: application/json"
            )
        try:
            body = await asyncio.wait_for(self._body(request), _REQUEST_SECONDS)
        except TimeoutError:
            raise HTTPException(
                408, f"the request was not complete after {_REQUEST_SECONDS:g} s"
            ) from None
        except ClientDisconnect:
            raise HTTPException(400, "the connection ended within the request") from None
        try:
            fields = json.loads(body)
        except (ValueError, RecursionError):
            raise HTTPException(400, "the request is not valid JSON") from None
        if not isinstance(fields, dict):
            raise HTTPException(422, "the request must be a JSON object of camera settings")
        return fields


async def _report(request: Request, error: Exception) -> Response:
    _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return JSONResponse({"error": "internal error, see the log"}, 500)


async def _explain(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)


def _health(check: Callable[[], str | None]) -> Callable[[Request], Awaitable[Response]]:
    # in the event loop: it must answer even when threads are scarce
    async def answer(request: Request) -> Response:
        problem = check()
        return (
            PlainTextResponse("ok\n")
            if problem is None
            else PlainTextResponse(problem + "\n", status_code=503)
        )

    return answer


def _is_local(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _names_local(header: str) -> bool:
    """Whether a Host header is a name of this machine, with a port or without."""
    match = re.fullmatch(r"(?:\[([0-9a-f:.]+)\]|([^\[\]:@\s]+))(?::\d{0,5})?", header.lower())
    return match is not None and _is_local(match[1] or match[2])


def _listen(config: HttpConfig) -> socket.socket:
    listening = None
    try:
        family = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((config.host, config.port))
        listening.listen(64)
    except (OSError, UnicodeError) as error:
        if listening is not None:
            listening.close()
        raise ConfigError(
            f"http: cannot listen on {config.host}:{config.port}:"
            f" {getattr(error, 'strerror', None) or error}; set http.port to a free port (0 takes"
            " any) or http.enabled: false"
        ) from None
    return listening
