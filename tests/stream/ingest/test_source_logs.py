"""What is logged and shown of a camera in trouble, and that passwords are not."""

from __future__ import annotations

import logging
import socket

import pytest

from tests.support.broker import free_port
from tests.support.chaos import TcpCamera, streamed
from tests.support.live_cameras import QUICK, seen
from tests.support.waiting import until


def nobody_known(*_arguments: object, **_options: object) -> list[object]:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def test_a_camera_that_never_opened_gives_no_break_and_is_logged_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        quick = QUICK.model_copy(update={"open_timeout_seconds": 0.3})
        with seen(f"rtsp://127.0.0.1:{silent.getsockname()[1]}/x", quick) as watched:
            assert until(lambda: watched.metrics.total(watched.metrics.reconnects) > 3)
        assert watched.breaks == []
        assert ("offline", "no answer within 0.3 s") in watched.states
    monkeypatch.setattr(socket, "getaddrinfo", nobody_known)
    with seen("rtsp://no-such-host.invalid/x") as watched:
        assert until(lambda: watched.metrics.total(watched.metrics.reconnects) > 1)
        assert ("offline", "no such host: no-such-host.invalid") in watched.states
    assert [
        record.getMessage() for record in caplog.records if record.levelno == logging.WARNING
    ] == [
        "camera a is offline: no answer within 0.3 s",
        "camera a is offline: no such host: no-such-host.invalid",
    ]


def test_a_camera_that_is_back_is_logged(square: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    port = free_port()
    with seen(f"tcp://127.0.0.1:{port}") as watched:
        assert until(lambda: watched.status.state == "offline")
        with TcpCamera(streamed(square, seconds=3.0), port) as _:
            assert until(lambda: len(watched.frames) > 3)
    assert "camera a is back" in caplog.text


def test_secrets_stay_out_of_logs_metrics_and_states(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with seen("rtsp://admin:hunter2@127.0.0.1:9/x?token=hunter3") as watched:
        assert until(lambda: watched.metrics.total(watched.metrics.reconnects) > 2)
        assert "offline" in [state for state, _ in watched.states]
    text = caplog.text + str(watched.states) + watched.metrics.exposition().decode()
    assert "hunter" not in text
    assert any(getattr(record, "camera", None) == "a" for record in caplog.records)
