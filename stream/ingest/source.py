"""Packets of one camera: open, pace, notice silence, reconnect. One source runs in one thread.

States (`stream.types.CameraState`): connecting (for the first time), running, stalled (it was open
and fell silent) and offline (it cannot be opened), both until packets come again, ended. A sixth,
blocked, is the reader's own: the stages behind it are slow, and it never restarts a camera.
"""

from __future__ import annotations

import dataclasses
import logging
import random
import socket
import struct
import threading
import time
import urllib.parse
from collections.abc import Callable, Generator, Iterator
from typing import Any

from av.error import ExitError, FFmpegError

from configs import MediaError
from model.media.container import explain, frame_rate, open_container, video_stream
from stream.cameras.config import CameraConfig, redact_url
from stream.ingest.config import SourceConfig
from stream.types import CameraState, CodedPacket, PacketClock

__all__ = ["Source"]

# A connection that lasted this long was a good one: the next failure is a new one, with a short
# first pause.
_STEADY_SECONDS = 5.0
# A file whose timestamps jump further ahead is not waited for.
_LONGEST_PAUSE = 60.0
# FFmpeg's mark of containers that hold no times of their own.
_NO_TIMESTAMPS = 0x80
_log = logging.getLogger(__name__)


@dataclasses.dataclass
class Source:
    """Iterate over `packets()` to receive a camera; they stop at the end of a file or when `stop`
    is set.

    `on_state` is told every change of state with a reason for people; `on_reconnect` each time it
    opens again; `on_rest` when it begins to wait for a reason of its own, and when that is over.
    """

    camera: CameraConfig
    config: SourceConfig
    stop: threading.Event
    on_state: Callable[[CameraState, str], None]
    on_reconnect: Callable[[], None] = lambda: None
    on_rest: Callable[[bool], None] = lambda resting: None
    _failures: int = 0
    _complaint: str | None = None

    def packets(self) -> Iterator[CodedPacket]:
        """Packets with their arrival times; one with `packet=None` wherever a connection was
        lost and another follows.
        """
        self.on_state("connecting", "")
        while not self.stop.is_set():
            begun = time.monotonic()
            received, problem = yield from self._one_connection()
            if self.stop.is_set():
                break
            if self.camera.is_file and not (self.camera.loop and problem is None and received):
                self.on_state("ended", problem or "end of file")
                return
            if received:  # otherwise there is nothing to interrupt
                yield CodedPacket(
                    None,
                    time.monotonic(),
                    time.time(),
                    lost="reconnect" if problem is None else "stalled",
                )
            if self.camera.is_file:
                self.stop.wait(0.01)  # a file of a few packets that loops must not keep a core busy
            else:
                if received and time.monotonic() - begun >= _STEADY_SECONDS:
                    self._failures = 0
                self._back_off(problem or "the camera closed the connection", received)
                self.on_reconnect()
        self.on_state("ended", "stopped")

    def give_up(self, problem: str) -> None:
        """Close this connection and open another: what comes is of no use. Called from any
        thread.
        """
        self._complaint = problem

    def _one_connection(self) -> Generator[CodedPacket, None, tuple[int, str | None]]:
        """One opening, up to its end; returns how many packets came and what went wrong, None
        for an orderly end.
        """
        received = 0
        self._complaint = None
        begun = time.monotonic()
        try:
            with self._open() as container:
                stream = video_stream(container)
                pace = _Pace(self.camera, self.config, self.stop, self.on_rest)
                last_video = time.monotonic()
                clock: PacketClock = "stream"
                # All streams are read, so that a picture that stands still while sound goes on is
                # noticed.
                for packet in container.demux():
                    if self.stop.is_set():
                        return received, None
                    if self._complaint is not None:
                        return received, self._complaint
                    if packet.stream_index != stream.index:
                        if (
                            not self.camera.is_file
                            and time.monotonic() - last_video > self.config.read_timeout_seconds
                        ):
                            return (
                                received,
                                (
                                    f"no video for {self.config.read_timeout_seconds:g} s, though"
                                    " other data comes"
                                ),
                            )
                        continue
                    last_video = time.monotonic()
                    if packet.size:
                        if received == 0:
                            self.on_state("running", "")
                            clock = self._clock(container, packet)
                        received += 1
                    arrived = pace.arrival(packet)
                    yield CodedPacket(
                        packet, arrived, self._wall_seconds(packet, arrived), clock=clock
                    )
        except MediaError as error:
            return received, self._why_not_open(str(error), time.monotonic() - begun)
        except ExitError:
            return received, f"silent for {self.config.read_timeout_seconds:g} s"
        except (FFmpegError, OSError, IndexError, ValueError) as error:
            return received, f"read error after {received} packets: {explain(error)}"
        except Exception as error:
            # the edge of the connection: whatever it was, the next one may do
            _log.exception(
                "camera %s: unexpected error", self.camera.id, extra={"camera": self.camera.id}
            )
            return received, f"unexpected error ({type(error).__name__}), see the log"
        return received, None

    def _open(self) -> Any:
        camera = self.camera
        config = self.config
        if camera.is_file:
            return open_container(camera.url)
        timeout = (config.open_timeout_seconds, config.read_timeout_seconds)
        if camera.kind == "device":
            return open_container(camera.url, format="v4l2", timeout=timeout)
        options = {}
        scheme = camera.url.partition(":")[0].lower()
        if scheme in ("rtsp", "rtsps"):
            # A few bytes of probing are enough: RTSP describes its streams before it sends them.
            # Sound is not even asked for.
            options = {
                "rtsp_transport": camera.transport,
                "probesize": "32",
                "allowed_media_types": "video",
            }
        if scheme in ("rtsps", "https"):
            options["tls_verify"] = str(int(config.tls_verify))
            if config.tls_ca_file is not None:
                options["ca_file"] = config.tls_ca_file
        return open_container(camera.url, options=options, timeout=timeout)

    def _why_not_open(self, said: str, seconds: float) -> str:
        """The reason for people: FFmpeg says `Immediate exit` of a timeout, and `Input/output
        error` of a name that nobody knows.
        """
        if self.camera.kind != "network":
            return said
        if seconds >= 0.9 * self.config.open_timeout_seconds:
            return f"no answer within {self.config.open_timeout_seconds:g} s"
        host = urllib.parse.urlsplit(redact_url(self.camera.url)).hostname
        try:
            if host is not None:
                socket.getaddrinfo(host, None)
        except (OSError, UnicodeError):
            return f"no such host: {host}"
        return said

    def _clock(self, container: Any, packet: Any) -> PacketClock:
        """What times to believe in a connection that begins with this packet."""
        if not container.format.flags & _NO_TIMESTAMPS:
            return "stream"
        if not self.camera.is_file:
            # raw video and pictures over HTTP: FFmpeg stamps them evenly, however late they come
            return "arrival"
        return "count" if packet.pts is None else "stream"

    def _wall_seconds(self, packet: Any, arrived: float) -> float:
        ours = time.time() - (time.monotonic() - arrived)
        if self.config.camera_clock_seconds and packet.has_sidedata("prft"):
            # Producer reference time: microseconds since 1970 by the sender's clock, as its RTCP
            # reports map them.
            theirs = struct.unpack_from("<q", bytes(packet.get_sidedata("prft")))[0] / 1e6
            if abs(theirs - ours) <= self.config.camera_clock_seconds:
                return float(theirs)
        return ours

    def _back_off(self, problem: str, received: int) -> None:
        self._failures += 1
        self.on_state("stalled" if received else "offline", problem)
        longest = min(
            self.config.backoff_first_seconds * 2 ** min(self._failures - 1, 20),
            self.config.backoff_most_seconds,
        )
        # Jitter: cameras that fell together must not come back together.
        self.on_rest(True)
        self.stop.wait(random.uniform(longest / 2, longest))
        self.on_rest(False)


