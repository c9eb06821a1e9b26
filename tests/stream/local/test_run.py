"""The parent of workers: real processes, without pipelines in them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from configs import ConfigError, OutboxError
from stream.config import StreamConfig
from stream.events.config import OutboxConfig
from stream.events.outbox import Outbox
from stream.local.dealing import owner_of
from stream.local.run import LocalWorkers
from tests import ROOT
from tests.support.waiting import until

STUB = (sys.executable, str(ROOT / "tests/support/stub_worker.py"))


def config(tmp_path: Path, **sections: object) -> StreamConfig:
    fields: dict[str, object] = {
        "cameras": [{"id": name, "url": "push:"} for name in ("a", "c")],
        "outbox": {"path": tmp_path / "outbox.db"},
        "http": {"port": 0},
        "kafka": {"drain_seconds": 5},
    }
    return StreamConfig.model_validate(fields | sections)


class Running:
    """Two stub workers that run in a thread."""

    def __init__(self, tmp_path: Path) -> None:
        self.workers = LocalWorkers(
            config(tmp_path), ("cpu", "cpu"), command=(*STUB, str(tmp_path))
        )
        self.stop = threading.Event()
        self.summary: dict[str, Any] = {}
        self.error: Exception | None = None
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self.summary = self.workers.run(self.stop)
        except ConfigError as error:
            self.error = error

    def ask(
        self, path: str, method: str = "GET", fields: object = None, accept: str = "*/*"
    ) -> tuple[int, str]:
        body = None if fields is None else json.dumps(fields).encode()
        headers = {"Content-Type": "application/json", "Accept": accept}
        request = urllib.request.Request(
            f"{self.workers.address}{path}", body, headers, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def is_ready(self) -> bool:
        return self.ask("/ready")[0] == 200


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    made = Running(tmp_path)
    with made.workers:
        made.thread.start()
        yield made
        made.stop.set()
        made.thread.join(60)
        assert not made.thread.is_alive()


def test_one_address_serves_all_workers(running: Running) -> None:
    assert until(running.is_ready, 60)
    pids = {each.pid for each in running.workers.workers}
    status, text = running.ask("/metrics")
    assert status == 200
    for number in range(2):
        assert f'n{{worker="{number}"}} 1.0' in text
        assert f'cidc_worker_up{{worker="{number}"}} 1.0' in text
    exemplars = running.ask("/metrics", accept="application/openmetrics-text")[1]
    for number, each in enumerate(running.workers.workers):
        sample = f'h_bucket{{worker="{number}",le="+Inf"}} 1.0'
        assert f'{sample} # {{trace_id="{each.pid}"}} 0.5\n' in exemplars
    assert exemplars.endswith("\n# EOF\n")
    report = json.loads(running.ask("/health")[1])
    assert (report["status"], report["cameras"]) == ("ok", {"running": 2})
    assert (report["workers"], report["load"]) == ({"0": None, "1": None}, 0.5)
    hook = {"sink": "hook", "address": "https://a.example", "problem": None, "waiting": 6}
    assert report["sinks"] == [hook]
    assert {each["pid"] for each in json.loads(running.ask("/cameras")[1])} == pids
    for name in ("a", "front-door"):
        status, text = running.ask("/cameras", "POST", {"id": name, "url": "push:"})
        answer = json.loads(text)
        assert answer["pid"] == running.workers.workers[owner_of(name, 2)].pid
        assert answer["sent"] == {"id": name, "url": "push:"}
        assert running.ask(f"/cameras/{name}", "DELETE")[0] == 204
    status, text = running.ask("/cameras/gone%20x")
    assert (status, json.loads(text)) == (404, {"error": "there is no camera at /cameras/gone%20x"})


def test_a_worker_that_dies_is_started_again_and_the_others_go_on(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    assert until(running.is_ready, 60)
    first, second = (each.pid for each in running.workers.workers)
    assert first is not None
    os.kill(first, signal.SIGKILL)
    assert until(lambda: running.ask("/ready")[0] == 503)
    assert running.ask("/live")[0] == 200
    assert until(running.is_ready, 60)
    assert running.workers.workers[0].pid not in (first, None)
    assert running.workers.workers[1].pid == second
    text = running.ask("/metrics")[1]
    assert 'cidc_worker_restarts_total{worker="0"} 1.0' in text
    assert 'cidc_worker_restarts_total{worker="1"} 0.0' in text
    assert "worker 0 (cpu) was ended by signal 9; it is started again in 1 s" in caplog.text
    running.stop.set()
    running.thread.join(60)
    assert running.summary["failed"] == []
    assert running.summary["restarts"] == {"0": 1, "1": 0}
    assert {each["pid"] for each in running.summary["workers"].values()} > {second}


def test_the_run_ends_when_all_cameras_have_ended(running: Running, tmp_path: Path) -> None:
    assert until(running.is_ready, 60)
    (tmp_path / "ended").touch()
    running.thread.join(60)
    assert not running.thread.is_alive()
    assert running.workers.draining.is_set()
    assert running.summary["failed"] == []


def test_a_parent_that_waits_for_its_workers_to_stop_does_not_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream.local.run._HANGS_SECONDS", 0.0)
    workers = LocalWorkers(config(tmp_path), ("cpu",), command=(*STUB, str(tmp_path)))
    with workers:
        assert "have not been supervised" in str(workers.checks["live"]())
        workers.draining.set()  # sending the last events may take longer
        assert workers.checks["live"]() is None


def test_a_configuration_that_a_worker_refuses_ends_the_run(tmp_path: Path) -> None:
    (tmp_path / "refuse").touch()
    refused = Running(tmp_path)
    with refused.workers:
        refused.thread.start()
        refused.thread.join(60)
    assert "cannot be used as it is configured; its own message" in str(refused.error)


def test_workers_stop_when_their_parent_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, threading\n"
        "from pathlib import Path\n"
        "from tests.stream.local.test_run import Running\n"
        "running = Running(Path(sys.argv[1]))\n"
        "running.thread.start()\n"
        "while not all(each.was_up for each in running.workers.workers): pass\n"
        "print(*(each.pid for each in running.workers.workers), flush=True)\n"
        "threading.Event().wait()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    with parent:
        assert parent.stdout is not None
        pids = parent.stdout.readline().split()
        parent.kill()
    assert len(pids) == 2
    assert until(lambda: all((tmp_path / f"orphan-{pid}").exists() for pid in pids), 30)
    assert until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), 30)


def test_an_outbox_in_use_is_refused_before_anything_starts(tmp_path: Path) -> None:
    box = Outbox(OutboxConfig(path=tmp_path / "outbox-1.db"))
    with pytest.raises(OutboxError, match=r"outbox-1\.db: another process is using it"):
        LocalWorkers(config(tmp_path), ("cpu", "cpu"), command=(*STUB, str(tmp_path)))
    box.close()
