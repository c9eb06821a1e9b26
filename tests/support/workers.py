"""Workers that share the cameras of a topic, as real processes on one broker."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import socket
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from stream.events.config import KafkaConfig
from stream.fleet.registry import CameraTopic, read_table
from stream.fleet.table import table_of
from stream.fleet.topic import find_compacted_topic
from tests.support.broker import Proxy, free_port

PARTITIONS = 12
SESSION_SECONDS = 10.0
CAMERAS_TOPIC = "cameras"
# Workers are forked from a process that has imported everything: imports take most of a start.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["stream.pipeline", "stream.__main__", "tests.support.workers"])


class Worker:
    """One process `python -m stream run`; its folder keeps its outbox over restarts."""

    def __init__(self, name: str, folder: Path, weights: Path, videos: Path, broker: str) -> None:
        self.name = name
        self.folder = folder / name
        self.folder.mkdir()
        self.port = free_port()
        self._process: Any = None
        config = {
            "cameras_from": {
                "topic": CAMERAS_TOPIC,
                "partitions": PARTITIONS,
                "worker": name,
                "session_seconds": SESSION_SECONDS,
            },
            "kafka": {"bootstrap": broker, "partitions": 4},
            "infer": {"weights": str(weights), "device": "cpu", "precision": "float32"},
            "events": {
                "smoothing": 1,
                "update_seconds": 1,
                "default": {"enter": 0.3, "exit": 0.2},
            },
            "clip": {"hop": 30},
            "outbox": {"path": str(self.folder / "outbox.db")},
            "http": {"port": self.port, "files": [str(videos)]},
        }
        self.config = self.folder / "c.yaml"
        self.config.write_text(yaml.safe_dump(config))

    def start(self) -> None:
        """Start the process; its log goes on in the folder."""
        arguments = ["run", "--config", str(self.config)]
        self._process = _FORKS.Process(target=_run, args=(arguments, self.folder / "log"))
        self._process.start()

    def kill(self) -> None:
        """End the process without a word."""
        self._process.kill()
        self._process.join(60)

    def stop(self) -> int:
        """End the process in an orderly way; returns its exit status."""
        os.kill(self.pid, signal.SIGTERM)
        self._process.join(90)
        return int(self._process.exitcode)

    @property
    def pid(self) -> int:
        """The process's number."""
        return int(self._process.pid)

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.is_alive()

    def get(self, path: str) -> Any:
        """Return the JSON at a path; None while nobody answers."""
        with (
            contextlib.suppress(OSError, ValueError),
            urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=2) as answer,
        ):
            return json.loads(answer.read())
        return None

    def running(self) -> set[str]:
        """The cameras that run here now."""
        cameras = self.get("/cameras") or []
        cameras = cameras.get("cameras", []) if isinstance(cameras, dict) else cameras
        return {each["id"] for each in cameras if each["state"] in ("running", "blocked")}

    def share(self) -> dict[str, Any]:
        """What `/health` says of this worker's share; empty while nobody answers."""
        return (self.get("/health") or {}).get("worker") or {}

    def log(self) -> str:
        """Return the log lines of all its processes."""
        return (self.folder / "log").read_text(errors="replace")


def _run(arguments: list[str], log: Path) -> None:
    """Run the command line in this process, with its output in a file."""
    import torch

    from stream.__main__ import main

    with log.open("ab", buffering=0) as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())
    torch.set_num_threads(1)
    sys.exit(main(arguments))


@contextlib.contextmanager
def ended_at_last(workers: list[Worker]) -> Iterator[None]:
    """Kill what still runs when the block ends."""
    try:
        yield
    finally:
        for worker in workers:
            if worker.is_alive:
                worker.kill()


class SelectiveProxy(Proxy):
    """A proxy that can cut one process from the broker, and leave the others alone."""

    _refused: int | None = None

    def is_let_in(self, client: socket.socket, server: socket.socket) -> bool:
        """Refuse the process that was cut."""
        return self._refused is None or not _has_socket(self._refused, client.getpeername()[1])

    def cut_process(self, pid: int) -> None:
        """Reset the connections of a process, and refuse new ones."""
        self._refused = pid
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            with contextlib.suppress(OSError):
                if _has_socket(pid, pair[0].getpeername()[1]):
                    self._drop(pair)

    def restore_process(self) -> None:
        """Let it in again."""
        self._refused = None


def _has_socket(pid: int, port: int) -> bool:
    """Whether a process has a TCP socket at this local port, by what Linux shows in /proc."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    inodes = {
        f"socket:[{fields[9]}]"
        for fields in map(str.split, lines)
        if int(fields[1].rpartition(":")[2], 16) == port
    }
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            if str(entry.readlink()) in inodes:
                return True
    return False


def put_cameras(broker: str, cameras: dict[str, dict[str, object]]) -> None:
    """Write cameras into the topic, by their ids."""
    fields = [{"id": camera_id, **camera} for camera_id, camera in cameras.items()]
    with contextlib.closing(CameraTopic(_cameras_at(broker), timeout_seconds=30)) as topic:
        topic.put(fields, table_of([]))


def remove_camera(broker: str, camera_id: str) -> None:
    """Write a tombstone into the topic."""
    config = _cameras_at(broker)
    with contextlib.closing(CameraTopic(config, timeout_seconds=30)) as topic:
        topic.remove([camera_id], read_table(config))


def create_topic(broker: str) -> None:
    """Create the topic of the cameras."""
    find_compacted_topic(_cameras_at(broker))


def _cameras_at(broker: str) -> KafkaConfig:
    fields = {"bootstrap": broker, "topic": CAMERAS_TOPIC, "partitions": PARTITIONS}
    return KafkaConfig.model_validate(fields)