class _Pace:
    """Holds a file's packets back until their decoding time, as a camera would send them.

    A reader that is behind by more than `queue_seconds` does not try to catch up: what follows is
    due from then on.
    """

    def __init__(
        self,
        camera: CameraConfig,
        config: SourceConfig,
        stop: threading.Event,
        on_rest: Callable[[bool], None],
    ) -> None:
        self._active = camera.is_file and camera.pace == "realtime"
        self._stop = stop
        self._on_rest = on_rest
        self._first: tuple[float, float] | None = None
        self._latest = 0.0
        self._count = 0
        self._longest_behind = config.queue_seconds

    def arrival(self, packet: Any) -> float:
        """Wait until the packet is due; returns when it came in, which for a reader that is
        behind is when it was due.
        """
        now = time.monotonic()
        stamp = packet.dts if packet.dts is not None else packet.pts
        if not self._active or not packet.size:
            return now
        self._count += 1
        media = (
            self._count / frame_rate(packet.stream)
            if stamp is None
            else float(stamp * packet.time_base)
        )
        if self._first is None or not self._latest - 1.0 <= media <= self._latest + _LONGEST_PAUSE:
            self._first = (media, now)  # the beginning, or a jump: count from here
        self._latest = media
        due = self._first[1] + media - self._first[0]
        if now - due > self._longest_behind:
            self._first = (media, now)
            due = now
        if due > now:
            self._on_rest(True)
            self._stop.wait(due - now)
            self._on_rest(False)
        return due
