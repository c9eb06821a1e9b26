"""Addresses that name a stream of a server: RTMP and SRT.

`rtmp://HOST/APPLICATION/NAME`: on many servers, whoever knows the name of a stream may also publish
it, so the name is a secret. `srt://HOST:PORT?OPTIONS`: `passphrase` encrypts the stream, and
`streamid` often holds a login.
"""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

from configs import has_controls

__all__ = [
    "RTMP_SCHEMES",
    "STREAM_ID",
    "hide_stream_name",
    "rtmp_problem",
    "srt_options",
    "srt_problem",
    "stream_name",
]

RTMP_SCHEMES = ("rtmp", "rtmps")
STREAM_ID = re.compile(r"[?&]streamid=([^&]*)", re.IGNORECASE)
_RTMP_NAME = re.compile(r"(?i:rtmps?)://[^/?#]*/[^/?#]*/([^?#]+)")
_SHOWN_RTMP = re.compile(r"([^/]*/[^/]*/).+", re.DOTALL)
_SRT_OPTIONS = ("latency", "mode", "passphrase", "pbkeylen", "pkt_size", "streamid", "transtype")
# What senders need and a receiver does not; addresses made for both contain it.
_IGNORED = ("pkt_size", "transtype")
_MAX_LATENCY_MS = 10_000
_MAX_STREAM_ID_BYTES = 512
_REFERENCE = "${secret:"


def stream_name(url: str) -> slice | None:
    """Return where the name of the stream stands in an RTMP address; None for other addresses."""
    found = _RTMP_NAME.match(url)
    return None if found is None else slice(*found.span(1))


def hide_stream_name(scheme: str, shown: str) -> str:
    """Hide the name of an RTMP stream in `host/application/name`; other addresses stay."""
    return _SHOWN_RTMP.sub(r"\1***", shown) if scheme in RTMP_SCHEMES else shown


def rtmp_problem(url: str) -> str | None:
    """Say what is wrong with an RTMP address, without a part of it; None if nothing is."""
    if stream_name(url) is None:
        return "it names no stream; write rtmp://host[:port]/application/name"
    if " " in url:
        return "it contains a space; write %20"
    return None


def srt_options(url: str) -> dict[str, str]:
    """Return the options of an SRT address, decoded. A number sign may be part of a value."""
    pairs = (each.partition("=") for each in url.partition("?")[2].split("&") if each)
    return {
        unquote(name).lower(): unquote(value)
        for name, _, value in pairs
        if unquote(name).lower() not in _IGNORED
    }


def srt_problem(url: str) -> str | None:
    """Say what is wrong with an SRT address, without its secrets; None if nothing is."""
    parts = urlsplit(url.partition("?")[0])
    if "@" in parts.netloc:
        return "SRT has no user name and password; the server may want them in the option streamid"
    if parts.port is None:
        return "it has no port; write srt://host:port"
    if parts.path not in ("", "/"):
        return "SRT has no paths; a server tells streams apart by the option streamid"
    names = [unquote(each.partition("=")[0]).lower() for each in url.partition("?")[2].split("&")]
    names = [name for name in names if name]
    if any(name not in _SRT_OPTIONS for name in names):
        return f"it has an unknown option; allowed are {', '.join(_SRT_OPTIONS)}"
    if len(set(names)) < len(names):
        return "it has an option twice"
    return _options_problem(srt_options(url))


def _options_problem(options: dict[str, str]) -> str | None:
    if any(has_controls(value) for value in options.values()):
        return "an option contains an encoded control character, such as %0A; remove it"
    if options.get("mode", "caller") != "caller":
        return "only mode=caller is supported: this machine asks a sender that listens"
    if options.get("pbkeylen", "16") not in ("0", "16", "24", "32"):
        return "pbkeylen must be 16, 24 or 32"
    latency = options.get("latency", "0")
    if re.fullmatch(r"\d{1,9}", latency, re.ASCII) is None or int(latency) > _MAX_LATENCY_MS:
        return (
            f"latency must be milliseconds, from 0 to {_MAX_LATENCY_MS}; programs of FFmpeg take"
            " microseconds instead"
        )
    passphrase = options.get("passphrase", "")
    if passphrase and _REFERENCE not in passphrase and not 10 <= len(passphrase.encode()) <= 79:
        return "an SRT passphrase has 10 to 79 bytes"
    if len(options.get("streamid", "").encode()) > _MAX_STREAM_ID_BYTES:
        return f"streamid may have at most {_MAX_STREAM_ID_BYTES} bytes"
    return None
