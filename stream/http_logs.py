"""Silence the logs of the HTTP client."""

from __future__ import annotations

import logging

__all__ = ["silence_http_client"]


def silence_http_client() -> None:
    """Silence httpx and httpcore: they would show whole addresses, and headers with secrets."""
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
