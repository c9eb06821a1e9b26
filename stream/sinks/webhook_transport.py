"""The HTTP connection of a webhook: one at a time, kept open, without proxies and redirects."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterable, Iterator

import httpcore
import httpx

from stream.sinks.checked_network import CheckedNetwork

__all__ = ["WebhookTransport"]


class WebhookTransport(httpx.BaseTransport):
    """Sends the requests of an `httpx.Client` over connections to checked addresses.

    Errors of the connection leave it as those of `httpcore`.
    """

    def __init__(self, network: CheckedNetwork, tls: ssl.SSLContext) -> None:
        self._pool = httpcore.ConnectionPool(
            ssl_context=tls,
            max_connections=1,
            max_keepalive_connections=1,
            keepalive_expiry=30.0,
            network_backend=network,
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, and return the answer, whose body is not read yet."""
        address = httpcore.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        )
        response = self._pool.handle_request(
            httpcore.Request(
                method=request.method,
                url=address,
                headers=request.headers.raw,
                content=request.stream,
            )
        )
        assert isinstance(response.stream, Iterable)
        return httpx.Response(
            response.status,
            headers=response.headers,
            stream=_Body(response.stream),
        )

    def close(self) -> None:
        """Close the connection."""
        self._pool.close()


class _Body(httpx.SyncByteStream):
    def __init__(self, stream: Iterable[bytes]) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        yield from self._stream

    def close(self) -> None:
        close = getattr(self._stream, "close", None)
        if close is not None:
            with contextlib.suppress(httpcore.NetworkError, httpcore.TimeoutException):
                close()
