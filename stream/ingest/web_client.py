"""Requests to the web server of a camera, which stay on its host.

Redirects and playlists may name other hosts. Unless the setting `source.redirects` allows it, they
are not asked: a server could otherwise reach hosts of the internal network through this process.
"""

from __future__ import annotations

import http.client
import io
import time
import urllib.error
import urllib.request
from typing import IO, Any
from urllib.parse import urlsplit

from configs import MediaError
from stream.ingest.config import SourceConfig
from stream.ingest.hls import is_playlist
from stream.ingest.logins import login_of, user_and_password, with_login, without_login
from stream.ingest.tls import client_context

__all__ = ["MAX_PLAYLIST_BYTES", "WebClient"]

MAX_PLAYLIST_BYTES = 4_000_000
_PORTS = {"http": 80, "https": 443}


class WebClient:
    """Sends requests to the host of one address, with its login.

    Args:
        url: the address of the camera; `http` or `https`.
        timeout_seconds: maximum time until the server answers, and between parts of an answer.
    """

    def __init__(self, url: str, config: SourceConfig, timeout_seconds: float) -> None:
        self._config = config
        self._timeout_seconds = timeout_seconds
        parts = urlsplit(url)
        self._login = login_of(url)
        self._authority = parts.netloc.rpartition("@")[2]
        self._scheme = parts.scheme
        self._host = parts.hostname
        self._opener = self._new_opener()

    def open(self, url: str, headers: dict[str, str] | None = None) -> http.client.HTTPResponse:
        """Send a GET request; follow redirects as far as the settings allow.

        Raises:
            MediaError: the address is on another host.
            OSError, http.client.HTTPException, ValueError: the server gives no usable answer.
        """
        self.check(url)
        request = urllib.request.Request(
            without_login(url), headers={"User-Agent": "cidc-stream", **(headers or {})}
        )
        answer = self._opener.open(request, timeout=self._timeout_seconds)
        assert isinstance(answer, http.client.HTTPResponse)
        return answer

    def fetch_playlist(self, url: str) -> bytes:
        """Return the body of an answer, up to the maximum size of a playlist.

        Raises:
            MediaError: the address is on another host.
            OSError, http.client.HTTPException, ValueError: the server gives no usable answer.
        """
        with self.open(url) as answer:
            return self.read(answer, MAX_PLAYLIST_BYTES)

    def read(self, answer: http.client.HTTPResponse, max_bytes: int) -> bytes:
        """Return what comes of an answer, for at most `timeout_seconds` and `max_bytes`.

        Raises:
            OSError, http.client.HTTPException: nothing more comes.
        """
        deadline = time.monotonic() + self._timeout_seconds
        data = b""
        while len(data) < max_bytes and time.monotonic() < deadline:
            part = answer.read1(max_bytes - len(data))
            if not part:
                break
            data += part
        return data

    def is_elsewhere(self, url: str, answered_url: str) -> bool:
        """Return whether an answer came from another address than was asked."""
        asked, answered = urlsplit(url), urlsplit(answered_url)
        return (asked.scheme, self._authority, asked.path or "/", asked.query) != (
            answered.scheme,
            answered.netloc,
            answered.path or "/",
            answered.query,
        )

    def check(self, url: str) -> None:
        """Check that an address may be asked.

        Raises:
            MediaError: it is on another host or not on the web.
        """
        parts = urlsplit(url)
        if parts.scheme not in _PORTS:
            raise MediaError(
                f"the server names an address of type {parts.scheme!r}, not a web address"
            )
        if self._config.redirects:
            return
        if parts.hostname != self._host:
            raise MediaError(
                f"the server redirects to another host, {parts.hostname}; if you trust it, give its"
                " address, or set source.redirects: true"
            )
        if self._scheme == "https" and parts.scheme == "http":
            raise MediaError(
                "the server redirects from https to http; give the http address if you trust the"
                " network, or set source.redirects: true"
            )

    def with_login(self, url: str) -> str:
        """Return an address with the camera's login, if it is on the camera's host."""
        if not self._login or urlsplit(url).hostname != self._host:
            return url
        return with_login(url, self._login)

    def open_for_ffmpeg(self, url: str, _flags: int, options: dict[str, Any]) -> IO[bytes]:
        """Open what FFmpeg's HLS demuxer asks for; PyAV's `io_open`.

        A segment that does not exist is empty, so that the stream goes on with the next one.

        Raises:
            MediaError: the address is on another host, or its segments are encrypted.
        """
        if url.startswith("crypto"):
            raise MediaError("its segments are encrypted; set source.redirects: true to read them")
        first = int(options.get("offset", 0))
        end = int(options.get("end_offset", 0))
        wanted = {"Range": f"bytes={first}-{end - 1 if end else ''}"} if first or end else {}
        try:
            answer = self.open(url, wanted)
        except urllib.error.HTTPError as error:
            error.close()
            return io.BytesIO()
        body = _Body(answer, self._timeout_seconds)
        if wanted and answer.status != http.HTTPStatus.PARTIAL_CONTENT:
            body.skip(first)
        return body  # type: ignore[return-value]

    def _new_opener(self) -> urllib.request.OpenerDirector:
        # `build_opener` would add handlers of files and FTP.
        opener = urllib.request.OpenerDirector()
        passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        if self._login:
            places = [f"{self._scheme}://{self._authority}/", f"https://{self._host}/"]
            passwords.add_password(None, places, *user_and_password(self._login))
        for handler in (
            urllib.request.ProxyHandler(),
            urllib.request.UnknownHandler(),
            urllib.request.HTTPHandler(),
            urllib.request.HTTPSHandler(context=client_context(self._config)),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.HTTPErrorProcessor(),
            _Redirects(self),
            urllib.request.HTTPDigestAuthHandler(passwords),
            urllib.request.HTTPBasicAuthHandler(passwords),
        ):
            opener.add_handler(handler)
        return opener


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to addresses that the client may ask."""

    max_redirections = 5

    def __init__(self, client: WebClient) -> None:
        self._client = client

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        self._client.check(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Body:
    """The body of an answer as a file that FFmpeg reads; a playlist must not be too long."""

    def __init__(self, answer: http.client.HTTPResponse, max_silence_seconds: float) -> None:
        self._answer = answer
        self._started_at = time.monotonic()
        self._read_bytes = 0
        self._is_playlist = False

    def read(self, count: int) -> bytes:
        """Return up to `count` bytes as soon as some arrive; nothing at the end."""
        try:
            data = self._answer.read1(count)
        except http.client.HTTPException as error:
            raise OSError(f"the answer broke off ({type(error).__name__})") from error
        if self._read_bytes == 0:
            self._is_playlist = is_playlist(data)
        self._read_bytes += len(data)
        if self._is_playlist and self._read_bytes > MAX_PLAYLIST_BYTES:
            raise MediaError(f"the playlist is longer than {MAX_PLAYLIST_BYTES} bytes")
        return data

    def skip(self, count: int) -> None:
        """Leave out bytes from a server that does not support ranges."""
        while count and (data := self.read(min(count, 65_536))):
            count -= len(data)

    def close(self) -> None:
        """Close the connection."""
        self._answer.close()
