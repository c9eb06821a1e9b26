"""Cameras that behave as cameras do on bad days, and a proxy that makes good ones bad.

Everything goes over real sockets.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import random
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np

from tests.support.broker import Proxy, free_port


class TcpCamera:
    """Listens on a port and runs `serve` for every connection, in a thread of its own."""

    def __init__(
        self, serve: Callable[[socket.socket, threading.Event], None], port: int = 0
    ) -> None:
        self._serve = serve
        self.stop = threading.Event()
        self._listening = socket.socket()
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listening.bind(("127.0.0.1", port))
        self._listening.listen(64)
        self.port: int = self._listening.getsockname()[1]
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> TcpCamera:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop serving."""
        self.stop.set()
        self._listening.close()

    @property
    def url(self) -> str:
        """The address of the camera."""
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
    """Send random bytes, a megabyte a second."""
    while not stop.is_set():
        client.sendall(os.urandom(10_000))
        stop.wait(0.01)


def silence(client: socket.socket, stop: threading.Event) -> None:
    """Accept the connection and send nothing."""
    stop.wait(600)


def mpegts(sizes: list[tuple[int, int]], *, fps: int, seconds_each: float) -> bytes:
    """Make MPEG-TS of a moving square, one part for each size.

    This is what a camera sends whose settings are changed while it runs.
    """
    parts = io.BytesIO()
    clock = 0
    for width, height in sizes:
        part = io.BytesIO()
        with av.open(part, "w", format="mpegts") as container:
            stream = container.add_stream("libx264", rate=fps)
            stream.width = width
            stream.height = height
            stream.pix_fmt = "yuv420p"
            stream.options = {"preset": "ultrafast", "tune": "zerolatency", "g": str(fps)}
            for number in range(round(seconds_each * fps)):
                rgb_HWC = np.full((height, width, 3), 90, np.uint8)
                left = number * 7 % (width - 40)
                rgb_HWC[height // 3 : height // 2, left : left + 40] = 220
                frame = av.VideoFrame.from_ndarray(rgb_HWC, format="rgb24")
                frame.pts = clock
                clock += 1
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        parts.write(part.getvalue())
    return parts.getvalue()


def streamed(data: bytes, *, seconds: float) -> Callable[[socket.socket, threading.Event], None]:
    """Serve these bytes once, at an even rate, over this many seconds."""

    def serve(client: socket.socket, stop: threading.Event) -> None:
        steps = max(1, round(seconds * 20))
        size = len(data) // steps + 1
        started_at = time.monotonic()
        for step in range(steps):
            client.sendall(data[step * size : (step + 1) * size])
            stop.wait(max(0.0, started_at + (step + 1) / 20 - time.monotonic()))

    return serve


class ChaosProxy(Proxy):
    """A proxy on a port of its own whose `attack` disturbs the connections."""

    KINDS = ("cut", "freeze", "corrupt", "flood", "refuse")

    def __init__(self, upstream_port: int) -> None:
        self._flowing = threading.Event()
        self._flowing.set()
        self._corrupt = threading.Event()
        self._rng = random.Random(upstream_port)
        super().__init__(upstream_port, free_port())

    def attack(self, kind: str, seconds: float, stop: threading.Event) -> None:
        """Disturb the connections in one of the `KINDS`; some last this many seconds."""
        if kind == "cut":
            self.reset()
        elif kind == "flood":
            with self._lock:
                clients = [client for client, _ in self._pairs]
            for client in clients:
                with contextlib.suppress(OSError):
                    client.sendall(os.urandom(200_000))
        elif kind == "refuse":
            self.cut()
            stop.wait(seconds)
            self.restore()
        elif kind == "freeze":
            self._flowing.clear()
            stop.wait(seconds)
            self._flowing.set()
        else:
            self._corrupt.set()
            stop.wait(seconds)
            self._corrupt.clear()

    def forwarded(self, data: bytes, is_reply: bool) -> bytes:
        """Delay data while frozen, and flip bits of replies while corrupt."""
        self._flowing.wait()
        if not (is_reply and self._corrupt.is_set() and len(data) > 64):
            return data
        spoiled = bytearray(data)
        for _ in range(max(1, len(data) // 500)):
            spoiled[self._rng.randrange(len(data))] ^= 1 << self._rng.randrange(8)
        return bytes(spoiled)


@contextlib.contextmanager
def under_fire(
    proxies: list[ChaosProxy], *, seed: int, pause_seconds: float = 2.0
) -> Iterator[dict[str, int]]:
    """Attack one proxy after the other, at random, for as long as the block lasts.

    Gives the number of attacks of each kind.
    """
    stop = threading.Event()
    rng = random.Random(seed)
    done = dict.fromkeys(ChaosProxy.KINDS, 0)

    def attack() -> None:
        for proxy in itertools.cycle(proxies):
            kind = rng.choice(ChaosProxy.KINDS)
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
    """Count the threads, open descriptors and resident megabytes of this process."""
    status = Path("/proc/self/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return {
        "threads": int(fields["Threads"]),
        "descriptors": sum(1 for _ in Path("/proc/self/fd").iterdir()),
        "megabytes": int(fields["VmRSS"].split()[0]) / 1024,
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def rounded(states: list[dict[str, float]]) -> list[dict[str, int]]:
    """Round the numbers of such states, to be printed."""
    return [{name: round(value) for name, value in state.items()} for state in states]
