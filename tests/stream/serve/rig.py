"""A server over a manager whose cameras only wait to be stopped."""

from __future__ import annotations

import contextlib
import json
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from configs import ConfigError
from stream.cameras.allowed_files import AllowedFiles
from stream.cameras.config import CameraConfig
from stream.cameras.manager import CameraManager
from stream.cameras.overrides import CameraOverrides
from stream.cameras.supervisor import Supervisor
from stream.cameras.worker_threads import WorkerThreads
from stream.events.config import EventConfig
from stream.ingest.config import SourceConfig
from stream.metrics import Metrics
from stream.serve.config import HttpConfig
from stream.serve.dependencies import TopicControl
from stream.serve.discovery import DiscoveryRunner
from stream.serve.server import HttpServer
from stream.types import StreamBreak

__all__ = ["NOTHING_FOUND", "Rig", "crowd"]

# Stands for the command `discover` where the network is not to be asked.
NOTHING_FOUND = ("sh", "-c", """echo '{"devices": [], "dropped": {}}'""", "-")


class Rig:
    """A manager whose cameras only wait to be stopped, behind a real server."""

    def __init__(
        self,
        folder: Path,
        *,
        configured: Sequence[CameraConfig] = (
            CameraConfig(id="a", url="rtsp://user:secret@host/a"),
        ),
        run: Callable[[WorkerThreads], None] | None = None,
        max_views: int = 6,
        topic: TopicControl | None = None,
        discovery: DiscoveryRunner | None = None,
        **http: Any,
    ) -> None:
        self.running: list[str] = []
        self.breaks: list[StreamBreak] = []
        self.metrics = Metrics()
        self.supervisor = Supervisor(
            SourceConfig(), self.metrics, run or self._run, self.breaks.append
        )
        config = HttpConfig(port=0, **http)
        self._allowed = AllowedFiles(config.files, configured, SourceConfig())
        changes = CameraOverrides(folder / "changes.json")
        self.manager = CameraManager(
            self.supervisor,
            changes,
            self.metrics,
            max_views=max_views,
            shared={"events": EventConfig(smoothing=2), "source": SourceConfig()},
            check=self._check,
        )
        self.manager.load(changes.apply(configured), {})
        self.manager.start()
        self.server = HttpServer(
            config,
            metrics=lambda: b"m 1\n",
            cameras=lambda: self.manager,
            checks={name: lambda: None for name in ("live", "ready", "startup")},
            topic=topic,
            discovery=discovery or DiscoveryRunner(NOTHING_FOUND),
        )
        self.server.start()

    def close(self) -> None:
        self.server.close()
        self.supervisor.stop()

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

    def _run(self, threads: WorkerThreads) -> None:
        self.running.append(threads.camera_id)
        threads.status.set_state("running")
        threads.stop.wait()
        self.running.remove(threads.camera_id)

    def _check(self, camera: CameraConfig) -> None:
        self._allowed.check(camera)
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
