"""What the parts share that send HTTP requests: log, headers, certificates, `Retry-After`."""

from __future__ import annotations

import email.utils
import logging
import re
import ssl
import time
from pathlib import Path

from configs import ConfigError

__all__ = ["parse_headers", "retry_after_seconds", "silence_http_client", "trusting"]

_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x20-\x7e]*)")


def silence_http_client() -> None:
    """Silence httpx and httpcore: they would show whole addresses, and headers with secrets."""
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def retry_after_seconds(header: str | None, max_seconds: float) -> float | None:
    """Return the seconds that a header `Retry-After` asks for, at most `max_seconds`.

    The header has seconds or a date; None: there is none, or it has something else.
    """
    if header is None:
        return None
    header = header.strip()
    if re.fullmatch(r"\d{1,10}", header, re.ASCII):
        seconds = float(header)
    else:
        try:
            seconds = email.utils.parsedate_to_datetime(header).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError, IndexError):
            return None
    return min(max(0.0, seconds), max_seconds)


def parse_headers(text: str, refused: re.Pattern[str] | None = None) -> dict[str, str]:
    """Return the headers of a text with one `Name: value` on each line.

    Empty lines and those that begin with `#` are left out.

    Args:
        refused: names that the request itself has.

    Raises:
        ValueError: a line is something else, or has a refused name; the message shows no value.
    """
    headers: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _HEADER.fullmatch(line.strip())
        if match is None:
            raise ValueError(f"line {number} is not `Name: value` in plain ASCII")
        if refused is not None and refused.fullmatch(match[1]):
            raise ValueError(f"line {number}: the request itself has {match[1]}; remove the line")
        headers[match[1]] = match[2]
    return headers


def trusting(setting: str, ca_file: Path) -> ssl.SSLContext:
    """Return a context that trusts the authorities of a PEM file only.

    Raises:
        ConfigError: the file cannot be used; the message names the setting.
    """
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise ConfigError(
            f"{setting} {ca_file} cannot be used, because it is not a PEM file of certificates:"
            f" {reason}"
        ) from None
