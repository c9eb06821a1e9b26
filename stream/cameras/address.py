"""Check and normalise addresses of cameras; errors show them without their secrets."""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import unquote, urlsplit

from configs import has_controls, readable
from stream.cameras.address_login import describe_escapes, describe_mistake
from stream.cameras.redaction import redact_url, scheme_of, shown_with_mark
from stream.cameras.stream_names import RTMP_SCHEMES, rtmp_problem, srt_problem

__all__ = ["PUSHED", "check_address", "kind_of_address"]

PUSHED = "push:"  # the address of a camera whose frames a program pushes
_NETWORK_SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "srt", "http", "https", "tcp", "udp")
_MAX_FIFO_PACKETS = 1_000_000  # 188 MB of a camera's UDP packets that wait to be read


def check_address(url: str) -> str:
    """Return the address in the form that is opened: without spaces around it, `file:` as a path.

    Raises:
        ValueError: the address is empty, malformed, has an unknown scheme, contains a control
            character or an option of FFmpeg that is not allowed; the message names it without its
            secrets.
    """
    if has_controls(url.strip(" \t\r\n")):
        raise ValueError(f"{_shown(url)} contains a control character; remove it")
    url = url.strip()
    if not url:
        raise ValueError("an address must not be empty")
    scheme = scheme_of(url)
    if url.lower() == PUSHED:
        return PUSHED
    if scheme is None:
        return url
    if scheme == "file":
        return _file_path(url)
    if scheme not in _NETWORK_SCHEMES:
        raise ValueError(
            f"unknown scheme {scheme!r} in {redact_url(url)}; use a file path or one of"
            f" {', '.join(_NETWORK_SCHEMES)}"
        )
    if mistake := describe_mistake(url) or describe_escapes(url):
        raise ValueError(f"{_shown(url)}: {mistake}")
    _check_host(scheme, url)
    _check_options(scheme, url)
    problem = srt_problem(url) if scheme == "srt" else None
    if scheme in RTMP_SCHEMES:
        problem = rtmp_problem(url)
    if problem is not None:
        raise ValueError(f"{_shown(url)}: {problem}")
    return scheme + url[len(scheme) :]


def _file_path(url: str) -> str:
    """Return the path that a `file:` address names.

    Raises:
        ValueError: it has a login, or what it names would be read as another address.
    """
    path = re.sub(r"^file:(//(localhost(?=/))?)?", "", url, flags=re.IGNORECASE)
    host, slash, _ = url.partition("//")[2].partition("/")
    if slash and ":" in host and "@" in host:
        raise ValueError(f"{_shown(url)}: a file has no user name or password; write file:///path")
    path = check_address(unquote(path))
    if scheme_of(path) is not None:
        raise ValueError(f"{_shown(url)} names no file; write the path, or the address alone")
    return path


def _shown(url: str) -> str:
    return readable(shown_with_mark(url.strip()))


def _check_options(scheme: str, url: str) -> None:
    """Check the options that FFmpeg takes from an address; it reads them after the first `?`.

    Raises:
        ValueError: this machine would wait for a connection, or reserve too much memory.
    """
    for option in url.partition("?")[2].split("&"):
        name, _, value = map(unquote, option.partition("="))
        if scheme == "tcp" and name == "listen" and value != "0":
            raise ValueError(
                f"{_shown(url)}: with the option listen, this machine would open a port and take"
                " video from anyone; remove it, and give the host and port that send the video"
            )
        if scheme == "udp" and name == "fifo_size" and not _is_fifo_size(value):
            raise ValueError(
                f"{_shown(url)}: fifo_size must be a whole number of packets of 188 bytes, from 1"
                f" to {_MAX_FIFO_PACKETS}"
            )


def _is_fifo_size(value: str) -> bool:
    # FFmpeg also takes 1e9 and 1G.
    is_number = re.fullmatch(r"\d{1,9}", value, re.ASCII) is not None
    return is_number and 1 <= int(value) <= _MAX_FIFO_PACKETS


def _check_host(scheme: str, url: str) -> None:
    """Check host name and port.

    Raises:
        ValueError: they are missing or cannot be used.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname
        port = parts.port
    except ValueError:
        raise ValueError(
            f"{_shown(url)} is not a valid address; write {scheme}://host[:port]/path, with a"
            " port up to 65535 and an IPv6 address in brackets; in user name and password write"
            " %23 for #, %2F for /, %3A for :, %3F for ?, %40 for @"
        ) from None
    listens = scheme == "udp" and port  # udp://@:5000
    if not host and not listens:
        raise ValueError(f"{_shown(url)} has no host name; write {scheme}://host[:port]/path")
    if port == 0:
        raise ValueError(f"{_shown(url)}: port 0 cannot be used; write one from 1 to 65535")
    if host and not (re.fullmatch(r"[a-z0-9._-]+", host) or ":" in host):
        raise ValueError(
            f"{_shown(url)}: the host name {host!r} contains a character that host names cannot"
            f" have; write {_ascii_form(host)}"
        )


def _ascii_form(host: str) -> str:
    """Return what to write instead of a host name with characters that are not allowed."""
    try:
        encoded = host.encode("idna").decode()
    except UnicodeError:
        encoded = host
    if encoded == host:
        return "letters, digits, dots and hyphens only"
    return f"its ASCII form {encoded}"


def kind_of_address(url: str) -> Literal["file", "device", "network", "push"]:
    """Whether an address names a file, a device of this machine or something on the network.

    `push` if it names nothing: a program pushes the frames.
    """
    if url == PUSHED:
        return "push"
    if scheme_of(url) is not None:
        return "network"
    return "device" if re.fullmatch(r"/dev/video\d+", url) else "file"
