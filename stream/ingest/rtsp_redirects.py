"""Ask an RTSP server whether it redirects to another host, before FFmpeg is given the login.

FFmpeg follows every redirect of an RTSP server and sends the login to the new host; it has no
option against that. So the same first requests (OPTIONS, DESCRIBE; RFC 2326) are sent here. A
server that redirects only a later connection is not noticed.
"""

from __future__ import annotations

import base64
import contextlib
import socket
import time
import urllib.request
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

from configs import MediaError
from model.media.container import explain
from stream.ingest.config import SourceConfig
from stream.ingest.logins import login_of, user_and_password, with_login, without_login
from stream.ingest.tls import client_context

__all__ = ["check_redirects"]

_PORTS = {"rtsp": 554, "rtsps": 322}
_MAX_HEAD_BYTES = 65_536
_MAX_REDIRECTS = 4


def check_redirects(url: str, config: SourceConfig) -> None:
    """Check that an RTSP server does not redirect to another host.

    Raises:
        MediaError: it does, or it cannot be reached.
    """
    host = urlsplit(url).hostname
    for _ in range(_MAX_REDIRECTS):
        try:
            location = _ask(url, config)
        except (OSError, UnicodeError) as error:
            raise MediaError(f"cannot open: {explain(error)}") from error
        if location is None:
            return
        parts = urlsplit(urljoin(without_login(url), location))
        if parts.scheme not in _PORTS or parts.hostname != host:
            raise MediaError(
                f"the camera redirects to another host, {parts.hostname}; if you trust it, give its"
                " address, or set source.redirects: true"
            )
        url = with_login(parts.geturl(), login_of(url))
    raise MediaError("the camera redirects again and again; check its address")


class _Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]  # names in lower case; of several with one name, the first


def _ask(url: str, config: SourceConfig) -> str | None:
    """Return where the server redirects to; None if it does not, or gives no RTSP answer."""
    with _connect(url, config) as connection:
        conversation = _Conversation(connection, url, config.open_timeout_seconds)
        for method in ("OPTIONS", "DESCRIBE"):
            answer = conversation.ask(method)
            if answer is not None and answer.status == 401:
                answer = conversation.ask(method, answer.headers.get("www-authenticate", ""))
            if answer is None:
                return None
            if 300 <= answer.status < 400:
                return answer.headers.get("location")
    return None


def _connect(url: str, config: SourceConfig) -> socket.socket:
    parts = urlsplit(url)
    address = (parts.hostname or "", parts.port or _PORTS[parts.scheme])
    connection = socket.create_connection(address, config.open_timeout_seconds)
    if parts.scheme == "rtsp":
        return connection
    try:
        return client_context(config).wrap_socket(connection, server_hostname=parts.hostname)
    except BaseException:
        connection.close()
        raise


class _Conversation:
    """Requests and answers on one connection; each answer must come within a time."""

    def __init__(self, connection: socket.socket, url: str, timeout_seconds: float) -> None:
        self._connection = connection
        self._url = url
        self._plain_url = without_login(url)
        self._timeout_seconds = timeout_seconds
        self._received = b""
        self._number = 0

    def ask(self, method: str, challenge: str | None = None) -> _Answer | None:
        """Send a request; return None if what comes is not an answer of RTSP.

        Args:
            challenge: what the server wants as a login; None: nothing is sent.
        """
        self._number += 1
        lines = [
            f"{method} {self._plain_url} RTSP/1.0",
            f"CSeq: {self._number}",
            "User-Agent: cidc-stream",
            *(["Accept: application/sdp"] if method == "DESCRIBE" else []),
        ]
        if challenge is not None:
            login = self._login(method, challenge)
            if login is None:
                return None
            lines.append(f"Authorization: {login}")
        self._connection.sendall("\r\n".join([*lines, "", ""]).encode("ascii", "replace"))
        return self._answer()

    def _answer(self) -> _Answer | None:
        deadline = time.monotonic() + self._timeout_seconds
        while b"\r\n\r\n" not in self._received:
            left = deadline - time.monotonic()
            if left <= 0 or len(self._received) > _MAX_HEAD_BYTES:
                return None
            self._connection.settimeout(left)
            data = self._connection.recv(4096)
            if not data:
                return None
            self._received += data
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        words = first.split()
        if len(words) < 2 or not words[0].startswith("RTSP/") or not words[1].isdigit():
            return None
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers.setdefault(name.strip().lower(), value.strip())
        self._received = b""  # a body is not needed, and no more answers come unasked
        return _Answer(int(words[1]), headers)

    def _login(self, method: str, challenge: str) -> str | None:
        """Return the value of the header Authorization; None without a login or for others."""
        login = login_of(self._url)
        if not login:
            return None
        user, password = user_and_password(login)
        kind, _, rest = challenge.partition(" ")
        if kind.lower() == "basic":
            return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        if kind.lower() != "digest":
            return None
        passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        passwords.add_password(None, self._plain_url, user, password)
        digest = urllib.request.AbstractDigestAuthHandler(passwords)
        fields = urllib.request.parse_keqv_list(urllib.request.parse_http_list(rest))
        with contextlib.suppress(ValueError):  # an unknown algorithm
            answer = digest.get_authorization(_Request(self._plain_url, method=method), fields)
            return f"Digest {answer}" if answer else None
        return None


class _Request(urllib.request.Request):
    """A request whose digest is of the whole address, as RTSP wants it."""

    @property
    def selector(self) -> str:
        """What is asked for."""
        return self.full_url

    @selector.setter
    def selector(self, value: str) -> None:
        pass
