"""Live cameras decoded by DALI on the CPU: over RTSP and HTTP, many at once, and their ends."""

from __future__ import annotations

import contextlib
import http.server
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from model.media.gop_decoder import GopDecoder
from stream.ingest.decode_stage import DecodeStage
from tests.support.coded_video import (
    ON_CPU,
    SUFFIXES,
    coded_packets,
    decoding_on_cpu,
    picture,
    write_video,
)
from tests.support.live_cameras import QUICK, Seen, seen
from tests.support.rtsp import RtspServer, missing_rtsp
from tests.support.waiting import until
from tests.support.web import web_server

DALI = QUICK.model_copy(update={"decoder": "dali"})


@pytest.fixture(scope="module")
def decoding() -> Iterator[DecodeStage]:
    with decoding_on_cpu() as stage:
        yield stage


def shown_numbers(watched: Seen, numbers: int) -> list[int]:
    """Find which picture each frame shows, and check that it is that picture."""
    known = np.stack([picture(number, 160, 128) for number in range(numbers)]).astype(int)
    found = []
    for frame in watched.frames:
        distances = np.abs(known - frame.frame_HWC).mean(axis=(1, 2, 3))
        found.append(int(distances.argmin()))
        assert distances.min() < 8
    return found


def assert_even(watched: Seen, numbers: int) -> None:
    """Times are those of the grid, and each frame shows the picture after the one before."""
    times = [frame.pts_seconds for frame in watched.frames]
    assert np.allclose(np.diff(times), 1 / 15, atol=1e-6)
    steps = np.diff(shown_numbers(watched, numbers)) % numbers
    # Times over the network are rounded, so that now and then a frame is taken twice.
    assert set(steps) <= {0, 1, 2}
    assert np.mean(steps == 1) > 0.9


@pytest.mark.rtsp
@pytest.mark.parametrize("codec", ["libvpx-vp9", "mjpeg"])
def test_a_camera_over_rtsp_is_decoded_by_dali(
    tmp_path: Path, decoding: DecodeStage, codec: str
) -> None:
    if problem := missing_rtsp():
        pytest.skip(problem)
    path = write_video(tmp_path / f"a{SUFFIXES[codec]}", codec, range(60))
    with (
        RtspServer({"/a": path}) as server,
        seen(server.url("/a"), DALI, decoding=decoding) as watched,
    ):
        assert until(lambda: len(watched.frames) > 40, 30), watched.states
        assert watched.status.state == "running"
        assert 10 < watched.status.fps() < 20
    assert set(watched.metrics.by_label(watched.metrics.gops, "decoder")) == {"dali"}
    assert not watched.breaks
    assert_even(watched, 60)
    # Arrivals are those of the packets: spread over time, not at the end of the group.
    arrivals = [frame.arrived_monotonic for frame in watched.frames]
    assert np.max(np.diff(arrivals)) < 0.5


def test_mjpeg_over_http_has_no_times_and_takes_those_of_its_arrival(
    tmp_path: Path, decoding: DecodeStage
) -> None:
    path = write_video(tmp_path / "a.avi", "mjpeg", range(60))
    jpegs = [bytes(packet) for packet in coded_packets(path)]
    ended = threading.Event()

    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        request.end_headers()
        started_at = time.monotonic()
        with contextlib.suppress(OSError):
            for number in range(10_000):
                jpeg = jpegs[number % len(jpegs)]
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                request.wfile.write(head.encode() + jpeg + b"\r\n")
                if ended.wait(max(0.0, started_at + (number + 1) / 15 - time.monotonic())):
                    return

    with web_server(answer) as url, seen(f"{url}/a", DALI, decoding=decoding) as watched:
        assert until(lambda: len(watched.frames) > 40, 30), watched.states
        ended.set()
    assert set(watched.metrics.by_label(watched.metrics.gops, "decoder")) == {"dali"}
    numbers = shown_numbers(watched, 60)
    assert numbers == sorted(numbers)
    assert len(set(numbers)) > 30
    # A frame waits for a quarter of a second at most until its group is long enough.
    assert np.max(np.diff([frame.arrived_monotonic for frame in watched.frames])) < 0.5


