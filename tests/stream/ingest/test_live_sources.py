"""Cameras over every protocol, and what they do on bad days, against real servers."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import http.server
import io
import itertools
import logging
import math
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

import stream.cameras
import stream.ingest.source
from stream.cameras.config import CameraConfig
from stream.cameras.status import CameraStatus
from stream.cameras.supervisor import Fleet, Worker
from stream.ingest.camera_worker import CameraReader
from stream.ingest.config import ClipConfig, SourceConfig
from stream.ingest.decoder import Decoder
from stream.ingest.source import Source
from stream.metrics import Metrics
from stream.types import CameraState, CodedPacket, DecodedFrame, SampledFrame, StreamBreak
from tests.support.broker import Proxy, certificate, free_port
from tests.support.chaos import TcpCamera, mpegts, streamed
from tests.support.rtsp import RtspServer, missing_rtsp
from tests.support.waiting import until

QUICK = SourceConfig(
    open_timeout_seconds=3.0,
    read_timeout_seconds=1.0,
    backoff_first_seconds=0.05,
    backoff_most_seconds=0.1,
)


class Seen:
    """What a camera gave: frames, breaks, states."""

    def __init__(self, url: str, config: SourceConfig = QUICK, **camera: object) -> None:
        self.items: list[SampledFrame | StreamBreak] = []
        self.metrics = Metrics()
        self.states: list[tuple[CameraState, str]] = []
        self.slow = threading.Event()
        self.fleet = Fleet(config, self.metrics, self._run, self.items.append)
        self.status = self.fleet.add(CameraConfig.model_validate({"id": "a", "url": url} | camera))
        self._config = config
        self.fleet.start("a")

    def _run(self, status: CameraStatus, worker: Worker) -> None:
        show = status._show
        status._show = lambda: (show(), self.states.append((status.state, status.detail)))[0]  # type: ignore[method-assign,func-returns-value]
        CameraReader(
            status,
            worker,
            source=self._config,
            clip=ClipConfig(),
            metrics=self.metrics,
            short_side=160,
            hand_over=self._take,
        ).run()

    def _take(
        self, item: SampledFrame | StreamBreak, _status: CameraStatus, _worker: Worker
    ) -> None:
        self.items.append(item)
        while self.slow.is_set():
            time.sleep(0.02)

    @property
    def frames(self) -> list[SampledFrame]:
        return [item for item in self.items if isinstance(item, SampledFrame)]

    @property
    def breaks(self) -> list[str]:
        return [item.reason for item in self.items if isinstance(item, StreamBreak)]


@contextlib.contextmanager
def seen(url: str, config: SourceConfig = QUICK, **camera: object) -> Iterator[Seen]:
    watched = Seen(url, config, **camera)
    try:
        yield watched
    finally:
        watched.fleet.stop()


@pytest.fixture(scope="module")
def square() -> bytes:
    """Four seconds of MPEG-TS."""
    return mpegts([(320, 240)], fps=15, seconds_each=4.0)


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
                assert watched.frames[0].picture_HWC.shape == (160, 213, 3)


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
            )  # type: ignore[misc]
            stop.set()
            thread.join()
            assert until(lambda: watched.states[-1][0] in ("stalled", "connecting", "offline"))
        assert "stalled" in watched.breaks


def test_tls_is_checked_when_that_is_asked_for(square: bytes, tmp_path: Path) -> None:
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


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_rtsp_asks_for_a_login(scenes: Path, transport: str) -> None:
    if problem := missing_rtsp():
        pytest.skip(problem)
    with RtspServer({"/a": scenes / "clips/fall/0000.mp4"}, login="admin:hun@ter/2") as server:
        for user, gets_in in (("admin:hun%40ter%2F2@", True), ("admin:wrong@", False), ("", False)):
            with seen(f"rtsp://{user}127.0.0.1:{server.port}/a", transport=transport) as watched:
                if gets_in:
                    assert until(lambda: len(watched.frames) > 5), watched.states
                else:
                    assert until(lambda: any("401" in detail for _, detail in watched.states)), (
                        watched.states
                    )
                    assert not watched.frames


def test_rtsps_and_only_from_a_camera_that_can_be_trusted(scenes: Path, tmp_path: Path) -> None:
    made = certificate(tmp_path)
    if problem := missing_rtsp() or (None if made else "no openssl: apt-get install openssl"):
        pytest.skip(problem)
    assert made is not None
    context, authority = made
    with RtspServer({"/a": scenes / "clips/fall/0000.mp4"}) as server:
        proxy = Proxy(server.port, free_port(), tls=context)
        for settings, is_trusted in (
            ({}, True),
            ({"tls_verify": True, "tls_ca_file": str(authority)}, True),
            ({"tls_verify": True}, False),
        ):
            with seen(
                f"rtsps://localhost:{proxy.port}/a", QUICK.model_copy(update=settings)
            ) as watched:
                if is_trusted:
                    assert until(lambda: len(watched.frames) > 5), watched.states
                else:
                    assert until(
                        lambda: sum(state == "offline" for state, _ in watched.states) > 1
                    ), watched.states
                    assert not watched.frames
        proxy.cut()


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_rtsp_frames_are_dated_by_the_camera(
    scenes: Path, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if problem := missing_rtsp():
        pytest.skip(problem)
    real = Source._wall_seconds
    told = []

    def wall_seconds(self: Source, packet: Any, arrived: float) -> float:
        told.append(packet.has_sidedata("prft"))
        return real(self, packet, arrived)

    monkeypatch.setattr(Source, "_wall_seconds", wall_seconds)
    with (
        RtspServer({"/live": scenes / "clips/fall/0000.mp4"}) as server,
        seen(server.url("/live"), transport=transport) as watched,
    ):

        def spread() -> float:
            offsets = [frame.wall_seconds - frame.pts_seconds for frame in watched.frames[-30:]]
            return max(offsets) - min(offsets) if len(offsets) == 30 else math.inf

        # From the first RTCP report on, frames are as far apart by the camera's clock as by their
        # presentation times, but for the grid.
        assert until(lambda: len(told) > 60 and all(told[-60:]) and spread() < 0.04, 30), (
            told[-60:],
            spread(),
            watched.states,
        )
        assert abs(watched.frames[-1].wall_seconds - time.time()) < 5


def test_a_camera_whose_clock_is_wrong_is_not_believed() -> None:
    class Packet:
        """A packet that says it was sent in 1970."""

        def has_sidedata(self, kind: str) -> bool:
            return kind == "prft"

        def get_sidedata(self, kind: str) -> bytes:
            return (5_000_000).to_bytes(8, "little") + bytes(8)

    camera = CameraConfig(id="a", url="rtsp://h/a")
    source = Source(camera, SourceConfig(), threading.Event(), lambda *_: None)
    assert abs(source._wall_seconds(Packet(), time.monotonic()) - time.time()) < 1
    trusting = Source(
        camera, SourceConfig(camera_clock_seconds=1e12), threading.Event(), lambda *_: None
    )
    assert trusting._wall_seconds(Packet(), time.monotonic()) == 5.0


def spoiled(data: bytes) -> bytes:
    """The same transport stream with noise for pictures after its first second: packets come,
    but none decodes.
    """
    rng = np.random.default_rng(0)
    out = bytearray(data)
    for at in range(len(data) // 4 // 188 * 188, len(data), 188):
        out[at + 40 : at + 188] = rng.bytes(148)
    return bytes(out)


def test_packets_without_pictures_get_the_camera_opened_again(square: bytes) -> None:
    config = QUICK.model_copy(update={"open_timeout_seconds": 0.5, "read_timeout_seconds": 0.5})
    with (
        TcpCamera(streamed(spoiled(square * 3), seconds=12.0)) as camera,
        seen(camera.url, config) as watched,
    ):
        assert until(lambda: camera.connections >= 2, 12), watched.states
    assert "stalled" in [state for state, _ in watched.states]


def frozen(
    self: Decoder,
    coded: CodedPacket,
    real: Callable[[Decoder, CodedPacket], list[DecodedFrame]] = Decoder.decode,
) -> list[DecodedFrame]:
    """Pictures whose time stands still."""
    return [dataclasses.replace(frame, pts_seconds=7.0) for frame in real(self, coded)]


@pytest.mark.parametrize("decode", [lambda self, coded: [], frozen], ids=["none", "frozen"])
def test_a_decoder_without_new_pictures_gets_the_camera_opened_again(
    square: bytes, monkeypatch: pytest.MonkeyPatch, decode: Callable[..., list[DecodedFrame]]
) -> None:
    monkeypatch.setattr(Decoder, "decode", decode)
    config = QUICK.model_copy(update={"open_timeout_seconds": 0.5, "read_timeout_seconds": 0.5})
    with TcpCamera(streamed(square, seconds=4.0)) as camera, seen(camera.url, config) as watched:
        assert until(lambda: camera.connections >= 2, 12), watched.states
    assert ("stalled", "packets come, but no new picture") in watched.states


def test_a_camera_is_not_opened_again_because_we_are_slow(square: bytes) -> None:
    config = QUICK.model_copy(
        update={"open_timeout_seconds": 0.5, "read_timeout_seconds": 2.0, "queue_seconds": 0.5}
    )
    with (
        TcpCamera(streamed(square * 3, seconds=12.0)) as camera,
        seen(camera.url, config) as watched,
    ):
        assert until(lambda: len(watched.frames) > 5)
        # longer than any patience: meanwhile the queue overflows, and what comes next is its mark
        watched.slow.set()
        time.sleep(4.0)
        watched.slow.clear()
        before = len(watched.frames)
        assert until(lambda: len(watched.frames) > before + 10)
        assert camera.connections == 1, watched.states
        assert "dropped" in watched.breaks


def test_pictures_over_http_are_timed_by_their_arrival() -> None:
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


def test_a_camera_whose_thread_failed_or_could_not_be_started_is_started_again(
    square: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream.cameras, "_PAUSE_SECONDS", 0.1)
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
        assert until(lambda: (watched.fleet.supervise(), len(watched.frames) > 5)[1]), (
            watched.states
        )
        assert refused == ["camera-a", "packets-a"]
        assert not watched.fleet.all_ended()


def test_a_picture_that_stands_still_while_sound_goes_on_is_noticed() -> None:
    data = io.BytesIO()
    with av.open(data, "w", format="mpegts") as container:
        video = container.add_stream("libx264", rate=15)
        sound = container.add_stream("aac", rate=48000)
        video.width = 160
        video.height = 120
        video.pix_fmt = "yuv420p"
        video.options = {"tune": "zerolatency"}
        for number in range(15):
            container.mux(
                video.encode(
                    av.VideoFrame.from_ndarray(
                        np.full((120, 160, 3), number, np.uint8), format="rgb24"
                    )
                )
            )
        container.mux(video.encode())
        for number in range(20 * 48000 // 1024):
            samples = av.AudioFrame.from_ndarray(
                np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
            )
            samples.sample_rate = 48000
            samples.pts = number * 1024
            container.mux(sound.encode(samples))
    with TcpCamera(streamed(data.getvalue(), seconds=20.0)) as camera, seen(camera.url) as watched:
        assert until(lambda: camera.connections >= 2, 15), watched.states
    assert watched.frames
    assert any("no video for 1 s" in detail for _, detail in watched.states), watched.states


def test_another_size_begins_a_new_clip_and_so_does_another_codec(square: bytes) -> None:
    with (
        TcpCamera(
            streamed(mpegts([(320, 240), (640, 480)], fps=15, seconds_each=2.0), seconds=3.0)
        ) as camera,
        seen(camera.url) as watched,
    ):
        assert until(lambda: "size" in watched.breaks), watched.states
    other = io.BytesIO()
    with av.open(other, "w", format="mpegts") as container:
        stream = container.add_stream("mpeg2video", rate=25)
        stream.width = 352
        stream.height = 288
        stream.pix_fmt = "yuv420p"
        for number in range(75):
            container.mux(
                stream.encode(
                    av.VideoFrame.from_ndarray(
                        np.full((288, 352, 3), number, np.uint8), format="rgb24"
                    )
                )
            )
        container.mux(stream.encode())
    with (
        TcpCamera(streamed(square + other.getvalue() * 8, seconds=28.0)) as camera,
        seen(camera.url) as watched,
    ):
        assert until(lambda: len(watched.frames) > 20)
        # Whatever FFmpeg makes of it: it is told apart or opened again, long before the stream
        # ends, and nothing spans it.
        assert until(lambda: "size" in watched.breaks or camera.connections > 1, 20), (
            watched.states,
            watched.breaks,
        )
        assert until(lambda: isinstance(watched.items[-1], SampledFrame))
    for earlier, later in itertools.pairwise(watched.items):
        if isinstance(earlier, SampledFrame) and isinstance(later, SampledFrame):
            assert earlier.picture_HWC.shape == later.picture_HWC.shape
            assert 0 < later.pts_seconds - earlier.pts_seconds < 1


def test_another_rotation_begins_a_new_clip() -> None:
    from stream.ingest.sampler import Sampler

    sampler = Sampler("a", ClipConfig(), lambda native: np.zeros((4, 4, 3), np.uint8))
    first = DecodedFrame(None, 0.0, 0.0, 0.0, 640, 480, turns=0)
    turned = DecodedFrame(None, 1 / 15, 0.0, 0.0, 640, 480, turns=2)
    assert [type(item) for item in sampler.push(first)] == [SampledFrame]
    assert sampler.push(turned)[0] == StreamBreak("a", "size")


def test_a_reader_that_hangs_is_replaced_and_goes_when_its_call_returns(
    square: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    hung = []
    real = stream.ingest.source.open_container

    def hangs(url: str, **options: object) -> object:
        if len(hung) < 2:
            hung.append(url)
            release.wait(60)
        return real(url, **options)

    monkeypatch.setattr(stream.ingest.source, "open_container", hangs)
    quick = QUICK.model_copy(update={"open_timeout_seconds": 0.2, "read_timeout_seconds": 0.3})
    before = threading.active_count()
    with TcpCamera(streamed(square, seconds=3.0)) as camera, seen(camera.url, quick) as watched:
        deadline = time.monotonic() + 20
        while len(watched.frames) < 10 and time.monotonic() < deadline:
            watched.fleet.supervise()
            time.sleep(0.05)
        assert len(watched.frames) >= 10
        assert len(hung) == 2
        assert watched.metrics.readers_abandoned._value.get() == 2
        # what came before the hang is not glued to what comes after
        assert "stalled" in watched.breaks
        release.set()

        def gone() -> bool:
            watched.fleet.supervise()
            return bool(watched.metrics.readers_abandoned._value.get() == 0)

        assert until(gone)
    assert until(lambda: threading.active_count() <= before + 2)


def test_a_file_whose_reader_hangs_ends_with_a_break(
    scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    monkeypatch.setattr(stream.ingest.source, "open_container", lambda url, **_: release.wait(60))
    quick = QUICK.model_copy(update={"open_timeout_seconds": 0.1, "read_timeout_seconds": 0.1})
    with seen(str(scenes / "clips/fall/0000.mp4"), quick) as watched:
        assert until(lambda: (watched.fleet.supervise(), watched.breaks)[1] == ["ended"], 5)
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


def nobody_known(*_arguments: object, **_options: object) -> list[object]:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def test_what_was_never_open_is_never_interrupted_and_trouble_is_logged_once(
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


def test_a_camera_that_is_back_is_said_to_be(
    square: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    port = free_port()
    with seen(f"tcp://127.0.0.1:{port}") as watched:
        assert until(lambda: watched.status.state == "offline")
        with TcpCamera(streamed(square, seconds=3.0), port) as _:
            assert until(lambda: len(watched.frames) > 3)
    assert "camera a is back" in caplog.text


def test_readers_that_hang_are_not_piled_up(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(stream.ingest.source, "open_container", lambda url, **_: release.wait(60))
    quick = QUICK.model_copy(update={"open_timeout_seconds": 0.05, "read_timeout_seconds": 0.05})
    before = threading.active_count()
    with seen("rtsp://h/a", quick) as watched:
        assert until(
            lambda: (
                watched.fleet.supervise(),
                time.sleep(0.03),
                "hang in library calls" in watched.status.detail,
            )[2]
        )
        assert watched.status.state == "offline"
        for _ in range(5):
            watched.fleet.halt("a", "changed")
            watched.fleet.start("a")  # as after a change over HTTP
            watched.fleet.supervise()
        assert watched.metrics.readers_abandoned._value.get() == 3
        assert threading.active_count() - before <= 2 * 3 + 1
        assert not watched.fleet.all_ended()
        release.set()
        assert until(
            lambda: (
                watched.fleet.supervise(),
                watched.metrics.readers_abandoned._value.get() == 0,
            )[1]
        )
        # it was started: what was opened is no camera
        assert until(lambda: "unexpected error" in watched.status.detail)


def test_secrets_stay_out_of_logs_metrics_and_states(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with seen("rtsp://admin:hunter2@127.0.0.1:9/x?token=hunter3") as watched:
        assert until(lambda: sum(state == "offline" for state, _ in watched.states) > 2)
    text = caplog.text + str(watched.states) + watched.metrics.exposition().decode()
    assert "hunter" not in text
    assert any(getattr(record, "camera", None) == "a" for record in caplog.records)


def test_a_decoder_that_is_behind_drops_groups_and_says_so(
    square: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Decoder.decode

    def slow(self: Decoder, coded: CodedPacket) -> list[DecodedFrame]:
        time.sleep(0.15)
        return real(self, coded)

    monkeypatch.setattr(Decoder, "decode", slow)
    config = QUICK.model_copy(update={"queue_seconds": 0.6})
    with TcpCamera(streamed(square, seconds=4.0)) as camera, seen(camera.url, config) as watched:
        assert until(lambda: "dropped" in watched.breaks), watched.states
    assert watched.metrics.by_label(watched.metrics.dropped, "reason")["decoder"] > 0
