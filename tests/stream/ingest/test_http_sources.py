"""Cameras over HTTP, TCP and UDP, against real servers."""

from __future__ import annotations

import contextlib
import functools
import http.server
import io
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from tests.support.broker import certificate, free_port
from tests.support.chaos import TcpCamera, streamed
from tests.support.live_cameras import QUICK, seen
from tests.support.waiting import until


class _Handler(http.server.BaseHTTPRequestHandler):
    """Sends a stream at its own rate."""

    def __init__(self, data: bytes, *arguments: object) -> None:
        self._data = data
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "video/mp2t")
        self.end_headers()
        with contextlib.suppress(OSError):
            streamed(self._data, seconds=3.0)(self.connection, threading.Event())

    def log_message(self, *arguments: object) -> None:
        pass


@contextlib.contextmanager
def web_server(data: bytes, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, data))
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def test_mpegts_over_http_and_tcp(square: bytes) -> None:
    with web_server(square) as port, TcpCamera(streamed(square, seconds=3.0)) as camera:
        for url in (f"http://127.0.0.1:{port}/live.ts", camera.url):
            with seen(url) as watched:
                assert until(lambda: len(watched.frames) > 20), watched.states
                assert watched.frames[0].frame_HWC.shape == (160, 213, 3)


def test_mpegts_over_udp_comes_back_after_silence(square: bytes) -> None:
    port = free_port()
    with (
        seen(f"udp://@:{port}") as watched,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        stop = threading.Event()

        def send() -> None:
            for _ in range(3):
                for at in range(0, len(square), 1316):
                    if stop.wait(0.004):
                        return
                    sender.sendto(square[at : at + 1316], ("127.0.0.1", port))

        for round_ in range(2):
            before = len(watched.frames)
            stop.clear()
            thread = threading.Thread(target=send)
            thread.start()
            assert until(lambda since=before: len(watched.frames) > since + 15, 25), (
                round_,
                watched.states,
            )
            stop.set()
            thread.join()
            assert until(lambda: watched.states[-1][0] in ("stalled", "connecting", "offline"))
        assert "stalled" in watched.breaks


def test_tls_certificates_are_checked_when_asked_to(square: bytes, tmp_path: Path) -> None:
    made = certificate(tmp_path)
    if made is None:
        pytest.skip("no openssl: apt-get install openssl")
    context, authority = made
    with web_server(square, context) as port:
        url = f"https://localhost:{port}/live.ts"
        with seen(url) as watched:  # not checked unless asked for: cameras sign their own
            assert until(lambda: len(watched.frames) > 5), watched.states
        with seen(url, QUICK.model_copy(update={"tls_verify": True})) as watched:
            assert until(lambda: any(state == "offline" for state, _ in watched.states))
            assert not watched.frames
        with seen(
            url, QUICK.model_copy(update={"tls_verify": True, "tls_ca_file": str(authority)})
        ) as watched:
            assert until(lambda: len(watched.frames) > 5), watched.states


@pytest.mark.slow
def test_jpegs_over_http_are_timed_by_their_arrival() -> None:
    """FFmpeg stamps them 25 a second, whenever they come."""
    data = io.BytesIO()
    with av.open(data, "w", format="mjpeg") as out:
        stream = out.add_stream("mjpeg", rate=25)
        stream.width = 160
        stream.height = 120
        stream.pix_fmt = "yuvj420p"
        packets = (
            stream.encode(
                av.VideoFrame.from_ndarray(np.full((120, 160, 3), 99, np.uint8), format="rgb24")
            )
            + stream.encode()
        )
        picture = bytes(packets[0])

    def serve(client: socket.socket, stop: threading.Event) -> None:
        client.recv(4096)
        client.sendall(
            b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace;boundary=part\r\n\r\n"
        )
        for number in range(120):
            head = f"--part\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
            client.sendall(head.encode() + picture + b"\r\n")
            stop.wait(2.0 if number == 20 else 0.1)

    patient = QUICK.model_copy(update={"read_timeout_seconds": 4.0})
    with (
        TcpCamera(serve) as camera,
        seen(f"http://127.0.0.1:{camera.port}/video", patient) as watched,
    ):
        assert until(lambda: "gap" in watched.breaks), watched.states
        assert until(lambda: len(watched.frames) > 40)
    first = watched.frames[0]
    last = watched.frames[40]
    assert last.pts_seconds - first.pts_seconds == pytest.approx(
        last.arrived_monotonic - first.arrived_monotonic, abs=0.3
    )
