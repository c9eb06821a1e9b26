"""Web servers for tests: of a growing HLS playlist, of files with byte ranges, of JPEGs."""

from __future__ import annotations

import contextlib
import functools
import http.server
import io
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction

import av
import numpy as np

Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


class _Handler(http.server.BaseHTTPRequestHandler):
    def __init__(self, answer: Answer, *arguments: object) -> None:
        self._answer = answer
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        with contextlib.suppress(OSError):
            self._answer(self)

    def log_message(self, *arguments: object) -> None:
        pass


@contextlib.contextmanager
def web_server(answer: Answer) -> Iterator[str]:
    """Serve every path with this function; yield the address of the server."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, answer))
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def send(request: http.server.BaseHTTPRequestHandler, body: bytes, kind: str) -> None:
    """Send a whole body."""
    request.send_response(200)
    request.send_header("Content-Type", kind)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


def video_bytes(
    seconds: float, *, fps: int = 25, container: str = "mpegts", first: int = 0
) -> bytes:
    """Encode a moving square; `first` is the number of its first frame on the time line."""
    out = io.BytesIO()
    with av.open(out, "w", format=container) as muxer:
        stream = muxer.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        stream.options = {"preset": "ultrafast", "tune": "zerolatency", "g": str(fps)}
        packets = []
        for number in range(round(seconds * fps)):
            rgb_HWC = np.full((120, 160, 3), 60, np.uint8)
            left = (first + number) * 3 % 140
            rgb_HWC[40:60, left : left + 20] = 220
            frame = av.VideoFrame.from_ndarray(rgb_HWC, format="rgb24")
            frame.pts = number
            packets += stream.encode(frame)
        packets += stream.encode(None)
        for packet in packets:
            packet.time_base = Fraction(1, fps)
            packet.pts += first
            packet.dts += first
            muxer.mux_one(packet)
    return out.getvalue()


class LiveHls:
    """A live HLS stream; its playlist names the latest segments.

    Args:
        seconds: duration of a segment.
        kept: number of segments that the playlist names.
    """

    def __init__(self, *, seconds: int, segments: int, kept: int = 5) -> None:
        self._seconds = seconds
        self._kept = kept
        self._segments = [
            video_bytes(seconds, first=index * seconds * 25) for index in range(segments)
        ]
        self._started_at = time.monotonic() - 3 * seconds  # three segments exist already
        self.started_wall = time.time() - 3 * seconds

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        """Answer a request for the playlist or a segment."""
        name = request.path.strip("/")
        if name.endswith(".ts"):
            send(request, self._segments[int(name.removesuffix(".ts"))], "video/mp2t")
            return
        ready = int((time.monotonic() - self._started_at) / self._seconds)
        ready = min(ready, len(self._segments))
        first = max(0, ready - self._kept)
        lines = [
            "#EXTM3U",
            "#EXT-X-VERSION:3",
            f"#EXT-X-TARGETDURATION:{self._seconds}",
            f"#EXT-X-MEDIA-SEQUENCE:{first}",
        ]
        for index in range(first, ready):
            lines += [f"#EXTINF:{self._seconds:.3f},", f"{index}.ts"]
        send(request, "\n".join([*lines, ""]).encode(), "application/vnd.apple.mpegurl")


class RangeServer:
    """Serves one file with byte ranges; it breaks each long answer off after `max_bytes`."""

    def __init__(self, body: bytes, *, max_bytes: int | None = None) -> None:
        self._body = body
        self._max_bytes = max_bytes
        self.requests = 0

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        self.requests += 1
        first, _, last = (
            request.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        )
        begin = int(first or 0)
        end = min(int(last) if last else len(self._body) - 1, len(self._body) - 1)
        request.send_response(206)
        request.send_header("Content-Type", "video/mp4")
        request.send_header("Accept-Ranges", "bytes")
        request.send_header("Content-Range", f"bytes {begin}-{end}/{len(self._body)}")
        request.send_header("Content-Length", str(end - begin + 1))
        request.end_headers()
        part = self._body[begin : end + 1]
        request.wfile.write(part if self._max_bytes is None else part[: self._max_bytes])
