"""Cameras over RTMP, against FFmpeg's own server."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.support.broker import Proxy, certificate, free_port
from tests.support.ffmpeg_servers import rtmp_server
from tests.support.live_cameras import QUICK, seen
from tests.support.waiting import until


@contextlib.contextmanager
def accepting(*, answers: bool) -> Iterator[int]:
    """A port that takes connections, and says nothing or hangs up."""
    kept = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = server.accept()
                    client.close() if answers else kept.append(client)

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]
    for client in kept:
        client.close()


@pytest.mark.rtsp
@pytest.mark.slow
def test_the_frames_are_those_of_the_file_and_a_server_that_returns_is_read_again(
    streamed_video: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with seen(str(streamed_video), pace="fast") as of_file:
        assert until(lambda: of_file.status.state == "ended")
    port = free_port()
    with seen(f"rtmp://127.0.0.1:{port}/live/k3yOfStream", QUICK) as watched:
        assert until(lambda: f"nothing listens on port {port}" in watched.story)
        with rtmp_server(streamed_video, port, "k3yOfStream"):
            assert until(lambda: len(watched.frames) >= 30), watched.story
        frames = list(watched.frames)
        assert until(lambda: watched.status.state != "running"), watched.story
        with rtmp_server(streamed_video, port, "k3yOfStream"):
            assert until(lambda: len(watched.frames) > len(frames) + 5), watched.story
    for got, wanted in zip(frames[:30], of_file.frames[:30], strict=True):
        assert np.array_equal(got.frame_HWC, wanted.frame_HWC)
        assert got.pts_seconds == pytest.approx(wanted.pts_seconds, abs=0.002)
    assert "k3yOfStream" not in watched.story + caplog.text


@pytest.mark.rtsp
@pytest.mark.slow
def test_rtmps_checks_the_certificate_when_asked_to(streamed_video: Path, tmp_path: Path) -> None:
    made = certificate(tmp_path)
    if made is None:
        pytest.skip("no openssl: apt-get install openssl")
    context, authority = made
    port = free_port()
    refused = QUICK.model_copy(update={"tls_verify": True})
    trusted = refused.model_copy(update={"tls_ca_file": str(authority)})
    for config, says in ((refused, "the TLS connection failed"), (trusted, "running")):
        with rtmp_server(streamed_video, port, "a"):
            proxy = Proxy(port, free_port(), tls=context)
            with seen(f"rtmps://localhost:{proxy.port}/live/a", config) as watched:
                assert until(lambda w=watched, s=says: s in w.story), watched.story
            proxy.cut()


@pytest.mark.parametrize(
    ("answers", "says"),
    [(False, "no answer within 0.6 s"), (True, "check application and name of the stream")],
)
def test_a_server_that_is_silent_or_hangs_up_is_explained(answers: bool, says: str) -> None:
    quick = QUICK.model_copy(update={"open_timeout_seconds": 0.6})
    with (
        accepting(answers=answers) as port,
        seen(f"rtmp://127.0.0.1:{port}/live/a", quick) as watched,
    ):
        assert until(lambda: says in watched.story), watched.story
