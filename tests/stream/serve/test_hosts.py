"""Under which names metrics, health and the document answer, and to whom."""

from __future__ import annotations

import contextlib
import http.client
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream.serve.server import HttpServer
from tests.stream.serve.rig import Rig
from tests.stream.serve.test_server import make_server

NAMING = ("/metrics", "/health", "/openapi.json")
PROBES = ("/live", "/ready", "/startup")


def ask(port: int, path: str, host: str, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with contextlib.closing(connection):
        connection.putrequest("GET", path, skip_host=True)
        connection.putheader("Host", host)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


@pytest.fixture
def both_ports() -> Iterator[HttpServer]:
    server = make_server(probe_port=0)
    server.start()
    yield server
    server.close()


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:9108",
        "10.1.2.3",
        "[2001:db8::1]:9108",
        "localhost",
        "LocalHost:80",
        "pipeline",
        "cidc_stream:9108",
        "stream.cameras.svc",
        "stream.cameras.svc.cluster.local:9108",
        "stream.cameras.svc.cluster.local.",
        "camera-box.local",
        "stream.corp.internal",
        socket.gethostname(),
    ],
)
def test_names_that_no_web_page_can_have_are_answered(rig: Rig, host: str) -> None:
    for path in NAMING:
        assert ask(rig.server.port, path, host)[0] == 200, path


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example.",
        "evil.example:9108",
        "evilsvc.example",
        "local.example",
        "svc.cluster.local.evil.example",
        "127.0.0.1.evil.example",
        "127.0.0.1@evil.example",
        "evil.example/localhost",
        "localhost:80:80",
        "ai.",
        "",
    ],
)
def test_other_names_are_refused_where_cameras_are_named(rig: Rig, host: str) -> None:
    for path in NAMING:
        status, said = ask(rig.server.port, path, host)
        assert (status, "http.hosts" in said) == (421, True), path
    for path in PROBES:
        assert ask(rig.server.port, path, host) == (200, "ok\n")


def test_the_second_port_keeps_to_the_same_rule(both_ports: HttpServer) -> None:
    for port in (both_ports.port, both_ports.probe_port):
        assert port is not None
        assert ask(port, "/metrics", "evil.example")[0] == 421
        assert ask(port, "/health", "evil.example")[0] == 421
        assert ask(port, "/metrics", "127.0.0.1") == (200, "m 1\n")
        assert ask(port, "/live", "evil.example") == (200, "ok\n")


def test_a_token_does_not_replace_the_name_and_names_can_be_added(tmp_path: Path) -> None:
    rig = Rig(tmp_path, token="t", hosts=["Stream.Example.org"])
    try:
        for path in NAMING:
            token = {"Authorization": "Bearer t"}
            assert ask(rig.server.port, path, "evil.example", **token)[0] == 421
            assert ask(rig.server.port, path, "stream.example.org:9108")[0] == 200
            assert ask(rig.server.port, path, "a.stream.example.org")[0] == 421
    finally:
        rig.close()


def test_pages_of_other_sites_do_not_get_it_through_a_browser(rig: Rig) -> None:
    for path in NAMING:
        for site, status in (("cross-site", 403), ("same-origin", 200), ("none", 200)):
            answer = ask(rig.server.port, path, "localhost", **{"Sec-Fetch-Site": site})
            assert answer[0] == status
    assert ask(rig.server.port, "/live", "localhost", **{"Sec-Fetch-Site": "cross-site"})[0] == 200


def test_the_name_of_the_machine_is_answered_without_a_look_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "Stream7.example.com")
    rig = Rig(tmp_path)
    try:
        assert ask(rig.server.port, "/metrics", "stream7.example.com:9108")[0] == 200
        assert ask(rig.server.port, "/metrics", "stream8.example.com")[0] == 421
    finally:
        rig.close()
