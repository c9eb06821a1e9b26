"""Addresses of cameras: checked when they are given, and shown without their secrets."""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import unquote, urlsplit

from stream.cameras.address_login import describe_mistake

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
    if re.search(r"[\x00-\x1f\x7f]", url):
        shown = re.sub(r"[\x00-\x1f\x7f]", "?", _shown(url))
        raise ValueError(f"{shown} contains a control character (here a ?); remove it")
    if (mistake := describe_mistake(url)) is not None:
        raise ValueError(f"{_shown(url)}: {mistake}")
    _check_host(scheme, url)
    return scheme + url[len(scheme) :]


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


def kind_of_address(url: str) -> Literal["file", "device", "network"]:
    """Whether an address names a file, a device of this machine or something on the network."""
    if _scheme(url) is not None:
        return "network"
    return "device" if re.fullmatch(r"/dev/video\d+", url) else "file"


def redact_url(url: str) -> str:
    """The address without user name, password and query, for logs, metrics and events."""
    scheme = _scheme(url)
    if scheme is None:
        # A file, or an address without its scheme.
        has_login = re.search(r":.*@", url)
        return _mask(_after_last_at(url) if has_login else url)
    rest = url.partition(":")[2].lstrip("/")
    if describe_mistake(url) is None:
        authority, path = re.fullmatch(r"([^/?#]*)(.*)", rest, re.DOTALL).groups()  # type: ignore[union-attr]
        rest = authority.rpartition("@")[2] + re.split(r"[?#]", path)[0]
    else:
        rest = _after_last_at(rest)
    return _mask(f"{scheme}://{rest}")


def _after_last_at(text: str) -> str:
    """Return what follows the login, without the query.

    A password that is not percent-encoded may itself contain an @, a slash or a question mark.
    """
    return re.split(r"[?#]", text.rpartition("@")[2])[0]


def _shown(url: str) -> str:
    """Return the address without secrets, in which `***@` stands for user name and password."""
    shown = redact_url(url)
    if "@" not in url:
        return shown
    return re.sub(r"^([A-Za-z0-9+.-]+://)?", r"\g<0>***@", shown, count=1)


def _mask(address: str) -> str:
    """Hide secrets in the path: some cameras take user name and password there."""
    address = re.sub(r"[^/]*:[^/@]*@", "***@", address)  # a login of an address in the path
    secret = r"((?:user(?:name)?|pass(?:word)?|pwd|token|key)=)[^/&;_]*"
    return re.sub(secret, r"\1***", address, flags=re.IGNORECASE)


def _scheme(url: str) -> str | None:
    match = re.match(r"^([A-Za-z][A-Za-z0-9+.-]*):/", url)
    return match.group(1).lower() if match else None
