"""Ask a web server what lies at an address: a recording, a playlist, pictures or a live stream."""

from __future__ import annotations

import base64
import dataclasses
import http.client
import ssl
import urllib.error
import urllib.request
from typing import IO, Literal
from urllib.parse import unquote, urlsplit, urlunsplit

from stream.ingest.config import SourceConfig
from stream.ingest.hls import Playlist, is_playlist, load_playlist

__all__ = ["WebVideo", "find_web_video"]

_MAX_PLAYLIST_BYTES = 4_000_000
_HEAD_BYTES = 512
# Live streams with a made-up length say something like this; a recording is shorter than 100 GB.
_MAX_LENGTH = 100_000_000_000
_MADE_UP_LENGTHS = (2**31 - 1, 2**31, 2**32 - 1, 999_999_999)
# Statuses with which a server may refuse this question and still send its video to FFmpeg.
_UNCLEAR = (400, 401, 405, 406, 416, 501)
_JPEG = b"\xff\xd8\xff"
_REFUSALS = {
    "picture": (
        "the address is a single picture, not a video; use the camera's MJPEG or RTSP address"
    ),
    "unseekable": (
        "the address is a recording that can only be read from its beginning, because the server"
        " does not support byte ranges; download the file, or serve it with a server that supports"
        " them (HTTP Range requests)"
    ),
}


@dataclasses.dataclass(frozen=True)
class WebVideo:
    """What lies at a web address.

    `recording` ends and can be read from any place; `unseekable` ends and cannot; `picture` is a
    single image; `hls` is a playlist that grows; `mjpeg` is a stream of JPEGs; `live` is the rest.
    """

    kind: Literal["live", "mjpeg", "hls", "recording", "unseekable", "picture"]
    playlist: Playlist | None = None

    @property
    def refusal(self) -> str | None:
        """Why it cannot be analysed, and what to do; None if it can be."""
        return _REFUSALS.get(self.kind)


def find_web_video(url: str, config: SourceConfig) -> WebVideo | None:
    """Ask for the first byte of an address and read the answer's headers.

    Returns:
        What lies there; None if the server gives no clear answer.

    Raises:
        MediaError: the address names a playlist that cannot be used.
    """
    try:
        with _open(url, config, {"Range": "bytes=0-0"}) as answer:
            return _describe(url, config, answer)
    except urllib.error.HTTPError as error:
        error.close()
        return WebVideo("live") if error.code in _UNCLEAR else None
    except (OSError, http.client.HTTPException, ValueError):
        return None


def _describe(url: str, config: SourceConfig, answer: http.client.HTTPResponse) -> WebVideo:
    content_type = answer.headers.get_content_type() if answer.headers["Content-Type"] else ""
    if "mpegurl" in content_type or urlsplit(url).path.lower().endswith((".m3u8", ".m3u")):
        return _hls(url, config)
    if content_type.startswith("multipart/"):
        return WebVideo("mjpeg")
    length = _length(answer)
    is_image = content_type.startswith("image/")
    if length is not None:
        if is_image:
            return WebVideo("picture")
        return WebVideo("recording" if answer.status == 206 else "unseekable")
    head = b"" if content_type.startswith("video/") else answer.read(_HEAD_BYTES)
    if is_playlist(head):
        return _hls(url, config)
    return WebVideo("mjpeg" if is_image or _JPEG in head else "live")


def _hls(url: str, config: SourceConfig) -> WebVideo:
    def fetch(address: str) -> bytes:
        with _open(address, config, {}) as answer:
            return answer.read(_MAX_PLAYLIST_BYTES)

    playlist = load_playlist(url, fetch)
    return WebVideo("recording" if playlist.has_end else "hls", playlist)


def _length(answer: http.client.HTTPResponse) -> int | None:
    """Return the length of what lies at the address in bytes; None if the server does not say."""
    total = answer.headers.get("Content-Range", "").rpartition("/")[2]
    text = total if answer.status == 206 else answer.headers.get("Content-Length", "")
    length = int(text) if text.isascii() and text.isdigit() else None
    if length is None or length > _MAX_LENGTH or length in _MADE_UP_LENGTHS:
        return None
    return length


def _open(url: str, config: SourceConfig, headers: dict[str, str]) -> http.client.HTTPResponse:
    parts = urlsplit(url)
    login, has_login, host = parts.netloc.rpartition("@")
    if has_login:
        token = base64.b64encode(unquote(login).encode()).decode()
        headers = headers | {"Authorization": f"Basic {token}"}
    plain = urlunsplit((parts.scheme, host, parts.path or "/", parts.query, ""))
    request = urllib.request.Request(plain, headers=headers | {"User-Agent": "cidc-stream"})
    handler = urllib.request.HTTPSHandler(context=_tls(config))
    opener = urllib.request.build_opener(handler)
    answer: IO[bytes] = opener.open(request, timeout=config.open_timeout_seconds)
    assert isinstance(answer, http.client.HTTPResponse)
    return answer


def _tls(config: SourceConfig) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=config.tls_ca_file)
    if not config.tls_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
