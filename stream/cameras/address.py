"""Addresses of cameras: checked when they are given, and shown without their secrets."""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import unquote, urlsplit

__all__ = ["check_address", "kind_of_address", "redact_url"]

_NETWORK_SCHEMES = ("rtsp", "rtsps", "http", "https", "tcp", "udp")


def check_address(url: str) -> str:
    """Return the address in the form that is opened: without spaces around it, `file:` as a path.

    Raises:
        ValueError: the address is empty, malformed or has an unknown scheme; the message names it
            without its secrets.
    """
    url = url.strip()
    if not url or "\0" in url:
        raise ValueError("an address must not be empty and must not contain a zero byte")
    scheme = _scheme(url)
    if scheme is None:
        return url
    if scheme == "file":
        path = re.sub(r"^file:(//(localhost(?=/))?)?", "", url, flags=re.IGNORECASE)
        return check_address(unquote(path))
    if scheme not in _NETWORK_SCHEMES:
        raise ValueError(
            f"unknown scheme {scheme!r} in {redact_url(url)}; use a file path or one of"
            f" {', '.join(_NETWORK_SCHEMES)}"
        )
    try:
        parts = urlsplit(url)
        host = parts.hostname
        port = parts.port
    except ValueError:
        raise ValueError(
            f"{redact_url(url)} is not a valid address; write {scheme}://host[:port]/path, with a"
            " port up to 65535, and in user name and password write %23 for #, %2F for /,"
            " %3A for :, %40 for @"
        ) from None
    listens = scheme == "udp" and port  # udp://@:5000
    if not host and not listens:
        raise ValueError(f"{redact_url(url)} has no host name; write {scheme}://host[:port]/path")
    return url


def kind_of_address(url: str) -> Literal["file", "device", "network"]:
    """Whether an address names a file, a device of this machine or something on the network."""
    if _scheme(url) is not None:
        return "network"
    return "device" if re.fullmatch(r"/dev/video\d+", url) else "file"


def redact_url(url: str) -> str:
    """The address without user name, password and query, for logs, metrics and events."""
    scheme = _scheme(url)
    rest = url
    if scheme is not None:
        rest = url.partition(":")[2].lstrip("/")
    elif not re.search(r":.*@", url):
        return _mask(url)  # a file
    # Up to the last @: a password that is not percent-encoded may contain an @, a slash or a
    # question mark.
    address = re.split(r"[?#]", rest.rpartition("@")[2])[0]
    return _mask(f"{scheme}://{address}" if scheme else address)


def _mask(address: str) -> str:
    """Hide secrets in the path: some cameras take user name and password there."""
    secret = r"((?:user(?:name)?|pass(?:word)?|pwd|token|key)=)[^/&;_]*"
    return re.sub(secret, r"\1***", address, flags=re.IGNORECASE)


def _scheme(url: str) -> str | None:
    match = re.match(r"^([A-Za-z][A-Za-z0-9+.-]*):/", url)
    return match.group(1).lower() if match else None
