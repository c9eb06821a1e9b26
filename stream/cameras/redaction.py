"""Addresses of cameras without their secrets, for logs, metrics, errors and answers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from stream.cameras.address_login import describe_mistake
from stream.cameras.stream_names import STREAM_ID, hide_stream_name, stream_name

__all__ = [
    "SECRET_REFERENCE",
    "PlainSecret",
    "plain_secrets",
    "redact_url",
    "scheme_of",
    "shown_with_mark",
]

# In an address, this stands for the content of a file of secrets.
SECRET_REFERENCE = re.compile(r"\$\{secret:([A-Za-z0-9_-][A-Za-z0-9._-]{0,199})\}")

_AT = re.compile("@|%40")
_COLON = re.compile(":|%3a", re.IGNORECASE)
_ADDRESS = re.compile("(?::|%3a)(?:/|%2f)", re.IGNORECASE)
# The ends of names, so that they cover `api_key`, `access_token` and `X-Amz-Signature` as well.
_SECRET = (
    r"(?:user(?:name|id)?|usr|login(?:use)?|pass(?:word|wd|code|phrase)?|pas|pwd|pw|psw|secret"
    r"|auth(?:orization)?|token|key|sig(?:nature)?|session(?:id)?|sid|credentials?)"
)
# Only parameters with these names end a secret in a path: a password may contain any separator.
_NEXT = rf"[&;_](?:channel|chn?|stream|subtype|type|proto(?:col)?|port|{_SECRET})="
_PARAMETER = re.compile(rf"({_SECRET}(?:=|%3d))(?:(?!{_NEXT})[^/])*", re.IGNORECASE)
_SEGMENT = re.compile(
    r"((?:^|/)(?:pass(?:word|wd|phrase)?|pwd|secret|token|api_?key)/)[^/]+", re.IGNORECASE
)
_USER_NAME = re.compile(r"(?:user(?:name|id)?|usr|login(?:use)?)(?:=|%3d)$", re.IGNORECASE)
_HOST_AND_PORT = re.compile(r"(?:\[[^\]]*\]|[^:]*)(?::\d{0,5})?|[0-9A-Fa-f:.]+")


class PlainSecret(NamedTuple):
    """Characters `start` to `end` of an address, which hold a secret as it is.

    `name` says what it is: `login`, `password`, the end of a parameter's name, or `path` for a
    login inside the path or the query.
    """

    start: int
    end: int
    name: str


def plain_secrets(url: str) -> list[PlainSecret]:
    """Return the secrets of a network address, in order, that no reference stands for.

    A user name is not a secret if a colon follows it. The address was checked by `check_address`.
    """
    if scheme_of(url) in (None, "file"):
        return []
    masked = SECRET_REFERENCE.sub(lambda found: "\0" * len(found[0]), url)
    start = masked.index(":") + 1
    start += len(masked[start:]) - len(masked[start:].lstrip("/"))
    authority = re.split(r"[/?#]", masked[start:], maxsplit=1)[0]
    path_start = start + len(authority)
    login = authority.rpartition("@")[0]
    user, colon, password = login.partition(":")
    found = []
    if _is_plain(password if colon else login):
        first = start + len(user) + 1 if colon else start
        found.append(PlainSecret(first, start + len(login), "password" if colon else "login"))
    rest = masked
    for each in sorted(_plain_parameters(masked, path_start)):
        if not found or each.start >= found[-1].end:
            found.append(each)
            rest = rest[: each.start] + "\0" * (each.end - each.start) + rest[each.end :]
    if _has_login(rest[path_start:]):
        found = [each for each in found if each.start < path_start]
        found.append(PlainSecret(path_start, len(url), "path"))
    return found


def _plain_parameters(masked: str, start: int) -> Iterator[PlainSecret]:
    """Yield the secrets in the path and the query of an address."""
    for match in _PARAMETER.finditer(masked, start):
        value = re.split("[&;]", match[0][len(match[1]) :], maxsplit=1)[0]
        if _is_plain(value) and not _USER_NAME.search(match[1]):
            name = re.sub(r"(?:=|%3d)$", "", match[1], flags=re.IGNORECASE)
            yield PlainSecret(match.end(1), match.end(1) + len(value), name)
    for match in _SEGMENT.finditer(masked, start):
        if _is_plain(match[0][len(match[1]) :]):
            yield PlainSecret(match.end(1), match.end(), match[1].strip("/"))
    if (place := stream_name(masked)) is not None and _is_plain(masked[place]):
        yield PlainSecret(place.start, place.stop, "stream")
    if scheme_of(masked) == "srt":
        for match in STREAM_ID.finditer(masked, start):
            if _is_plain(match[1]):
                yield PlainSecret(match.start(1), match.end(1), "streamid")


def _is_plain(text: str) -> bool:
    return bool(text.replace("\0", ""))


def redact_url(url: str) -> str:
    """Return the address without user name, password and query; RTMP: without the stream's name."""
    scheme = scheme_of(url)
    if scheme is None:
        # A file, or an address without its scheme.
        return _mask(_after_login(url)) if _has_login(url) and not _secrets(url) else _mask(url)
    rest = url.partition(":")[2].lstrip("/")
    if describe_mistake(url) is not None:
        return f"{scheme}://{hide_stream_name(scheme, _mask(_after_login(rest)))}"
    authority, path = re.fullmatch(r"([^/?#]*)(.*)", rest, re.DOTALL).groups()  # type: ignore[union-attr]
    host = _known_host(authority.rpartition("@")[2])
    shown = f"{host}{_mask(re.split(r'[?#]', path)[0])}"
    return f"{scheme}://{hide_stream_name(scheme, shown)}"


