"""Cameras that behave as cameras do on bad days, and a proxy that makes good ones bad. All over real sockets."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import random
import resource
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np


class TcpCamera:
    """Listens on a port and runs `serve` for every connection, each in a thread of its own, until it returns or the peer goes."""

    def __init__(self, serve: Callable[[socket.socket, threading.Event], None]) -> None:
        self._serve, self.stop = serve, threading.Event()
        self._listening = socket.socket()
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listening.bind(("127.0.0.1", 0))
        self._listening.listen(64)
        self.port: int = self._listening.getsockname()[1]
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> TcpCamera:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop.set()
        self._listening.close()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"tcp://127.0.0.1:{self.port}"

    def _accept(self) -> None:
        while not self.stop.is_set():
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._run, args=(client,), daemon=True).start()

    def _run(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            self._serve(client, self.stop)


def noise(client: socket.socket, stop: threading.Event) -> None:
    """Random bytes, a megabyte a second."""
    while not stop.is_set():
        client.sendall(os.urandom(10_000))
        stop.wait(0.01)


def silence(client: socket.socket, stop: threading.Event) -> None:
    """Accepts and says nothing."""
    stop.wait(600)


def mpegts(sizes: list[tuple[int, int]], *, fps: int, seconds_each: float) -> bytes:
    """MPEG-TS of moving squares whose size changes from part to part, as a camera's own stream does when it is set anew."""
    parts, clock = io.BytesIO(), 0
    for width, height in sizes:
        part = io.BytesIO()
        with av.open(part, "w", format="mpegts") as container:
            stream = container.add_stream("libx264", rate=fps)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.options = {"preset": "ultrafast", "tune": "zerolatency", "g": str(fps)}
            for number in range(round(seconds_each * fps)):
                picture = np.full((height, width, 3), 90, np.uint8)
                left = number * 7 % (width - 40)
                picture[height // 3 : height // 2, left : left + 40] = 220
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts = clock
                clock += 1
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        parts.write(part.getvalue())
    return parts.getvalue()


def streamed(data: bytes, *, seconds: float) -> Callable[[socket.socket, threading.Event], None]:
    """Serve these bytes at an even rate, once, over so many seconds."""

    def serve(client: socket.socket, stop: threading.Event) -> None:
        steps = max(1, round(seconds * 20))
        size, begun = len(data) // steps + 1, time.monotonic()
        for step in range(steps):
            client.sendall(data[step * size : (step + 1) * size])
            stop.wait(max(0.0, begun + (step + 1) / 20 - time.monotonic()))

    return serve


class ChaosProxy:
    """Forwards TCP to a server; `attack` does something to the live connections, and `faults` draws such things at random."""

    KINDS = ("cut", "freeze", "corrupt", "flood", "refuse")

    def __init__(self, upstream_port: int) -> None:
        self._upstream = upstream_port
        self._lock, self._pairs = threading.Lock(), set[tuple[socket.socket, socket.socket]]()
        self._frozen, self._corrupt, self._refusing = threading.Event(), threading.Event(), threading.Event()
        self._closed = False
        self._listening = socket.socket()
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listening.bind(("127.0.0.1", 0))
        self._listening.listen(256)
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Cut everything for good."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.cut()

    def cut(self) -> int:
        """Reset all live connections; returns how many there were."""
        with self._lock:
            pairs, self._pairs = list(self._pairs), set()
        for pair in pairs:
            self._drop(pair)
        return len(pairs)

    def attack(self, kind: str, seconds: float, stop: threading.Event) -> None:
        """Do one thing to the connections, for a while where it lasts, and let them be again."""
        if kind == "cut":
            self.cut()
        elif kind == "flood":
            with self._lock:
                clients = [client for client, _ in self._pairs]
            for client in clients:
                with contextlib.suppress(OSError):
                    client.sendall(os.urandom(200_000))
        else:
            event = {"freeze": self._frozen, "corrupt": self._corrupt, "refuse": self._refusing}[kind]
            event.set()
            if kind == "refuse":
                self.cut()
            stop.wait(seconds)
            event.clear()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            if self._refusing.is_set():
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self._upstream), 5)
            except OSError:
                client.close()
                continue
            pair = (client, server)
            with self._lock:
                self._pairs.add(pair)
            for source, sink, spoils in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._pump, args=(source, sink, spoils, pair), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, spoils: bool, pair: tuple[socket.socket, socket.socket]) -> None:
        rng = random.Random(id(source))
        with contextlib.suppress(OSError, ValueError):
            while data := source.recv(65536):
                while self._frozen.is_set() and not self._closed:
                    time.sleep(0.05)
                if spoils and self._corrupt.is_set() and len(data) > 64:
                    spoiled = bytearray(data)
                    for _ in range(max(1, len(data) // 500)):
                        spoiled[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
                    data = bytes(spoiled)
                sink.sendall(data)
        with self._lock:
            self._pairs.discard(pair)
        self._drop(pair)

    @staticmethod
    def _drop(pair: tuple[socket.socket, socket.socket]) -> None:
        for end in pair:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@contextlib.contextmanager
def under_fire(proxies: list[ChaosProxy], *, seed: int, pause_seconds: float = 2.0) -> Iterator[dict[str, int]]:
    """Attack one proxy after the other at random for as long as the block lasts; gives the counts of what was done."""
    stop, rng, done = threading.Event(), random.Random(seed), dict.fromkeys(ChaosProxy.KINDS, 0)

    def attack() -> None:
        for proxy, kind in zip(itertools.cycle(proxies), (rng.choice(ChaosProxy.KINDS) for _ in itertools.count()), strict=False):
            if stop.wait(rng.uniform(0, pause_seconds)):
                return
            done[kind] += 1
            proxy.attack(kind, rng.uniform(0.5, 4.0), stop)

    thread = threading.Thread(target=attack, daemon=True)
    thread.start()
    try:
        yield done
    finally:
        stop.set()
        thread.join()


def process_state() -> dict[str, float]:
    """Threads, open descriptors and resident megabytes of this process."""
    status = Path("/proc/self/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return {
        "threads": int(fields["Threads"]),
        "descriptors": sum(1 for _ in Path("/proc/self/fd").iterdir()),
        "megabytes": int(fields["VmRSS"].split()[0]) / 1024,
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
