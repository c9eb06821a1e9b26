"""A server over a manager whose cameras only wait to be stopped."""

from __future__ import annotations

import contextlib
import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from configs import ConfigError
from stream.camera import CameraConfig, SourceConfig
from stream.cameras import CameraStatus, Fleet, Worker
from stream.changes import CameraChanges
from stream.events import EventConfig
from stream.frames import StreamBreak
from stream.manager import CameraManager
from stream.metrics import Metrics
from stream.serve.config import HttpConfig
from stream.serve.server import HttpServer

__all__ = ["Rig", "crowd"]


class Rig:
    """A manager whose cameras only wait to be stopped, behind a real server."""

    def __init__(self, folder: Path, **http: Any) -> None:
        self.running: list[str] = []
        self.breaks: list[StreamBreak] = []
        self.fleet = Fleet(SourceConfig(), Metrics(), self._run)
        changes = CameraChanges(folder / "changes.json")
        self.manager = CameraManager(
            self.fleet,
            changes,
            Metrics(),
            most_views=6,
            common={"events": EventConfig(smoothing=2), "source": SourceConfig()},
            check=self._check,
            interrupt=self.breaks.append,
        )
        self.manager.load(
            changes.apply([CameraConfig(id="a", url="rtsp://user:secret@host/a")]), {}
        )
        self.manager.start()
        self.server = HttpServer(
            HttpConfig(port=0, **http),
            metrics=lambda: b"m 1\n",
            cameras=lambda: self.manager,
            checks={name: lambda: None for name in ("live", "ready", "startup")},
        )
        self.server.start()

    def close(self) -> None:
        self.server.close()
        self.fleet.stop()

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if data is not None:
            headers.setdefault("Content-Type", "application/json")
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.server.port}{path}", data, headers, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                text = answer.read()
                return answer.status, json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    def _run(self, status: CameraStatus, worker: Worker) -> None:
        self.running.append(status.camera.id)
        status.set_state("running")
        worker.stop.wait()
        self.running.remove(status.camera.id)

    def _check(self, camera: CameraConfig) -> None:
        problem = camera.problem()
        if problem:
            raise ConfigError(problem)


@contextlib.contextmanager
def crowd(rig: Rig, said: bytes, count: int) -> Iterator[list[socket.socket]]:
    held = [
        socket.create_connection(("127.0.0.1", rig.server.port), timeout=5) for _ in range(count)
    ]
    try:
        for each in held:
            with contextlib.suppress(OSError):
                each.sendall(said)
        yield held
    finally:
        for each in held:
            each.close()