def test_sixteen_cameras_share_one_decoder(tmp_path: Path) -> None:
    paths = [
        write_video(
            tmp_path / f"{index}{SUFFIXES[codec]}", codec, range(index, index + 45), gop=5 + index
        )
        for index, codec in enumerate(["libvpx-vp9", "mjpeg", "libvpx", "libvpx-vp9"] * 4)
    ]
    sizes: list[int] = []

    class Counting(GopDecoder):
        def decode(self, gops: object) -> list[list[object]]:
            sizes.append(len(gops))  # type: ignore[arg-type]
            return super().decode(gops)  # type: ignore[arg-type]

    threads = set(threading.enumerate())
    stage = DecodeStage(Counting(max_batch=8), ON_CPU, deadline_seconds=0.05)
    stage.start()
    with contextlib.ExitStack() as stack:
        cameras = [
            stack.enter_context(seen(str(path), DALI, decoding=stage, pace="fast"))
            for path in paths
        ]
        assert until(lambda: all("ended" in camera.breaks for camera in cameras), 60)
        for index, camera in enumerate(cameras):
            assert len(camera.frames) == 45
            assert [(number - index) % 64 for number in shown_numbers(camera, 64)] == list(
                range(45)
            )
            assert camera.breaks == ["ended"]
    assert max(sizes) > 2
    assert max(sizes) <= 8
    stage.stop()
    assert stage.join(10)
    assert until(lambda: set(threading.enumerate()) <= threads, 10)


class Stuck:
    """A decoder that answers only when it is allowed to, or fails."""

    max_batch = 4

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.go = threading.Event()

    def decode(self, gops: object) -> list[list[object]]:
        self.go.wait(60)
        raise self.error or RuntimeError("never")


def test_a_camera_that_is_stopped_while_it_waits_for_its_group_ends(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.webm", "libvpx-vp9", range(45))
    stuck = Stuck()
    stage = DecodeStage(stuck, ON_CPU)
    stage.start()
    with seen(str(path), DALI, decoding=stage, pace="fast") as watched:
        assert until(lambda: watched.status.state == "running", 20)
        time.sleep(0.3)
    assert until(lambda: not any(t.name.endswith("-a") for t in threading.enumerate()), 10)
    assert not watched.frames
    stuck.go.set()
    assert stage.join(10)


def test_cameras_go_on_in_software_when_the_decoding_thread_dies(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_video(tmp_path / "a.webm", "libvpx-vp9", range(60))
    stuck = Stuck(ValueError("a fault that nobody expected"))
    stuck.go.set()
    stage = DecodeStage(stuck, ON_CPU)
    stage.start()
    with seen(str(path), DALI, decoding=stage, pace="fast") as watched:
        assert until(lambda: "ended" in watched.breaks, 30)
    assert isinstance(stage.failure, ValueError)
    assert shown_numbers(watched, 60) == list(range(60))
    assert watched.metrics.by_label(watched.metrics.gops, "decoder").keys() == {"software"}
    about = [record.message for record in caplog.records if "by DALI" in record.message]
    assert len(about) == 1
    assert "the decoding thread has ended" in about[0]


@pytest.mark.rtsp
def test_a_live_camera_drops_whole_groups_while_the_decoder_is_behind(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.webm", "libvpx-vp9", range(150), gop=15)
    config = DALI.model_copy(update={"max_queue_seconds": 1.5})
    decoder = GopDecoder(max_batch=4)

    class Slow:
        max_batch = 4

        def decode(self, gops: list[object]) -> list[list[object]]:
            time.sleep(2.2 if slow.is_set() else 0)
            return decoder.decode(gops)  # type: ignore[arg-type]

    if problem := missing_rtsp():
        pytest.skip(problem)
    slow = threading.Event()
    slow.set()
    stage = DecodeStage(Slow(), ON_CPU)
    stage.start()
    with (
        RtspServer({"/a": path}) as server,
        seen(server.url("/a"), config, decoding=stage) as watched,
    ):
        dropped = watched.metrics.dropped_packets
        assert until(lambda: watched.metrics.total(dropped, reason="decoder") > 10, 30)
        slow.clear()
        before = len(watched.frames)
        assert until(lambda: len(watched.frames) > before + 20, 30)
    assert "dropped" in watched.breaks
    stage.stop()
    assert stage.join(10)
    # Between two breaks, no frame is missing.
    numbers = shown_numbers(watched, 150)
    assert set(np.diff(numbers[-15:]) % 150) <= {0, 1, 2}
