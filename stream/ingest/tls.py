"""TLS of connections to cameras that Python opens."""

from __future__ import annotations

import ssl

from stream.ingest.config import SourceConfig

__all__ = ["client_context"]


def client_context(config: SourceConfig) -> ssl.SSLContext:
    """Return the context for connections to cameras; it checks certificates if it should.

    Raises:
        OSError: the file with the authorities cannot be read.
    """
    context = ssl.create_default_context(cafile=config.tls_ca_file)
    if not config.tls_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
