"""What sinks check certificates of servers with."""

from __future__ import annotations

import ssl
from pathlib import Path

import httpx

from configs import ConfigError
from stream.http_client import trusting

__all__ = ["client_context"]


def client_context(
    setting: str,
    *,
    ca_file: Path | None,
    cert_file: Path | None = None,
    key_file: Path | None = None,
) -> ssl.SSLContext:
    """Return a context that verifies certificates and host names.

    Args:
        setting: path of the section, for errors.
        ca_file: the trusted certificates; None: the public authorities.
        cert_file: this client's own certificate.

    Raises:
        ConfigError: a file is not what it should be; the message names the setting.
    """
    if ca_file is None:
        context = httpx.create_ssl_context(trust_env=False)
    else:
        context = trusting(f"{setting}.ca_file", ca_file)
    if cert_file is not None:
        try:
            # An empty password: otherwise OpenSSL would ask for it on the terminal.
            context.load_cert_chain(cert_file, key_file, password="")
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"{setting}.cert_file {cert_file} and its key cannot be used: {_reason(error)};"
                " give PEM files of a certificate and its own key, without a password"
            ) from None
    return context


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", None) or getattr(error, "strerror", None) or error)
