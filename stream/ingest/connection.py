"""One connection to a camera: how it is opened, which clock it has, why it failed."""

from __future__ import annotations

import dataclasses
import socket
import struct
import time
import urllib.parse
from typing import Any

from configs import MediaError
from model.media.container import open_container
from stream.cameras.config import CameraConfig
from stream.ingest.config import SourceConfig
from stream.ingest.explain import explain_answer
from stream.ingest.hls import START_SEGMENTS
from stream.ingest.web import WebVideo, find_web_video
from stream.types import PacketClock

__all__ = [
    "SourceFacts",
    "choose_clock",
    "explain_failure",
    "find_facts",
    "open_camera",
    "wall_seconds",
]

_SEGMENTS_OF_PATIENCE = 3
# FFmpeg's flag of containers without timestamps of their own.
_NO_TIMESTAMPS = 0x80


@dataclasses.dataclass(frozen=True)
class SourceFacts:
    """How the video of a camera comes, found out before it is opened.

    Attributes:
        is_recording: whether it ends.
        read_timeout_seconds: how long a packet may be waited for.
        web: what lies at a web address; None for other addresses.
    """

    is_recording: bool
    read_timeout_seconds: float
    web: WebVideo | None = None

    @property
    def is_hls(self) -> bool:
        """Whether it is a live HLS stream, which comes in segments."""
        return self.web is not None and self.web.kind == "hls"


def find_facts(camera: CameraConfig, config: SourceConfig) -> SourceFacts | None:
    """Find out how the video of a camera comes.

    Returns:
        The facts; None if a web server gives no clear answer.

    Raises:
        MediaError: the address cannot be used; the message has the remedy.
    """
    patience = config.read_timeout_seconds
    if not camera.is_on_web:
        return SourceFacts(camera.is_file, patience)
    web = find_web_video(camera.url, config)
    if web is None:
        return None
    if web.playlist is not None:
        # The next segment comes a segment's length after the last one, or somewhat later.
        patience = max(patience, _SEGMENTS_OF_PATIENCE * web.playlist.longest_seconds)
    return SourceFacts(web.kind == "recording", patience, web)


def open_camera(
    camera: CameraConfig,
    config: SourceConfig,
    facts: SourceFacts,
    *,
    format_name: str | None = None,
) -> Any:
    """Open a camera as a PyAV container.

    Args:
        format_name: name of FFmpeg's demuxer; None: FFmpeg finds it out.

    Raises:
        MediaError: it cannot be opened within the time.
    """
    if camera.is_file:
        return open_container(camera.url)
    timeout = (config.open_timeout_seconds, facts.read_timeout_seconds)
    if camera.kind == "device":
        return open_container(camera.url, format="v4l2", timeout=timeout)
    options = _options(camera, config)
    if format_name is not None:
        # Frame rate and duration are not needed, and reading ahead to find them takes seconds.
        options |= {"fpsprobesize": "0", "analyzeduration": "100000"}
    if facts.is_recording:
        # FFmpeg goes on where an answer broke off; if that fails, the recording is opened again.
        options |= {"reconnect": "1", "reconnect_delay_max": "2"}
    if facts.is_hls:
        options["live_start_index"] = str(-START_SEGMENTS)
    return open_container(camera.url, format=format_name, options=options, timeout=timeout)


def _options(camera: CameraConfig, config: SourceConfig) -> dict[str, str]:
    options: dict[str, str] = {}
    scheme = camera.url.partition(":")[0].lower()
    if scheme in ("rtsp", "rtsps"):
        # RTSP describes its streams before it sends them: a few bytes of probing are enough.
        # Audio is not even requested.
        options["rtsp_transport"] = camera.transport
        options["probesize"] = "32"
        options["allowed_media_types"] = "video"
    if scheme in ("rtsps", "https"):
        options["tls_verify"] = str(int(config.tls_verify))
        if config.tls_ca_file is not None:
            options["ca_file"] = config.tls_ca_file
    return options


def explain_failure(
    camera: CameraConfig, config: SourceConfig, error: MediaError, seconds: float
) -> str:
    """Say in one line why a camera could not be opened.

    FFmpeg says `Immediate exit` of a timeout, and `Input/output error` of an unknown host.

    Args:
        seconds: how long it was tried.
    """
    if camera.kind != "network":
        return str(error)
    if seconds >= 0.9 * config.open_timeout_seconds:
        return f"no answer within {config.open_timeout_seconds:g} s"
    host = urllib.parse.urlsplit(camera.url).hostname
    try:
        if host is not None:
            socket.getaddrinfo(host, None)
    except (OSError, UnicodeError):
        return f"no such host: {host}"
    return explain_answer(camera, error)


def choose_clock(facts: SourceFacts, container: Any, first_packet: Any) -> PacketClock:
    """Say which times can be believed in a connection that begins with this packet."""
    if not container.format.flags & _NO_TIMESTAMPS:
        return "stream"
    if not facts.is_recording:
        # Raw video, and JPEGs over HTTP: FFmpeg stamps them evenly, however late they arrive.
        return "arrival"
    return "count" if first_packet.pts is None else "stream"


def wall_seconds(packet: Any, arrived_monotonic: float, max_difference_seconds: float) -> float:
    """When a packet's frame was taken, in seconds since 1970.

    Args:
        max_difference_seconds: the camera's clock is believed if it is this close to ours.
    """
    ours = time.time() - (time.monotonic() - arrived_monotonic)
    if max_difference_seconds and packet.has_sidedata("prft"):
        # Producer reference time: microseconds since 1970 by the sender's clock, as its RTCP
        # reports map them.
        theirs = struct.unpack_from("<q", bytes(packet.get_sidedata("prft")))[0] / 1e6
        if abs(theirs - ours) <= max_difference_seconds:
            return float(theirs)
    return ours
