"""Packets of one camera: open, pace, notice silence, reconnect. One source runs in one thread.

States (`stream.frames.CameraState`): connecting, running, stalled (open but silent), offline (cannot be opened),
ended. A fifth, blocked, is the reader's own: the stages behind it are slow, and it never restarts a camera.
"""

from __future__ import annotations

import dataclasses
import random
import re
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from av.error import FFmpegError
from pydantic import Field, field_validator, model_validator

from configs import MediaError, StrictModel
from model.video import explain, open_container, video_stream
from stream.frames import CameraState, CodedPacket

__all__ = ["CameraConfig", "Source", "SourceConfig", "redact_url"]

_NETWORK_SCHEMES = ("rtsp", "rtsps", "http", "https", "tcp", "udp")


class SourceConfig(StrictModel):
    """How all cameras are opened and kept open."""

    open_timeout_seconds: float = Field(10.0, gt=0, le=300, description="give up opening after this long")
    read_timeout_seconds: float = Field(5.0, gt=0, le=300, description="a camera silent for this long is stalled and opened again")
    backoff_first_seconds: float = Field(0.5, gt=0, le=60, description="first pause before opening again; doubles each time")
    backoff_most_seconds: float = Field(30.0, gt=0, le=3600, description="longest pause before opening again")

    @model_validator(mode="after")
    def _check(self) -> SourceConfig:
        if self.backoff_first_seconds > self.backoff_most_seconds:
            raise ValueError("backoff_first_seconds must not be above backoff_most_seconds")
        return self


class CameraConfig(StrictModel):
    """One camera."""

    id: str = Field(description="name in events and metrics", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    url: str = Field(description="file path, or an rtsp, rtsps, http, https, tcp or udp address", min_length=1)
    transport: Literal["tcp", "udp"] = Field("tcp", description="how RTSP carries its packets")
    pace: Literal["realtime", "fast"] = Field("realtime", description="files: at the speed of their timestamps, or as fast as possible")
    loop: bool = Field(False, description="files: start again at the end")

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        scheme = _scheme(url)
        if scheme is None:
            return url
        if scheme not in _NETWORK_SCHEMES:
            raise ValueError(f"unknown scheme {scheme!r} in {redact_url(url)}; use a file path or one of {', '.join(_NETWORK_SCHEMES)}")
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            raise ValueError(f"{redact_url(url)} is not a valid address; write {scheme}://host[:port]/path") from None
        if not host:
            raise ValueError(f"{redact_url(url)} has no host name; write {scheme}://host[:port]/path")
        return url

    @property
    def is_file(self) -> bool:
        """Whether `url` is a path rather than a network address."""
        return _scheme(self.url) is None

    def problem(self) -> str | None:
        """What is certainly wrong with it, found without opening it; None if nothing is."""
        if self.is_file and not Path(self.url).is_file():
            return f"camera {self.id}: file not found: {redact_url(self.url)}"
        return None


@dataclasses.dataclass
class Source:
    """Iterate over `packets()` to receive a camera; they stop at the end of a file or when `stop` is set.

    `on_state` is told every change of state with a reason for people; `on_reconnect` each time it opens again.
    """

    camera: CameraConfig
    config: SourceConfig
    stop: threading.Event
    on_state: Callable[[CameraState, str], None]
    on_reconnect: Callable[[], None] = lambda: None
    _failures: int = 0

    def packets(self) -> Iterator[CodedPacket]:
        """Packets with their arrival times; one with `packet=None` wherever a connection was lost and another follows."""
        self.on_state("connecting", "")
        while not self.stop.is_set():
            received, problem = yield from self._one_connection()
            if self.stop.is_set():
                break
            if self.camera.is_file and not (self.camera.loop and problem is None and received):
                self.on_state("ended", problem or "end of file")
                return
            yield CodedPacket(None, time.monotonic(), time.time())
            if not self.camera.is_file:
                self._back_off(problem or "the camera closed the connection", received)
                self.on_reconnect()
                self.on_state("connecting", "")
        self.on_state("ended", "stopped")

    def _one_connection(self) -> Generator[CodedPacket, None, tuple[int, str | None]]:
        """One opening, up to its end; returns how many packets came and what went wrong, None for an orderly end."""
        received = 0
        try:
            with self._open() as container:
                stream = video_stream(container)
                pace = _Pace(self.camera, self.stop)
                for packet in container.demux(stream):
                    if self.stop.is_set():
                        return received, None
                    if packet.size:
                        if received == 0:
                            self.on_state("running", "")
                        received += 1
                        self._failures = 0
                    arrived = pace.arrival(packet)
                    yield CodedPacket(packet, arrived, time.time() - (time.monotonic() - arrived))
        except MediaError as error:
            return received, str(error)
        except (FFmpegError, OSError, IndexError, ValueError) as error:
            return received, f"read error after {received} packets: {explain(error)}"
        return received, None

    def _open(self) -> Any:
        if self.camera.is_file:
            return open_container(self.camera.url)
        options = {}
        if _scheme(self.camera.url) in ("rtsp", "rtsps"):
            # A few bytes of probing are enough: RTSP describes its streams before it sends them.
            options = {"rtsp_transport": self.camera.transport, "probesize": "32"}
        timeout = (self.config.open_timeout_seconds, self.config.read_timeout_seconds)
        return open_container(self.camera.url, options=options, timeout=timeout)

    def _back_off(self, problem: str, received: int) -> None:
        self._failures += 1
        self.on_state("stalled" if received else "offline", problem)
        longest = min(self.config.backoff_first_seconds * 2 ** min(self._failures - 1, 20), self.config.backoff_most_seconds)
        # Jitter: cameras that fell together must not come back together.
        self.stop.wait(random.uniform(longest / 2, longest))


class _Pace:
    """Holds a file's packets back until their decoding time, as a camera would send them."""

    def __init__(self, camera: CameraConfig, stop: threading.Event) -> None:
        self._active = camera.is_file and camera.pace == "realtime"
        self._stop = stop
        self._first: tuple[float, float] | None = None
        self._latest = 0.0

    def arrival(self, packet: Any) -> float:
        """Wait until the packet is due; returns when it came in, which for a reader that is behind is when it was due."""
        now = time.monotonic()
        stamp = packet.dts if packet.dts is not None else packet.pts
        if not self._active or stamp is None:
            return now
        media = float(stamp * packet.time_base)
        if self._first is None or media < self._latest - 1.0:
            self._first = (media, now)  # the beginning, or a jump backwards: count from here
        self._latest = media
        due = self._first[1] + media - self._first[0]
        if due > now:
            self._stop.wait(due - now)
        return due


def redact_url(url: str) -> str:
    """The address without user name, password and query, for logs, metrics and events."""
    scheme, rest = _scheme(url), url
    if scheme is not None:
        rest = url.partition(":")[2].lstrip("/")
    elif not re.match(r"[^/]*:[^/]*@", url):
        return url  # a file
    # Up to the last @: a password that was not percent-encoded may hold an @, a slash or a question mark itself.
    address = re.split(r"[?#]", rest.rpartition("@")[2])[0]
    return f"{scheme}://{address}" if scheme else address


def _scheme(url: str) -> str | None:
    match = re.match(r"^([A-Za-z][A-Za-z0-9+.-]*):/", url)
    return match.group(1).lower() if match else None
