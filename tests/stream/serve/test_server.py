"""Ports that the server listens on, and when it answers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from configs import ConfigError
from stream.serve.config import HttpConfig
from stream.serve.server import HttpServer
from tests.stream.serve.test_health import get


def make_server(**settings: int) -> HttpServer:
    return HttpServer(
        HttpConfig.model_validate({"port": 0} | settings),
        metrics=lambda: b"m 1\n",
        checks={"live": lambda: None, "ready": lambda: "still loading"},
        cameras=lambda: None,
    )


@pytest.fixture
def port_in_use() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


def test_a_port_in_use_is_named(port_in_use: int) -> None:
    reason = f"cannot listen on 127.0.0.1:{port_in_use}: Address already in use"
    with pytest.raises(ConfigError, match=f"{reason}; set http.port"):
        make_server(port=port_in_use)
    with pytest.raises(ConfigError, match=f"{reason}; set http.probe_port"):
        make_server(probe_port=port_in_use)


def test_a_server_without_a_port_for_probes_keeps_no_other_port(port_in_use: int) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        free = listening.getsockname()[1]
    with pytest.raises(ConfigError):
        make_server(port=free, probe_port=port_in_use)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", free))  # the first port was given back


def test_threads_start_with_start_and_end_with_close() -> None:
    before = threading.active_count()
    server = make_server(probe_port=0)
    assert threading.active_count() == before
    server.start()
    assert threading.active_count() >= before + 2
    assert get(server.port, "/live") == (200, "ok\n")
    server.close()
    names = [thread.name for thread in threading.enumerate()]
    assert not {"http", "http-probes"} & set(names)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), timeout=5)


def test_a_server_that_never_started_can_be_closed() -> None:
    server = make_server()
    server.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), timeout=5)


def test_the_port_for_probes_serves_metrics_and_probes_alone() -> None:
    server = make_server(probe_port=0)
    server.start()
    try:
        assert server.probe_port not in (None, server.port)
        for port in (server.port, server.probe_port):
            assert port is not None
            assert get(port, "/live") == (200, "ok\n")
            assert get(port, "/ready") == (503, "still loading\n")
            assert get(port, "/metrics") == (200, "m 1\n")
        assert server.probe_port is not None
        for path in ("/cameras", "/openapi.json", "/snapshots/a/e.jpg"):
            assert get(server.probe_port, path) == (404, '{"error":"Not Found"}')
        assert get(server.port, "/cameras")[0] == 503
    finally:
        server.close()
