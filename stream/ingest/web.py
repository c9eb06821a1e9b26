"""Ask a web server what lies at an address: a recording, a playlist, pictures or a live stream."""

from __future__ import annotations

import dataclasses
import http.client
import urllib.error
from typing import Literal
from urllib.parse import urlsplit

from configs import MediaError
from model.media.container import explain
from stream.ingest.config import SourceConfig
from stream.ingest.hls import Playlist, is_playlist, load_playlist
from stream.ingest.web_client import WebClient

__all__ = ["WebVideo", "find_address", "find_web_video"]

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

    Attributes:
        playlist: what the playlist says; None if it is not a playlist.
        is_redirected: whether the server sent the question to another address of its host.
    """

    kind: Literal["live", "mjpeg", "hls", "recording", "unseekable", "picture"]
    playlist: Playlist | None = None
    is_redirected: bool = False

    @property
    def refusal(self) -> str | None:
        """Why it cannot be analysed, and what to do; None if it can be."""
        return _REFUSALS.get(self.kind)


def find_web_video(url: str, config: SourceConfig) -> WebVideo | None:
    """Ask for the first byte of an address and read the answer's headers.

    Returns:
        What lies there; None if the server gives no clear answer.

    Raises:
        MediaError: the address names a playlist that cannot be used, or the server redirects to a
            host that may not be asked.
    """
    client = WebClient(url, config, config.open_timeout_seconds)
    try:
        with client.open(url, {"Range": "bytes=0-0"}) as answer:
            video = _describe(url, client, answer)
            is_redirected = client.is_elsewhere(url, answer.geturl())
            return dataclasses.replace(video, is_redirected=is_redirected)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code not in _UNCLEAR:
            return None
        return WebVideo("live", is_redirected=client.is_elsewhere(url, error.geturl()))
    except (OSError, http.client.HTTPException, ValueError):
        return None


def find_address(url: str, config: SourceConfig) -> str:
    """Return the address to which the server redirects, with its login.

    Raises:
        MediaError: the server redirects to a host that may not be asked, or does not answer.
    """
    client = WebClient(url, config, config.open_timeout_seconds)
    try:
        with client.open(url, {"Range": "bytes=0-0"}) as answer:
            return client.with_login(answer.geturl())
    except urllib.error.HTTPError as error:
        error.close()
        return client.with_login(error.geturl())  # FFmpeg may get on with the server
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise MediaError(f"cannot open: {explain(error)}") from error


def _describe(url: str, client: WebClient, answer: http.client.HTTPResponse) -> WebVideo:
    content_type = answer.headers.get_content_type() if answer.headers["Content-Type"] else ""
    if "mpegurl" in content_type or urlsplit(url).path.lower().endswith((".m3u8", ".m3u")):
        return _hls(answer.geturl(), client)
    if content_type.startswith("multipart/"):
        return WebVideo("mjpeg")
    length = _length(answer)
    is_image = content_type.startswith("image/")
    if length is not None:
        if is_image:
            return WebVideo("picture")
        return WebVideo("recording" if answer.status == 206 else "unseekable")
    head = b"" if content_type.startswith("video/") else client.read(answer, _HEAD_BYTES)
    if is_playlist(head):
        return _hls(answer.geturl(), client)
    return WebVideo("mjpeg" if is_image or _JPEG in head else "live")


def _hls(url: str, client: WebClient) -> WebVideo:
    playlist = load_playlist(url, client.fetch_playlist)
    return WebVideo("recording" if playlist.has_end else "hls", playlist)


def _length(answer: http.client.HTTPResponse) -> int | None:
    """Return the length of what lies at the address in bytes; None if the server does not say."""
    total = answer.headers.get("Content-Range", "").rpartition("/")[2]
    text = total if answer.status == 206 else answer.headers.get("Content-Length", "")
    length = int(text) if text.isascii() and text.isdigit() else None
    if length is None or length > _MAX_LENGTH or length in _MADE_UP_LENGTHS:
        return None
    return length
