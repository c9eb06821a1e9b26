"""Slow, idle and too many connections."""

from __future__ import annotations

import contextlib
import socket
import time
import urllib.request

import pytest

from stream.serve import connections
from tests.stream.serve.rig import Rig, crowd
from tests.support.waiting import until

UNFINISHED = (
    b"POST /cameras HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: application/json\r\nContent-Length: 9\r\n\r\n"
)


def test_connections_that_say_nothing_are_cut_off(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MAX_REQUEST_SECONDS", 0.3)
    with crowd(rig, b"", 40) as idle:
        assert all(each.recv(1) == b"" for each in idle)


@pytest.mark.parametrize("said", [b"", UNFINISHED], ids=["idle", "unfinished"])
def test_however_many_connect_health_is_answered_and_the_oldest_go(rig: Rig, said: bytes) -> None:
    with (
        crowd(rig, said, 200) as held,
        urllib.request.urlopen(f"http://127.0.0.1:{rig.server.port}/live", timeout=5) as answer,
    ):
        assert answer.status == 200
        held_open = rig.server._main.server.server_state.connections
        assert until(lambda: len(held_open) <= 64)
        for each in held[:100]:
            with contextlib.suppress(ConnectionResetError):
                assert each.recv(1) == b""


def test_a_connection_that_begins_a_second_request_and_goes_silent_is_cut_off(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MAX_REQUEST_SECONDS", 0.3)
    with socket.create_connection(("127.0.0.1", rig.server.port), timeout=5) as client:
        client.sendall(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while not answer.endswith(b"ok\n"):
            answer += client.recv(65536)
        client.sendall(b"GET /l")
        assert client.recv(65536) == b""


def test_a_request_that_drips_is_cut_off(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_REQUEST_SECONDS", 0.3)
    with socket.create_connection(("127.0.0.1", rig.server.port), timeout=5) as client:
        started = time.monotonic()
        with contextlib.suppress(OSError):
            while time.monotonic() - started < 5:
                client.sendall(b"G")
                time.sleep(0.05)
    assert time.monotonic() - started < 3
