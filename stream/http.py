"""Metrics, health and camera states over HTTP.

`/metrics` Prometheus text; `/startup` has warm-up finished; `/ready` is it analysing; `/live` is the analysis moving;
`/cameras` states as JSON.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from typing import Any

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import Field
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from configs import ConfigError, StrictModel

__all__ = ["HttpConfig", "HttpServer"]


class HttpConfig(StrictModel):
    """Where to listen."""

    enabled: bool = Field(True, description="serve metrics and health")
    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 for all")
    port: int = Field(9108, ge=0, le=65535, description="port to listen on; 0 for any free one")


class HttpServer:
    """Serves in its own thread from construction to `close`.

    Args:
        metrics: the text of `/metrics`.
        checks: name of a health check (`live`, `ready`, `startup`) to a function that returns None or what is wrong.
        cameras: the value of `/cameras`.

    Raises:
        ConfigError: the address cannot be listened on.
    """

    def __init__(
        self, config: HttpConfig, *, metrics: Callable[[], bytes],
        checks: dict[str, Callable[[], str | None]], cameras: Callable[[], list[dict[str, Any]]],
    ) -> None:  # fmt: skip
        self._socket = _listen(config)
        self.port: int = self._socket.getsockname()[1]
        routes = [
            Route("/metrics", lambda request: Response(metrics(), media_type=CONTENT_TYPE_LATEST)),
            Route("/cameras", lambda request: JSONResponse(cameras())),
            *(Route(f"/{name}", _health(check)) for name, check in checks.items()),
        ]
        settings = uvicorn.Config(
            Starlette(routes=routes),
            log_config=None,
            log_level=logging.WARNING,
            access_log=False,
            timeout_graceful_shutdown=1,
            lifespan="off",
        )
        self._server = uvicorn.Server(settings)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="http", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.should_exit = True
        self._thread.join(3)
        self._socket.close()


def _health(check: Callable[[], str | None]) -> Callable[[Request], Response]:
    def answer(request: Request) -> Response:
        problem = check()
        return PlainTextResponse("ok\n") if problem is None else PlainTextResponse(problem + "\n", status_code=503)

    return answer


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
            f"http: cannot listen on {config.host}:{config.port}: {getattr(error, 'strerror', None) or error}; "
            "set http.port to a free port (0 takes any) or http.enabled: false"
        ) from None
    return listening
