"""Clients that are slow in every other way: each is cut off, and none leaves anything behind."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from stream.serve import connections
from stream.serve.config import HttpConfig
from stream.serve.server import HttpServer
from tests.stream.serve.rig import Rig
from tests.support.waiting import until

HOST = b"Host: localhost\r\n"
CAMERA = b"POST /cameras HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
LIVE = b"GET /live HTTP/1.1\r\n" + HOST
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
LONG = b"Content-Length: 60000\r\n\r\n"
# What the client sends first, and what it goes on sending, a little at a time.
SLOW = {
    "headers": (LIVE, b"a: b\r\n"),
    "body": (CAMERA + LONG, b" "),
    "chunks without end": (CAMERA + CHUNKED, b"1\r\n \r\n"),
    "body that nobody reads": (LIVE + LONG, b" "),
    "chunks that nobody reads": (LIVE + CHUNKED, b"1\r\n \r\n"),
    "body after Expect": (CAMERA + b"Expect: 100-continue\r\n" + LONG, b" "),
    "body that nobody reads after Expect": (LIVE + b"Expect: 100-continue\r\n" + LONG, b" "),
    "last of several requests": ((LIVE + b"\r\n") * 5 + b"GET /l", b"i"),
    "body of the second request": (LIVE + b"\r\n" + CAMERA + LONG, b" "),
    "extension of a chunk": (CAMERA + CHUNKED + b"1;", b"a"),
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[HttpServer]:
    """A server whose metrics and picture are longer than what sockets take unread."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a/e.jpg").write_bytes(bytes(16_000_000))
    metrics = b"m 1\n" * 4_000_000
    made = HttpServer(
        HttpConfig(port=0, max_connections=8),
        metrics=lambda: metrics,
        checks={"live": lambda: None},
        cameras=lambda: SimpleNamespace(),
        snapshots=(tmp_path,),
    )
    made.start()
    yield made
    made.close()


def connections_of(server: HttpServer) -> int:
    return len(server._main.server.server_state.connections)


@contextlib.contextmanager
def deaf_client(server: HttpServer, request: bytes) -> Iterator[socket.socket]:
    """Send a request and read nothing."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(5)
        client.connect(("127.0.0.1", server.port))
        client.sendall(request)
        yield client


@pytest.mark.parametrize("kind", SLOW)
def test_a_request_that_drips_ends_in_time(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(connections, "MAX_REQUEST_SECONDS", 0.3)
    first, more = SLOW[kind]
    with socket.create_connection(("127.0.0.1", rig.server.port), timeout=5) as client:
        client.sendall(first)
        client.setblocking(False)

        def is_cut_off() -> bool:
            try:
                client.send(more)
                return client.recv(65536) == b""
            except BlockingIOError:
                return False
            except OSError:
                return True

        assert until(is_cut_off)
    assert until(lambda: connections_of(rig.server) == 0)
    assert [each["id"] for each in rig.ask("GET", "/cameras")[1]] == ["a"]


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /metrics HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /metrics HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n",
        b"GET /snapshots/a/e.jpg HTTP/1.1\r\n" + HOST + b"\r\n",
        (b"GET /openapi.json HTTP/1.1\r\n" + HOST + b"\r\n") * 1000,
    ],
    ids=["metrics", "metrics and close", "picture", "many requests"],
)
def test_a_client_that_does_not_read_its_answer_is_cut_off(
    server: HttpServer, monkeypatch: pytest.MonkeyPatch, request_bytes: bytes
) -> None:
    monkeypatch.setattr(connections, "MAX_ANSWER_SECONDS", 0.3)
    with deaf_client(server, request_bytes):
        assert until(lambda: connections_of(server) == 1)
        assert until(lambda: connections_of(server) == 0)


def test_a_client_that_reads_slowly_gets_its_whole_answer(
    server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MAX_ANSWER_SECONDS", 2.0)
    request = b"GET /snapshots/a/e.jpg HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n"
    length = 0
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
        client.sendall(request)
        for _ in range(30):  # longer than the limit in all
            time.sleep(0.1)
            length += len(client.recv(65536))
        while received := client.recv(1 << 20):
            length += len(received)
    assert length > 16_000_000


def test_however_many_do_not_read_their_answers_the_number_of_connections_is_bounded(
    server: HttpServer,
) -> None:
    request = b"GET /metrics HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n"
    with contextlib.ExitStack() as held:
        clients = []
        for _ in range(30):
            clients.append(held.enter_context(deaf_client(server, request)))
            # The answer is there, so that the server closes this connection.
            with contextlib.suppress(OSError):
                assert clients[-1].recv(1) == b"H"
            assert until(lambda: connections_of(server) <= 8)
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as probe:
            probe.sendall(LIVE + b"\r\n")
            assert probe.recv(12) == b"HTTP/1.1 200"


@pytest.mark.parametrize(
    "request_bytes",
    [
        LIVE + b"X: " + b"a" * 1_000_000,
        LIVE + b"a: b\r\n" * 100_000,
        b"GET /" + b"a" * 1_000_000,
        CAMERA + CHUNKED + b"1;" + b"a" * 1_000_000,
        CAMERA + b"Content-Length: 90000000\r\n\r\n" + b" " * 1_000_000,
    ],
    ids=["header", "headers", "path", "extension of a chunk", "body"],
)
def test_what_is_too_long_ends_at_once(rig: Rig, request_bytes: bytes) -> None:
    with (
        socket.create_connection(("127.0.0.1", rig.server.port), timeout=5) as client,
        contextlib.suppress(OSError),
    ):
        client.sendall(request_bytes)
        assert client.recv(9) == b"HTTP/1.1 "
    assert until(lambda: connections_of(rig.server) == 0)


@pytest.mark.parametrize("path", [LIVE, CAMERA], ids=["not read", "read"])
@pytest.mark.parametrize("pause", [0.0, 0.3], ids=["while it is answered", "once it is answered"])
def test_a_body_that_becomes_nonsense_is_not_our_fault(
    rig: Rig, caplog: pytest.LogCaptureFixture, path: bytes, pause: float
) -> None:
    with socket.create_connection(("127.0.0.1", rig.server.port), timeout=5) as client:
        client.sendall(path + CHUNKED)
        time.sleep(pause)
        client.sendall(b"nonsense\r\n\r\n")
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while more := client.recv(65536):
                received += more
    assert received.count(b"HTTP/1.1 ") == 1
    assert until(lambda: connections_of(rig.server) == 0)
    assert not caplog.records


def test_many_requests_at_once_are_answered_one_after_the_other(rig: Rig) -> None:
    with socket.create_connection(("127.0.0.1", rig.server.port), timeout=5) as client:
        sender = threading.Thread(target=client.sendall, args=((LIVE + b"\r\n") * 500,))
        sender.start()
        received = b""
        while received.count(b"HTTP/1.1 200") < 500:
            more = client.recv(65536)
            assert more
            received += more
        sender.join()


def test_a_connection_does_not_become_a_websocket(rig: Rig) -> None:
    upgrade = (
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", rig.server.port), timeout=5) as client:
        client.sendall(LIVE + upgrade)
        assert client.recv(12) == b"HTTP/1.1 200"
        assert connections_of(rig.server) == 1
