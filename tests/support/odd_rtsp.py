"""RTSP cameras that misbehave in ways a real server does not offer.

A small RTSP server (RFC 2326, RTP over the same TCP connection) sends H.264 (RFC 6184) as it is
told. The video is live: whoever connects gets what is going on now.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import itertools
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import av
import numpy as np

from tests.support.chaos import TcpCamera

__all__ = ["OddCamera", "Oddity", "coded_units", "rtsp_requests"]

_MAX_PAYLOAD = 1300
_VIDEO = 0
_START_CODE = re.compile(rb"\x00\x00\x00?\x01")


def coded_units(levels: Sequence[int], *, fps: int, **options: str) -> list[bytes]:
    """Encode grey frames with a moving square as H.264; one access unit (Annex B) per frame.

    Args:
        levels: grey level of each frame, 0 to 255.
        options: of x264.
    """
    codec = av.CodecContext.create("libx264", "w")
    assert isinstance(codec, av.VideoCodecContext)
    codec.width, codec.height, codec.pix_fmt = 160, 120, "yuv420p"
    codec.framerate = fps
    codec.time_base = 1 / codec.framerate
    codec.options = {"preset": "ultrafast", "tune": "zerolatency", "bf": "0"} | options
    units = []
    for number, level in enumerate(levels):
        rgb_HWC = np.full((120, 160, 3), level, np.uint8)
        left = number * 3 % 140
        rgb_HWC[50:70, left : left + 20] = 128
        frame = av.VideoFrame.from_ndarray(rgb_HWC, format="rgb24")
        frame.pts = number
        units += [bytes(packet) for packet in codec.encode(frame)]
    return units + [bytes(packet) for packet in codec.encode(None)]


@dataclasses.dataclass(frozen=True)
class Oddity:
    """What is odd about a camera.

    Attributes:
        ticks: RTP time of a frame, in 1/90000 s, from its index and its time in seconds.
        tracks: media lines of the SDP, in order; `video` is the one with the actions.
        garbage: bytes between two packets, by the index of the frame.
        sends: whether a frame is sent, from the number of the connection (the first is 1) and the
            seconds since it was opened.
        joins_at: index of the first frame that is sent on a connection, from the current one.
    """

    ticks: Callable[[int, float], int] = lambda index, seconds: round(seconds * 90_000)
    tracks: tuple[str, ...] = ("video",)
    garbage: Callable[[int], bytes] = lambda index: b""
    sends: Callable[[int, float], bool] = lambda connection, seconds: True
    joins_at: Callable[[int], int] = lambda index: index


class OddCamera(TcpCamera):
    """One camera at `rtsp://127.0.0.1:PORT/`.

    Args:
        units: access units of the video, from the moment the camera is made.
        other: access units of the track `other`, where there is one.
    """

    def __init__(
        self, units: Sequence[bytes], *, fps: int, oddity: Oddity, other: Sequence[bytes] = ()
    ) -> None:
        self._units = {"video": units, "other": other or units}
        self._fps = fps
        self._oddity = oddity
        self._started_at = time.monotonic()
        super().__init__(self._talk)

    @property
    def url(self) -> str:
        """The address of the camera."""
        return f"rtsp://127.0.0.1:{self.port}/live"

    def restart(self) -> None:
        """Begin the video now; for cameras that nobody has connected to yet."""
        self._started_at = time.monotonic()

    def _talk(self, client: socket.socket, stop: threading.Event) -> None:
        lock = threading.Lock()
        over = threading.Event()
        client.settimeout(0.5)
        try:
            for method, headers in rtsp_requests(client, stop):
                answer = self._answer(method, headers)
                with lock:
                    client.sendall(answer)
                if method == "PLAY":
                    threading.Thread(
                        target=self._play, args=(client, lock, over, stop), daemon=True
                    ).start()
                if method == "TEARDOWN":
                    return
        finally:
            over.set()

    def _answer(self, method: str, headers: dict[str, str]) -> bytes:
        lines = ["RTSP/1.0 200 OK", f"CSeq: {headers.get('cseq', '0')}", "Session: 12345"]
        body = ""
        if method == "OPTIONS":
            lines.append("Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER")
        if method == "DESCRIBE":
            body = self._sdp()
            lines += ["Content-Type: application/sdp", f"Content-Base: {self.url}/"]
            lines.append(f"Content-Length: {len(body)}")
        if method == "SETUP":
            lines.append(f"Transport: {headers['transport']}")
        return "\r\n".join([*lines, "", body]).encode()

    def _sdp(self) -> str:
        lines = ["v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=odd", "c=IN IP4 0.0.0.0", "t=0 0"]
        for number, track in enumerate(self._oddity.tracks):
            if track == "sound":
                lines += ["m=audio 0 RTP/AVP 0", f"a=control:track{number}"]
                continue
            sets = [nal for nal in _nals(self._units[track][0]) if nal[0] & 31 in (7, 8)]
            coded = ",".join(base64.b64encode(each).decode() for each in sets)
            lines += ["m=video 0 RTP/AVP 96", "a=rtpmap:96 H264/90000"]
            lines += [f"a=fmtp:96 packetization-mode=1;sprop-parameter-sets={coded}"]
            lines += [f"a=control:track{number}"]
        return "\r\n".join([*lines, ""])

    def _play(
        self,
        client: socket.socket,
        lock: threading.Lock,
        over: threading.Event,
        stop: threading.Event,
    ) -> None:
        oddity = self._oddity
        # FFmpeg does not ask for sound, and gives the tracks that it asks for channels in order.
        wanted = [track for track in oddity.tracks if track != "sound"]
        counters = [itertools.count(17) for _ in wanted]
        connected_at = time.monotonic()
        connection = self.connections
        first = oddity.joins_at(int((connected_at - self._started_at) * self._fps) + 1)
        with contextlib.suppress(OSError):
            for index in range(first, len(self._units["video"])):
                due = self._started_at + index / self._fps
                if stop.is_set() or over.wait(max(0.0, due - time.monotonic())):
                    return
                if not oddity.sends(connection, time.monotonic() - connected_at):
                    continue
                ticks = oddity.ticks(index, index / self._fps)
                data = oddity.garbage(index)
                for number, track in enumerate(wanted):
                    units = self._units[track]
                    nals = _nals(units[index % len(units)])
                    data += _rtp(nals, ticks, number * 2, counters[number])
                with lock:
                    client.sendall(data)
            stop.wait(600)


def rtsp_requests(
    client: socket.socket, stop: threading.Event
) -> Iterator[tuple[str, dict[str, str]]]:
    """Read the client's requests until it hangs up; skip its RTCP packets."""
    data = b""
    while not stop.is_set():
        try:
            part = client.recv(4096)
        except TimeoutError:
            continue
        if not part:
            return
        data += part
        while data:
            if data[:1] == b"$":
                if len(data) < 4 or len(data) < 4 + struct.unpack(">H", data[2:4])[0]:
                    break
                data = data[4 + struct.unpack(">H", data[2:4])[0] :]
                continue
            head, found, rest = data.partition(b"\r\n\r\n")
            if not found:
                break
            data = rest
            first, *lines = head.decode().split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines if ": " in line)
            yield first.split()[0], {name.lower(): value for name, value in headers.items()}


def _nals(unit: bytes) -> list[bytes]:
    return [nal for nal in _START_CODE.split(unit) if nal]


def _rtp(nals: Sequence[bytes], ticks: int, channel: int, sequence: Iterator[int]) -> bytes:
    """Pack one access unit into interleaved RTP packets: whole NAL units, or FU-A fragments."""
    payloads: list[bytes] = []
    for nal in nals:
        if len(nal) <= _MAX_PAYLOAD:
            payloads.append(nal)
            continue
        parts = [nal[at : at + _MAX_PAYLOAD] for at in range(1, len(nal), _MAX_PAYLOAD)]
        for number, part in enumerate(parts):
            flags = (number == 0) << 7 | (number == len(parts) - 1) << 6
            payloads.append(bytes([nal[0] & 0xE0 | 28, flags | nal[0] & 31]) + part)
    data = b""
    for number, payload in enumerate(payloads):
        marker = (number == len(payloads) - 1) << 7
        head = struct.pack(
            ">BBHII", 0x80, marker | 96, next(sequence) & 0xFFFF, ticks & 0xFFFFFFFF, 7 + channel
        )
        data += struct.pack(">BBH", 0x24, channel, len(head) + len(payload)) + head + payload
    return data
