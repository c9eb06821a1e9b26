"""Readers that hang after their cameras were removed: their number is bounded for the process."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stream.cameras.worker_threads import WorkerThreads
from stream.ingest.camera_worker import CameraWorker
from stream.ingest.config import ClipConfig, SourceConfig
from stream.types import StreamItem
from tests.stream.serve.rig import Rig
from tests.support.waiting import until

BOUND = 64


class Hanging:
    """Runs cameras that do not return when they are told to end, until they are released."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.started: list[str] = []

    def __call__(self, threads: WorkerThreads) -> None:
        self.started.append(threads.camera_id)
        threads.status.set_state("running")
        self.release.wait(60)


def wait_for_stop(threads: WorkerThreads) -> None:
    """Run a camera that returns as soon as it is told to end."""
    threads.stop.wait()


@pytest.fixture
def hanging() -> Hanging:
    return Hanging()


@pytest.fixture
def rig(tmp_path: Path, hanging: Hanging) -> Iterator[Rig]:
    made = Rig(tmp_path, run=hanging, max_views=200)
    yield made
    hanging.release.set()
    made.close()


def add_and_delete(rig: Rig, times: int, url: str = "rtsp://h/b") -> Counter[int]:
    found: Counter[int] = Counter()
    for number in range(times):
        status, _ = rig.ask("POST", "/cameras", {"id": f"b{number}", "url": url})
        found[status] += 1
        if status == 201:
            assert rig.ask("DELETE", f"/cameras/b{number}")[0] == 204
        rig.supervisor.supervise()
    return found


def returned(rig: Rig) -> bool:
    rig.supervisor.supervise()
    return bool(rig.metrics.readers_abandoned._value.get() == 0)


def test_cameras_are_refused_until_readers_return(rig: Rig, hanging: Hanging) -> None:
    for camera_id in ("paused", "running"):
        rig.ask("POST", "/cameras", {"id": camera_id, "url": "rtsp://h/b"})
    rig.ask("POST", "/cameras/paused/pause")  # its reader hangs too
    threads = threading.active_count()
    assert add_and_delete(rig, 200) == {201: BOUND - 1, 503: 200 - (BOUND - 1)}
    assert threading.active_count() - threads <= BOUND
    assert rig.metrics.readers_abandoned._value.get() == BOUND
    started = len(hanging.started)
    for method, path, body in (
        ("POST", "/cameras", {"id": "new", "url": "rtsp://h/b"}),
        ("PATCH", "/cameras/running", {"hop": 8}),
        ("POST", "/cameras/paused/resume", None),
    ):
        status, said = rig.ask(method, path, body)
        assert (status, f"{BOUND} readers" in said["error"]) == (503, True), path
    # What starts no reader works, and what was refused has changed nothing.
    described = {each["id"]: each for each in rig.ask("GET", "/cameras")[1]}
    assert set(described) == {"a", "paused", "running"}
    assert described["running"]["hop"] is None
    assert described["paused"]["paused"]
    assert rig.ask("PATCH", "/cameras/paused", {"hop": 8})[0] == 200
    assert rig.ask("POST", "/cameras/running/pause")[0] == 200
    assert rig.ask("DELETE", "/cameras/a")[0] == 204
    assert len(hanging.started) == started
    hanging.release.set()
    assert until(lambda: returned(rig))
    assert rig.ask("POST", "/cameras/running/resume")[0] == 200
    assert rig.ask("POST", "/cameras", {"id": "new", "url": "rtsp://h/b"})[0] == 201


def test_the_answer_says_when_to_try_again(rig: Rig) -> None:
    add_and_delete(rig, BOUND)
    connection = http.client.HTTPConnection("127.0.0.1", rig.server.port, timeout=5)
    body = json.dumps({"id": "new", "url": "rtsp://h/b"})
    connection.request("POST", "/cameras", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("Retry-After")) == (503, "5")
    connection.close()


def test_a_hanging_reader_is_replaced_only_when_others_have_returned(
    rig: Rig, hanging: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_and_delete(rig, BOUND - 1)
    monkeypatch.setattr(rig.supervisor, "_patience", lambda status: 0.0)
    rig.supervisor.supervise()  # the reader of the camera from the start hangs as well
    (described,) = rig.ask("GET", "/cameras")[1]
    assert described["state"] == "offline"
    assert f"{BOUND} readers" in described["detail"]
    assert hanging.started.count("a") == 1
    monkeypatch.undo()
    hanging.release.set()
    assert until(lambda: (rig.supervisor.supervise(), hanging.started.count("a") == 2)[1])


def test_readers_that_return_at_once_do_not_count(tmp_path: Path) -> None:
    rig = Rig(tmp_path, run=wait_for_stop)
    try:
        assert add_and_delete(rig, 2 * BOUND) == {201: 2 * BOUND}
    finally:
        rig.close()


class Outlet:
    """Takes what cameras deliver."""

    def put(self, item: StreamItem, *_: Any, **__: Any) -> bool:
        """Take an item."""
        return True


def reader(metrics: Callable[[], Any]) -> Callable[[WorkerThreads], None]:
    """Return what reads real cameras, and waits a minute for one that does not answer."""

    def run(threads: WorkerThreads) -> None:
        CameraWorker(
            threads,
            source=SourceConfig(open_timeout_seconds=60.0, read_timeout_seconds=60.0),
            clip=ClipConfig(),
            metrics=metrics(),
            short_side=160,
            outlet=Outlet(),
        ).run()

    return run


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.mark.slow
def test_a_server_that_says_nothing_costs_a_bounded_number_of_threads_and_descriptors(
    tmp_path: Path,
) -> None:
    rig = Rig(tmp_path, configured=(), run=reader(lambda: rig.metrics))
    try:
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen(256)
            before = threading.active_count(), open_descriptors()
            url = f"http://127.0.0.1:{silent.getsockname()[1]}/video.mp4"
            found = add_and_delete(rig, 200, url)
            threads = threading.active_count() - before[0]
            descriptors = open_descriptors() - before[1]
        assert found[503] >= 100
        assert threads <= 2 * BOUND + 50  # the threads of the server beside
        assert descriptors <= 4 * BOUND
        assert until(lambda: returned(rig), 60)
    finally:
        rig.close()
