"""Camera threads that hang, fail or cannot be started."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

import stream.cameras.supervisor
import stream.ingest.connection
from stream.ingest.decoder import Decoder
from stream.types import CodedPacket, DecodedFrame, EndReason
from tests.support.chaos import TcpCamera, streamed
from tests.support.live_cameras import QUICK, seen
from tests.support.waiting import until


def test_a_camera_whose_thread_failed_or_could_not_start_is_started_again(
    square: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream.cameras.supervisor, "_PAUSE_SECONDS", 0.1)
    real = threading.Thread.start
    refused = []

    def start(thread: threading.Thread) -> None:
        if thread.name in ("camera-a", "packets-a") and thread.name not in refused:
            refused.append(thread.name)
            raise RuntimeError("can't start new thread")
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    with TcpCamera(streamed(square, seconds=4.0)) as camera, seen(camera.url) as watched:
        assert watched.status.state == "offline"
        assert "can't start new thread" in watched.status.detail
        assert until(lambda: (watched.supervisor.supervise(), len(watched.frames) > 5)[1]), (
            watched.states
        )
        assert refused == ["camera-a", "packets-a"]
        assert not watched.supervisor.all_ended()


@pytest.mark.slow
def test_a_hanging_reader_is_replaced_and_ends_when_its_call_returns(
    square: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    hung = []
    real = stream.ingest.connection.open_container

    def hangs(url: str, *rules: Any, **options: Any) -> object:
        if len(hung) < 2:
            hung.append(url)
            release.wait(60)
        return real(url, *rules, **options)

    monkeypatch.setattr(stream.ingest.connection, "open_container", hangs)
    quick = QUICK.model_copy(update={"open_timeout_seconds": 0.2, "read_timeout_seconds": 0.3})
    before = threading.active_count()
    with TcpCamera(streamed(square, seconds=3.0)) as camera, seen(camera.url, quick) as watched:
        assert until(lambda: (watched.supervisor.supervise(), len(watched.frames) >= 10)[1], 20)
        assert len(hung) == 2
        assert watched.metrics.readers_abandoned._value.get() == 2
        # what came before the hang is not glued to what comes after
        assert "stalled" in watched.breaks
        release.set()

        def gone() -> bool:
            watched.supervisor.supervise()
            return bool(watched.metrics.readers_abandoned._value.get() == 0)

        assert until(gone)
    assert until(lambda: threading.active_count() <= before + 2)


def test_a_file_whose_reader_hangs_ends_with_a_break(
    scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    monkeypatch.setattr(stream.ingest.connection, "open_file", lambda *_, **__: release.wait(60))
    quick = QUICK.model_copy(update={"open_timeout_seconds": 0.1, "read_timeout_seconds": 0.1})
    with seen(str(scenes / "clips/fall/0000.mp4"), quick) as watched:
        assert until(lambda: (watched.supervisor.supervise(), watched.breaks)[1] == ["ended"], 5)
        assert watched.status.state == "ended"
        release.set()


def test_a_decoder_that_fails_unexpectedly_costs_one_connection(
    square: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Decoder.decode
    failed = []

    def failing(self: Decoder, coded: CodedPacket) -> list[DecodedFrame]:
        if not failed and coded.packet is not None:
            failed.append(coded)
            raise MemoryError
        return real(self, coded)

    monkeypatch.setattr(Decoder, "decode", failing)
    with TcpCamera(streamed(square, seconds=3.0)) as camera, seen(camera.url) as watched:
        assert until(lambda: len(watched.frames) > 10)
        assert watched.breaks == ["stalled"]
        assert watched.metrics.total(watched.metrics.reconnects) == 1
        assert ("stalled", "unexpected error, see the log") in watched.states


def test_the_number_of_hanging_readers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(
        stream.ingest.connection, "open_container", lambda *_, **__: release.wait(60)
    )
    quick = QUICK.model_copy(update={"open_timeout_seconds": 0.05, "read_timeout_seconds": 0.05})
    before = threading.active_count()
    with seen("tcp://h:1", quick) as watched:
        assert until(
            lambda: (
                watched.supervisor.supervise(),
                "hang in library calls" in watched.status.detail,
            )[1]
        )
        assert watched.status.state == "offline"
        for _ in range(5):
            watched.supervisor.halt("a", EndReason.CHANGED)
            watched.supervisor.start("a")  # as after a change over HTTP
            watched.supervisor.supervise()
        assert watched.metrics.readers_abandoned._value.get() == 3
        assert threading.active_count() - before <= 2 * 3 + 1
        assert not watched.supervisor.all_ended()
        release.set()
        assert until(
            lambda: (
                watched.supervisor.supervise(),
                watched.metrics.readers_abandoned._value.get() == 0,
            )[1]
        )
        # it was started: what was opened is not a camera
        assert until(lambda: "unexpected error" in watched.status.detail)
