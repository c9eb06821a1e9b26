"""TCP connections to public addresses only, with one deadline for everything that is read.

A name is resolved once for each connection, and the connection goes to an address that was checked.
A name server cannot give another answer between the check and the connection.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import httpcore

from stream.sinks.public_addresses import is_public

__all__ = ["CheckedNetwork", "PrivateAddressError", "Resolve"]

# As `socket.getaddrinfo(host, port, type=...)`.
Resolve = Callable[..., list[tuple[Any, Any, Any, Any, Any]]]
_SLICE_SECONDS = 0.25  # how late a read notices that it should stop


class PrivateAddressError(Exception):
    """A name leads only to addresses that are not public; `address` is one of them."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.address = address


class CheckedNetwork(httpcore.NetworkBackend):
    """Opens the connections of an `httpcore` pool.

    Args:
        allow_private: connect to every address.
        resolve: finds the addresses of a name.
    """

    def __init__(self, *, allow_private: bool, resolve: Resolve = socket.getaddrinfo) -> None:
        self._allow_private = allow_private
        self._resolve = resolve
        self._inner = httpcore.SyncBackend()
        self._deadline_monotonic = 0.0
        self._stopping = threading.Event()

    def begin(self, timeout_seconds: float, stopping: threading.Event) -> None:
        """Start the time of one request: connecting, sending and reading together.

        Args:
            stopping: ends reading early once it is set.
        """
        self._deadline_monotonic = time.monotonic() + timeout_seconds
        self._stopping = stopping

    def left_seconds(self) -> float:
        """Seconds until the deadline, or 0 if it has passed or the request should stop."""
        if self._stopping.is_set():
            return 0.0
        return max(0.0, self._deadline_monotonic - time.monotonic())

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first address of a name that is allowed and answers.

        Raises:
            PrivateAddressError: the name leads only to addresses that are not allowed.
            httpcore.ConnectError, httpcore.ConnectTimeout: no address answers.
        """
        problem: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in self._addresses(host, port):
            left = self.left_seconds()
            if left == 0.0:
                raise httpcore.ConnectTimeout("no time left to connect")
            try:
                stream = self._inner.connect_tcp(address, port, left, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                problem = error
            else:
                return _TimedStream(stream, self)
        raise problem

    def _addresses(self, host: str, port: int) -> list[str]:
        try:
            answers = self._resolve(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"the name {host} was not found: {error}") from error
        found = list(dict.fromkeys(str(answer[4][0]) for answer in answers))
        allowed = [each for each in found if self._allow_private or is_public(each)]
        if found and not allowed:
            raise PrivateAddressError(found[0])
        return allowed


class _TimedStream(httpcore.NetworkStream):
    """A connection whose reads and writes end at the deadline of the request."""

    def __init__(self, inner: httpcore.NetworkStream, network: CheckedNetwork) -> None:
        self._inner = inner
        self._network = network

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        while left := self._network.left_seconds():
            try:
                return self._inner.read(max_bytes, min(left, _SLICE_SECONDS))
            except httpcore.ReadTimeout:
                continue
        raise httpcore.ReadTimeout("no complete answer in time")

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        connection = self._inner.get_extra_info("socket")
        try:
            while buffer:
                if not (left := self._network.left_seconds()):
                    raise httpcore.WriteTimeout("the receiver did not take the request in time")
                connection.settimeout(left)
                buffer = buffer[connection.send(buffer) :]
        except TimeoutError as error:
            raise httpcore.WriteTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.WriteError(str(error)) from error

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        left = max(0.001, self._network.left_seconds())
        return _TimedStream(
            self._inner.start_tls(ssl_context, server_hostname, left), self._network
        )

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
