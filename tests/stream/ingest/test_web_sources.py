"""HLS, recordings and MJPEG over HTTP, against real servers."""

from __future__ import annotations

import http.server
import io
import itertools
import time
from pathlib import Path

import av
import numpy as np
import pytest

from stream.types import SampledFrame
from tests.support.live_cameras import seen
from tests.support.waiting import until
from tests.support.web import LiveHls, RangeServer, send, video_bytes, web_server


@pytest.mark.slow
def test_hls_is_read_once_and_dated_by_its_stream() -> None:
    """Segments last longer than the read timeout of one second."""
    live = LiveHls(seconds=3, segments=12)
    with web_server(live.answer) as address, seen(f"{address}/live.m3u8") as watched:
        assert until(lambda: len(watched.frames) >= 11 * 15, 30), watched.states
        now = time.time()
        assert watched.breaks == []
        assert watched.states == [("running", "")]
    frames = watched.frames
    for earlier, later in itertools.pairwise(frames):
        assert later.pts_seconds - earlier.pts_seconds == pytest.approx(1 / 15, abs=1e-3)
        step = later.wall_seconds - earlier.wall_seconds
        assert step == pytest.approx(later.pts_seconds - earlier.pts_seconds, abs=0.05)
    assert frames[-1].wall_seconds <= now
    # The playlist began when the server did; MPEG-TS begins at 1.4 s.
    first = frames[0].wall_seconds - live.started_wall
    assert first == pytest.approx(0.0, abs=1.0)


@pytest.mark.parametrize("max_bytes", [None, 4_000])
def test_a_recording_over_http_is_a_file(max_bytes: int | None, tmp_path: Path) -> None:
    body = video_bytes(6, container="mp4")
    assert max_bytes is None or len(body) > 2 * max_bytes
    path = tmp_path / "a.mp4"
    path.write_bytes(body)
    with seen(str(path), pace="fast") as local:
        assert until(lambda: local.status.state == "ended")
    server = RangeServer(body, max_bytes=max_bytes)
    with web_server(server.answer) as address:
        with seen(f"{address}/a.mp4", pace="fast") as watched:
            assert until(lambda: watched.status.state == "ended", 30), watched.states
        assert watched.status.detail == "end of file"
        assert watched.opened[0].is_recording
        assert [frame.pts_seconds for frame in watched.frames] == [
            frame.pts_seconds for frame in local.frames
        ]
        assert watched.breaks == ["ended"]
        for mine, theirs in zip(watched.frames, local.frames, strict=True):
            assert np.array_equal(mine.frame_HWC, theirs.frame_HWC)


def test_a_recording_over_http_loops_and_keeps_its_pace() -> None:
    server = RangeServer(video_bytes(1.0))
    with web_server(server.answer) as address, seen(f"{address}/a.ts", loop=True) as watched:
        started_at = time.monotonic()
        assert until(lambda: watched.breaks.count("reconnect") >= 2, 10), watched.states
        assert time.monotonic() - started_at > 1.5
    assert watched.status.state == "ended"


@pytest.mark.parametrize(
    ("kind", "says"), [("video/mp4", "byte ranges"), ("image/jpeg", "a single picture")]
)
def test_what_ends_and_cannot_be_read_from_a_place_is_refused(kind: str, says: str) -> None:
    body = video_bytes(1.0, container="mpegts")
    with web_server(lambda request: send(request, body, kind)) as address, seen(address) as watched:
        assert until(lambda: watched.status.state == "ended")
        assert says in watched.status.detail
        assert watched.frames == []


def jpegs(count: int) -> list[bytes]:
    """Encode pictures with a moving square."""
    found = []
    for number in range(count):
        rgb_HWC = np.full((120, 160, 3), 60, np.uint8)
        rgb_HWC[40:60, number * 3 % 140 :][:, :20] = 220
        out = io.BytesIO()
        with av.open(out, "w", format="mjpeg") as muxer:
            stream = muxer.add_stream("mjpeg", rate=25)
            stream.width, stream.height, stream.pix_fmt = 160, 120, "yuvj420p"
            muxer.mux(stream.encode(av.VideoFrame.from_ndarray(rgb_HWC, format="rgb24")))
            muxer.mux(stream.encode(None))
        found.append(out.getvalue())
    return found


def head_of(fault: str, picture: bytes, number: int) -> bytes:
    """The lines before a picture."""
    length = len(picture)
    if fault == "wrong length":
        length = length // 2 if number % 2 else length + 500
    lines = [f"Content-Length: {length}", "Content-Type: image/jpeg"]
    if fault == "no length":
        del lines[0]
    if fault == "extra headers":
        lines += ["X-Timestamp: 1.5", "Server: camera"]
    boundary = "--other" if fault == "another boundary" else "--frame"
    if not (fault == "no first boundary" and number == 0):
        lines.insert(0, boundary)
    ending = "\n" if fault == "only line feeds" else "\r\n"
    return ending.join([*lines, "", ""]).encode()


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [
        "none",
        "no first boundary",
        "wrong length",
        "no length",
        "another boundary",
        "extra headers",
        "only line feeds",
        "preamble",
        "no content type",
    ],
)
def test_mjpeg_with_wrong_parts_gives_every_picture(fault: str) -> None:
    pictures = jpegs(90)
    connections = []

    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        connections.append(request.path)
        request.send_response(200)
        if fault != "no content type":
            request.send_header("Content-Type", 'multipart/x-mixed-replace; boundary="frame"')
        request.end_headers()
        if fault == "preamble":
            request.wfile.write(b"a camera\r\n\r\n")
        for number, picture in enumerate(pictures):
            request.wfile.write(head_of(fault, picture, number) + picture + b"\r\n")
            time.sleep(0.04)

    with web_server(answer) as address, seen(address) as watched:
        assert until(lambda: len(watched.frames) > 30, 20), watched.states
    assert len(connections) <= 3
    runs = [
        len(list(group))
        for is_frame, group in itertools.groupby(
            watched.items, lambda item: isinstance(item, SampledFrame)
        )
        if is_frame
    ]
    assert max(runs) > 25
