"""One connection to a camera: how it is opened, which clock it has, why it failed."""

from __future__ import annotations

import dataclasses
import random
import re
import socket
import struct
import time
import urllib.parse
from typing import Any

from configs import MediaError
from model.media.container import open_container, open_file
from model.media.source_rules import (
    HLS,
    MJPEG,
    RTMP,
    RTSP,
    TCP,
    UDP,
    V4L2,
    WEB_LIVE,
    WEB_RECORDING,
    SourceRules,
)
from stream.cameras.config import CameraConfig
from stream.ingest.config import SourceConfig
from stream.ingest.explain import explain_answer
from stream.ingest.hls import START_SEGMENTS
from stream.ingest.rtsp_redirects import check_redirects
from stream.ingest.srt import open_srt
from stream.ingest.web import WebVideo, find_address, find_web_video
from stream.ingest.web_client import WebClient
from stream.types import PacketClock

__all__ = [
    "SourceFacts",
    "choose_clock",
    "explain_failure",
    "find_facts",
    "open_camera",
    "wall_seconds",
    "with_zone_index",
]

_SEGMENTS_OF_PATIENCE = 3
_ZONE = re.compile(r"([a-z]+://(?:[^/?#]*@)?\[[0-9A-Fa-f:.]+)%25([\w.-]+)(?=\])")
# The frame rate is not needed, and what the streams are shows within a key frame's interval.
_LIVE_OPTIONS = {"fpsprobesize": "0", "analyzeduration": "2000000"}
_FIRST_PORT, _LAST_PORT, _UDP_PORTS = 20_000, 60_000, 64
_RULES: dict[str, SourceRules] = {"tcp": TCP, "udp": UDP, "rtmp": RTMP, "rtmps": RTMP}
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
        if camera.url.startswith(("rtsp://", "rtsps://")) and not config.redirects:
            check_redirects(with_zone_index(camera.url), config)
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
    """Open a camera; the answer is a context that gives the PyAV container, and closes it.

    Args:
        format_name: name of FFmpeg's demuxer; None: FFmpeg finds it out.

    Raises:
        MediaError: it cannot be opened within the time, or sends something that is not allowed.
    """
    if camera.is_file:
        return open_file(camera.url, max_pixels=config.max_pixels, allow_pipe=True)
    arguments: dict[str, Any] = {
        "timeout": (config.open_timeout_seconds, facts.read_timeout_seconds),
        "max_pixels": config.max_pixels,
    }
    if camera.kind == "device":
        return open_container(camera.url, V4L2, format="v4l2", **arguments)
    if camera.is_on_web:
        return _open_web(camera, config, facts, arguments, format_name)
    if _scheme(camera) == "srt":
        return open_srt(with_zone_index(camera.url), config, facts.read_timeout_seconds)
    rules = _RULES.get(_scheme(camera), RTSP)
    options = _rtsp_options(camera) if rules is RTSP else dict(_LIVE_OPTIONS)
    options |= _tls(camera, config)
    return open_container(with_zone_index(camera.url), rules, options=options, **arguments)


def _open_web(
    camera: CameraConfig,
    config: SourceConfig,
    facts: SourceFacts,
    arguments: dict[str, Any],
    format_name: str | None,
) -> Any:
    web = facts.web
    if web is not None and web.playlist is not None:
        return _open_hls(camera, config, facts, arguments)
    url = camera.url
    options: dict[str, str] = {}
    if not config.redirects:
        options["max_redirects"] = "0"
        url = find_address(url, config) if web is not None and web.is_redirected else url
    if facts.is_recording:
        # FFmpeg goes on where an answer broke off; if that fails, the recording is opened again.
        options |= {"reconnect": "1", "reconnect_delay_max": "2"}
    else:
        options |= _LIVE_OPTIONS
    is_mjpeg = web is not None and web.kind == "mjpeg"
    if is_mjpeg:
        options["analyzeduration"] = "100000"  # nothing but JPEGs can come
    rules = WEB_RECORDING if facts.is_recording else MJPEG if is_mjpeg else WEB_LIVE
    options |= _tls(camera, config)
    url = with_zone_index(url)
    return open_container(url, rules, format=format_name, options=options, **arguments)


def _open_hls(
    camera: CameraConfig, config: SourceConfig, facts: SourceFacts, arguments: dict[str, Any]
) -> Any:
    """Open a playlist; its segments are read by our client unless all hosts may be asked."""
    # The client and the list of formats do what FFmpeg's check of file extensions is for.
    options = {"extension_picky": "0"}
    if facts.is_hls:
        options["live_start_index"] = str(-START_SEGMENTS)
    if config.redirects:
        return open_container(camera.url, HLS, options=options | _tls(camera, config), **arguments)
    client = WebClient(camera.url, config, config.read_timeout_seconds)
    options |= {"http_persistent": "0", "http_multiple": "0"}
    # FFmpeg joins the names of segments to this address.
    is_redirected = facts.web is not None and facts.web.is_redirected
    url = find_address(camera.url, config) if is_redirected else camera.url
    return open_container(url, HLS, options=options, io_open=client.open_for_ffmpeg, **arguments)


def _rtsp_options(camera: CameraConfig) -> dict[str, str]:
    # RTSP describes its streams before it sends them: a few bytes of probing are enough.
    # Audio is not even requested.
    # Each stream of UDP needs two ports: few ports bound what a server can make us open.
    first_port = random.randrange(_FIRST_PORT, _LAST_PORT - _UDP_PORTS, 2)
    return {
        "rtsp_transport": camera.transport,
        "probesize": "32",
        "allowed_media_types": "video",
        "min_port": str(first_port),
        "max_port": str(first_port + _UDP_PORTS),
    }


def _tls(camera: CameraConfig, config: SourceConfig) -> dict[str, str]:
    if _scheme(camera) not in ("rtsps", "rtmps", "https"):
        return {}
    options = {"tls_verify": str(int(config.tls_verify))}
    if config.tls_ca_file is not None:
        options["ca_file"] = config.tls_ca_file
    return options


def with_zone_index(url: str) -> str:
    """Write the zone of an IPv6 address (RFC 6874) as the number of the network interface.

    FFmpeg takes an address with a zone that it does not know for a host name and a port.

    Raises:
        MediaError: this machine does not have the interface.
    """
    match = _ZONE.match(url)
    if match is None:
        return url
    try:
        index = socket.if_nametoindex(match[2])
    except OSError:
        raise MediaError(f"this machine has no network interface {match[2]}") from None
    return f"{match[1]}%{index}{url[match.end() :]}"


def _scheme(camera: CameraConfig) -> str:
    return camera.url.partition(":")[0].lower()


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
