"""Headers that every answer has, whatever its status and port."""

from __future__ import annotations

import http.client
import socket

import pytest

from tests.stream.serve.rig import Rig
from tests.stream.serve.test_server import make_server

EXPECTED = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
}


def headers_of(port: int, method: str, path: str, **headers: str) -> tuple[int, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}
    finally:
        connection.close()


def test_every_answer_has_them(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ValueError

    seen = set()
    for method, path, headers in (
        ("GET", "/cameras", {}),
        ("GET", "/metrics", {}),
        ("HEAD", "/metrics", {}),
        ("GET", "/live", {}),
        ("GET", "/openapi.json", {}),
        ("POST", "/cameras", {}),
        ("PUT", "/cameras", {}),
        ("GET", "/nowhere", {}),
        ("GET", "/cameras", {"Host": "evil.example"}),
        ("GET", "/metrics", {"Host": "evil.example"}),
        ("DELETE", "/cameras/a", {}),
    ):
        status, found = headers_of(rig.server.port, method, path, **headers)
        assert found | EXPECTED == found, (method, path)
        seen.add(status)
    monkeypatch.setattr(rig.manager, "describe_all", fail)
    status, found = headers_of(rig.server.port, "GET", "/cameras")
    assert found | EXPECTED == found
    assert seen | {status} == {200, 204, 403, 404, 405, 415, 421, 500}


def test_the_second_port_sends_them_too() -> None:
    server = make_server(probe_port=0)
    server.start()
    try:
        assert server.probe_port is not None
        for path, status in (("/metrics", 200), ("/ready", 503), ("/nowhere", 404)):
            answer = headers_of(server.probe_port, "GET", path)
            assert answer[0] == status
            assert answer[1] | EXPECTED == answer[1]
    finally:
        server.close()


def test_what_is_not_http_is_refused_with_them(rig: Rig) -> None:
    with socket.create_connection(("127.0.0.1", rig.server.port), timeout=5) as client:
        client.sendall(b"nonsense\r\n\r\n")
        answer = http.client.HTTPResponse(client)
        answer.begin()
        found = {name.lower(): value for name, value in answer.getheaders()}
        assert answer.status == 400
        assert found | EXPECTED == found
