"""The HTTP server listens on the configured ports and answers requests in separate threads."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

from configs import ConfigError
from stream.serve.access import Access, is_local
from stream.serve.app import create_app, create_probe_app
from stream.serve.config import HttpConfig
from stream.serve.connections import limited_to
from stream.serve.dependencies import CameraControl, Services, TopicControl
from stream.serve.discovery import DiscoveryRunner
from stream.serve.health import Check, health_report, health_router
from stream.serve.hosts import HostRule

__all__ = ["HttpServer"]

_STOP_SECONDS = 3.0
_BACKLOG = 64
# Bytes of one connection that wait in the system for a client that reads slowly. Without this
# setting they may become several megabytes, and the server would learn only after a third of them
# that the client still reads.
_SEND_BUFFER_BYTES = 131_072
# Headers of every answer of both ports, whatever its status.
_ANSWER_HEADERS = [
    # Metrics, names of cameras and pictures are kept by no browser or proxy.
    ("Cache-Control", "no-store"),
    # What is sent as text or as a picture is not run as a script or shown inside another page.
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    # Paths contain names of cameras.
    ("Referrer-Policy", "no-referrer"),
]
_log = logging.getLogger(__name__)


class HttpServer:
    """Serves metrics, health, cameras and pictures of events from `start` to `close`.

    The constructor opens the ports, so that an unusable address is reported early.

    Args:
        config: settings of the section `http`.
        metrics: function that returns the text of `/metrics`.
        openmetrics: function that returns it in the format OpenMetrics; None: requests cannot ask
            for it.
        checks: health check of each probe, by its name: `live`, `ready`, `startup`.
        cameras: function called at each request; it returns None while the pipeline is loading.
        report: function that returns the answer of `/health`; None for a report of the checks.
        snapshots: folders of the pictures of events, served under `/snapshots`; empty for none.
        topic: takes changes of cameras if they live in a topic; None if they do not.
        discovery: looks for cameras; None: by the command `discover`.

    Raises:
        ConfigError: the server cannot listen on an address, or the token cannot be read.
    """

    def __init__(
        self,
        config: HttpConfig,
        *,
        metrics: Callable[[], bytes],
        openmetrics: Callable[[], bytes] | None = None,
        checks: Mapping[str, Check],
        cameras: Callable[[], CameraControl | None],
        report: Callable[[], Mapping[str, Any]] | None = None,
        snapshots: Sequence[Path] = (),
        topic: TopicControl | None = None,
        discovery: DiscoveryRunner | None = None,
    ) -> None:
        token = config.secret()
        hosts = HostRule(config.hosts)

        def only_checks() -> Mapping[str, Any]:
            return health_report(checks, (), load={})

        health = health_router(
            metrics, checks, report or only_checks, hosts=hosts, openmetrics=openmetrics
        )
        self._listeners: list[_Listener] = []
        with contextlib.ExitStack() as opened:
            main = opened.enter_context(_listen(config.host, config.port, "http.port"))
            access = Access(token, listens_locally=is_local(main.getsockname()[0]))
            services = Services(
                cameras,
                access,
                config.max_body_bytes,
                snapshots,
                topic,
                discovery or DiscoveryRunner(),
            )
            app = create_app(services, health, hosts)
            self._main = _Listener(main, app, config, thread_name="http")
            self._listeners.append(self._main)
            if config.probe_port is not None:
                probes = opened.enter_context(
                    _listen(config.host, config.probe_port, "http.probe_port")
                )
                app = create_probe_app(health)
                self._listeners.append(_Listener(probes, app, config, thread_name="http-probes"))
            self._opened = opened.pop_all()

    @property
    def port(self) -> int:
        """The main port; if the setting is 0, the port that was chosen."""
        return self._main.port

    @property
    def address(self) -> str:
        """The address of the main port, such as `http://127.0.0.1:9108`."""
        return self._main.address

    @property
    def probe_port(self) -> int | None:
        """The port that serves only metrics and probes; None if there is none."""
        return self._listeners[1].port if len(self._listeners) > 1 else None

    def start(self) -> None:
        """Start to answer requests."""
        for listener in self._listeners:
            listener.start()
        _log.info("metrics, health and cameras at %s", self.address)
        for listener in self._listeners[1:]:
            _log.info("only metrics and health at %s", listener.address)

    def close(self) -> None:
        """Stop listening; running requests have one second to finish."""
        for listener in self._listeners:
            listener.stop()
        for listener in self._listeners:
            listener.join()
        self._opened.close()


class _Listener:
    """Serves one application on one port, in its own thread."""

    def __init__(
        self, listening: socket.socket, app: FastAPI, config: HttpConfig, *, thread_name: str
    ) -> None:
        self._socket = listening
        self.port: int = listening.getsockname()[1]
        host = f"[{config.host}]" if ":" in config.host else config.host
        self.address = f"http://{host}:{self.port}"
        settings = uvicorn.Config(
            app,
            http=limited_to(config.max_connections),
            # A connection that becomes a WebSocket would leave the limits of connections.
            ws="none",
            headers=_ANSWER_HEADERS,
            proxy_headers=False,
            server_header=False,
            lifespan="off",
            log_config=None,
            log_level=logging.CRITICAL,
            access_log=False,
            timeout_graceful_shutdown=1,
            timeout_keep_alive=5,
        )
        self.server = uvicorn.Server(settings)
        self._thread = threading.Thread(target=self._run, name=thread_name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.server.should_exit = True

    def join(self) -> None:
        if self._thread.is_alive():
            self._thread.join(_STOP_SECONDS)

    def _run(self) -> None:
        self.server.run([self._socket])


def _listen(host: str, port: int, setting: str) -> socket.socket:
    """Open a listening socket; `setting` is the name of the port's setting, for messages."""
    with contextlib.ExitStack() as opened:
        try:
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            listening = opened.enter_context(socket.socket(family, socket.SOCK_STREAM))
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
            listening.bind((host, port))
            listening.listen(_BACKLOG)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(
                f"http: cannot listen on {host}:{port}: {reason}; "
                f"set {setting} to a free port (0 takes any) or http.enabled: false"
            ) from None
        opened.pop_all()
    return listening
