"""Sources on files and on a real RTSP server."""

import itertools
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from stream.cameras.config import CameraConfig, redact_url
from stream.ingest.config import SourceConfig
from stream.ingest.decoder import Decoder
from stream.ingest.source import Source
from tests.support.rtsp import RtspServer, missing_rtsp
from tests.support.waiting import until


class Log:
    """Remembers states."""

    def __init__(self) -> None:
        self.states: list[tuple[str, str]] = []
        self.reconnects = 0

    def source(self, camera: CameraConfig, stop: threading.Event, **settings: float) -> Source:
        return Source(
            camera,
            SourceConfig(**settings),
            stop,
            on_state=lambda state, why: self.states.append((state, why)),
            on_end=lambda reason, why: self.states.append(("ended", why or reason.value)),
            on_reconnect=self.reconnected,
        )

    def reconnected(self) -> None:
        self.reconnects += 1


def test_a_file_is_read_once_to_its_end(scenes: Path, never: threading.Event) -> None:
    log = Log()
    path = scenes / "clips/fall/0000.mp4"
    packets = list(log.source(CameraConfig(id="a", url=str(path), pace="fast"), never).packets())
    assert all(coded.packet is not None for coded in packets)
    assert [state for state, _ in log.states] == ["connecting", "running", "ended"]
    assert log.states[-1][1] == "end of file"


def test_a_looped_file_starts_again(scenes: Path) -> None:
    log = Log()
    stop = threading.Event()
    camera = CameraConfig(id="a", url=str(scenes / "clips/fall/0000.mp4"), pace="fast", loop=True)
    ends = 0
    for coded in log.source(camera, stop).packets():
        ends += coded.packet is None
        if ends == 3:
            stop.set()
    assert ends == 3
    assert log.states[-1] == ("ended", "stopped")


@pytest.mark.slow
def test_a_paced_file_takes_as_long_as_it_lasts(scenes: Path, never: threading.Event) -> None:
    path = scenes / "clips/fall/0000.mp4"
    started_at = time.monotonic()
    packets = [
        coded
        for coded in Log().source(CameraConfig(id="a", url=str(path)), never).packets()
        if coded.packet and coded.packet.size
    ]
    lasted = float((packets[-1].packet.dts - packets[0].packet.dts) * packets[0].packet.time_base)
    # Never early; how late depends on the machine.
    assert time.monotonic() - started_at >= lasted - 0.01
    for coded in packets:
        due = float((coded.packet.dts - packets[0].packet.dts) * coded.packet.time_base)
        assert coded.arrived_monotonic - packets[0].arrived_monotonic >= due - 0.01


@pytest.mark.slow
def test_a_paced_file_that_is_read_too_slowly_plays_slower(
    scenes: Path, never: threading.Event
) -> None:
    source = Log().source(
        CameraConfig(id="a", url=str(scenes / "clips/fall/0000.mp4")), never, max_queue_seconds=0.2
    )
    lags = []
    for number, coded in enumerate(source.packets()):
        lags.append(time.monotonic() - coded.arrived_monotonic)
        if number < 10:
            time.sleep(0.15)  # we are slow
    assert number > 20
    assert max(lags[11:]) < 0.4  # otherwise more than a second


def raw_video(path: Path, container: str, codec: str, *, rate: int) -> Path:
    """Twenty pictures without timestamps."""
    import av

    with av.open(str(path), "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate)
        stream.width = 160
        stream.height = 120
        stream.pix_fmt = "yuv420p"
        for number in range(20):
            out.mux(
                stream.encode(
                    av.VideoFrame.from_ndarray(
                        np.full((120, 160, 3), number * 9, np.uint8), format="rgb24"
                    )
                )
            )
        out.mux(stream.encode())
    return path


def test_a_file_without_times_of_its_own_is_played_at_its_rate(
    tmp_path: Path, never: threading.Event
) -> None:
    path = raw_video(tmp_path / "raw.h264", "h264", "libx264", rate=10)
    started_at = time.monotonic()
    decoder = Decoder()
    frames = [
        f
        for coded in Log().source(CameraConfig(id="a", url=f"file://{path}"), never).packets()
        for f in decoder.decode(coded)
    ]
    assert [round(frame.pts_seconds, 3) for frame in frames] == [
        number / 10 for number in range(20)
    ]
    assert time.monotonic() - started_at >= 1.8


def test_the_last_frame_of_a_raw_file_comes_after_the_others(
    tmp_path: Path, never: threading.Event
) -> None:
    path = raw_video(tmp_path / "raw.m2v", "mpeg2video", "mpeg2video", rate=25)
    decoder = Decoder()
    camera = CameraConfig(id="a", url=str(path), pace="fast")
    times = [
        frame.pts_seconds
        for coded in Log().source(camera, never).packets()
        for frame in decoder.decode(coded)
    ]
    assert len(times) >= 19
    assert times == sorted(times)


def test_a_broken_file_ends_with_the_reason(tmp_path: Path, never: threading.Event) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"")
    log = Log()
    assert list(log.source(CameraConfig(id="a", url=str(path), loop=True), never).packets()) == []
    assert log.states[-1] == ("ended", "cannot open: Invalid data found when processing input")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://user:p%40ss@host:554/a?token=1#x", "rtsp://host:554/a"),
        ("rtsp://user:p@ss/word@host/a", "rtsp://host/a"),
        ("rtsp://admin:se/cr#e?t@host/a", "rtsp://host/a"),
        ("admin:secret@10.0.0.1/s", "10.0.0.1/s"),
        ("http://h/x", "http://h/x"),
        ("videos/a@b.mp4", "videos/a@b.mp4"),
    ],
)
def test_addresses_are_shown_without_secrets(url: str, shown: str) -> None:
    assert redact_url(url) == shown