def shown_with_mark(url: str) -> str:
    """Return the address on one line, in which `***@` stands for user name and password."""
    shown = redact_url(url)
    if "@" not in url:
        return shown
    return re.sub(r"^([A-Za-z0-9+.-]+://)?", r"\g<0>***@", shown, count=1)


def scheme_of(url: str) -> str | None:
    """Return the scheme of an address in small letters; None for a path."""
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):/", url)
    return match.group(1).lower() if match else None


def _after_login(text: str) -> str:
    """Return what follows the login, without the query.

    A password that is not percent-encoded may itself contain an @, a slash or a question mark.
    """
    after = text.rpartition("@")[2] if "@" in text else re.split("%40", text)[-1]
    return re.split(r"[?#]", after)[0]


def _known_host(authority: str) -> str:
    """Return host and port; what is neither may be a password whose address lacks its host."""
    if "%40" in authority:
        return "***"
    if _HOST_AND_PORT.fullmatch(authority):
        return authority
    return f"{authority.partition(':')[0]}:***"


def _has_login(text: str) -> bool:
    colon = _COLON.search(text)
    return colon is not None and _AT.search(text, colon.end()) is not None


def _secrets(path: str) -> list[re.Match[str]]:
    return [found for found in (_PARAMETER.search(path), _SEGMENT.search(path)) if found]


def _mask(path: str) -> str:
    """Hide secrets in a path: some cameras take user name and password there.

    If it seems to contain a login as well as another secret, nothing is shown from the first on.
    """
    colon = _COLON.search(path)
    if colon is None or not _has_login(path):
        return _PARAMETER.sub(r"\1***", _SEGMENT.sub(r"\1***", path))
    start = path.rfind("/", 0, colon.start()) + 1  # of the segment with the login
    if secrets := _secrets(path):
        return f"{path[: min(start, *(found.start() for found in secrets))]}***"
    inner = _ADDRESS.match(path, colon.start())  # as gateways take it; it may be percent-encoded
    start = start if inner is None else inner.end()
    return f"{path[:start]}{'/' * (inner is not None)}***@{_AT.split(path)[-1]}"