def test_an_unreachable_camera_is_tried_again_with_pauses() -> None:
    log = Log()
    stop = threading.Event()
    source = log.source(
        CameraConfig(id="a", url="rtsp://127.0.0.1:9/x"),
        stop,
        backoff_initial_seconds=0.01,
        backoff_max_seconds=0.05,
    )
    thread = threading.Thread(target=lambda: list(source.packets()))
    thread.start()
    until(lambda: log.reconnects >= 4, 10)
    stop.set()
    thread.join(5)
    assert not thread.is_alive()
    assert log.reconnects >= 4
    # until it can be opened
    assert [state for state, _ in log.states[:4]] == ["connecting", "offline", "offline", "offline"]
    assert log.states[1][1].startswith("cannot open: Connection refused; nothing listens on port 9")


@pytest.fixture
def rtsp(scenes: Path) -> Iterator[RtspServer]:
    if problem := missing_rtsp():
        pytest.skip(problem)
    with RtspServer(
        {"/live": scenes / "clips/fall/0000.mp4", "/once!": scenes / "clips/fall/0000.mp4"}
    ) as server:
        yield server


@pytest.mark.slow
@pytest.mark.rtsp
def test_rtsp_delivers_the_frames_of_the_file(rtsp: RtspServer, scenes: Path) -> None:
    import av

    with av.open(str(scenes / "clips/fall/0000.mp4")) as container:
        expected = [
            frame.to_ndarray(format="gray").tobytes() for frame in container.decode(video=0)
        ]
    stop = threading.Event()
    log = Log()
    decoder = Decoder()
    frames = []
    for coded in log.source(CameraConfig(id="a", url=rtsp.url("/once")), stop).packets():
        frames += decoder.decode(coded)
        if len(frames) >= len(expected) or log.reconnects:
            stop.set()
    received = [frame.native.to_ndarray(format="gray").tobytes() for frame in frames]
    assert received[: len(expected)] == expected
    steps = [
        later.pts_seconds - earlier.pts_seconds for earlier, later in itertools.pairwise(frames[1:])
    ]
    assert all(step > 0 for step in steps[: len(expected) - 3])


@pytest.mark.rtsp
def test_a_camera_comes_back_after_its_server_restarts(rtsp: RtspServer) -> None:
    log = Log()
    stop = threading.Event()
    source = log.source(
        CameraConfig(id="a", url=rtsp.url("/live")),
        stop,
        backoff_initial_seconds=0.1,
        backoff_max_seconds=0.2,
    )
    packets = source.packets()
    for _ in range(10):
        next(packets)
    rtsp.kill()
    threading.Timer(0.5, rtsp.start).start()
    received_after = 0
    deadline = time.monotonic() + 20
    for coded in packets:
        received_after += log.reconnects > 0 and coded.packet is not None
        if received_after > 5 or time.monotonic() > deadline:
            stop.set()
    assert received_after > 5
    assert "stalled" in [state for state, _ in log.states]


@pytest.mark.slow
@pytest.mark.rtsp
def test_a_frozen_camera_is_noticed(rtsp: RtspServer) -> None:
    log = Log()
    stop = threading.Event()
    source = log.source(
        CameraConfig(id="a", url=rtsp.url("/live")),
        stop,
        read_timeout_seconds=0.5,
        open_timeout_seconds=2.0,
    )
    packets = source.packets()
    for _ in range(10):
        next(packets)
    rtsp.process.send_signal(signal.SIGSTOP)
    timer = threading.Timer(6.0, lambda: (stop.set(), rtsp.process.send_signal(signal.SIGCONT)))
    timer.start()
    for _ in packets:
        if log.reconnects:
            stop.set()
    timer.cancel()
    rtsp.process.send_signal(signal.SIGCONT)
    assert "stalled" in [state for state, _ in log.states]


def test_the_rtsp_helper_runs_where_its_packages_are() -> None:
    """The skip above must not hide a broken helper."""
    if shutil.which("/usr/bin/python3") is None:
        pytest.skip("no /usr/bin/python3")
    script = "import gi; gi.require_version('GstRtspServer', '1.0')"
    there = (
        subprocess.run(
            ["/usr/bin/python3", "-c", script], capture_output=True, check=False
        ).returncode
        == 0
    )
    assert there == (missing_rtsp() is None)
