"""`run` as people and scripts use it: real processes, signals, summaries, a terminal."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT
from tests.support.broker import free_port, running_broker
from tests.support.command_line import (
    assert_one_error,
    command,
    exposition,
    overrides,
    stream,
    write_config,
)
from tests.support.schema import check_event
from tests.support.waiting import until

pytestmark = pytest.mark.slow

# SIGTERM comes while the network is loaded: the import of `stream.pipeline`, which brings torch,
# follows the installation of the handlers.
SIGNAL_DURING_STARTUP = """
import os, signal, sys
import stream.__main__ as main

class Early:
    def find_spec(self, name, *_):
        if name == "stream.pipeline":
            os.kill(os.getpid(), signal.SIGTERM)

sys.modules.pop("stream.pipeline", None)
sys.meta_path.insert(0, Early())
sys.exit(main.main(sys.argv[1:]))
"""


def test_a_run_writes_its_summary_and_events_can_be_read(config: Path, tmp_path: Path) -> None:
    done = stream("run", "--config", config, "--summary", tmp_path / "s.json")
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "s.json").read_text())
    assert set(summary["cameras"]) == {"a", "b"}
    assert set(summary["latency_seconds"]) == {"p50", "p95", "p99"}
    for camera in summary["cameras"].values():
        assert {"frames_decoded", "windows", "drops", "reconnects"} <= set(camera)
    read = stream("events", "--outbox", tmp_path / "outbox.db", "--format", "jsonl")
    lines = read.stdout.splitlines()
    assert len(lines) == summary["outbox_left"] > 0
    for line in lines:
        check_event(line)
    table = stream("events", "--outbox", tmp_path / "outbox.db")
    assert table.returncode == 0
    assert "started at" in table.stdout
    assert_one_error(stream("events", "--outbox", tmp_path / "none.db"), "outbox not found")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_exits_cleanly(
    config: Path, tmp_path: Path, number: signal.Signals
) -> None:
    port = free_port()
    options = overrides(
        "cameras.0.loop=true",
        "cameras.0.pace=realtime",
        f"http.port={port}",
        "events.default.enter=0.05",
        "events.default.exit=0",
    )
    process = subprocess.Popen(
        command("run", "--config", config, "--summary", tmp_path / "s.json", *options),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    # The other camera's recording may have ended by then.
    started_at_a = re.compile(
        r'^cidc_events_total\{(?=.*camera="a")(?=.*kind="started").*\} [1-9]', re.MULTILINE
    )
    assert until(lambda: started_at_a.search(exposition(port)) is not None, 60)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert "2 cameras" in out
    read = stream("events", "--outbox", tmp_path / "outbox.db", "--format", "jsonl")
    events = [json.loads(line) for line in read.stdout.splitlines()]
    started, ended = (
        {event["event_id"] for event in events if event["kind"] == kind}
        for kind in ("started", "ended")
    )
    assert started
    assert started == ended
    assert "shutdown" in {event["reason"] for event in events}
    assert f"http://127.0.0.1:{port}" in err
    assert json.loads((tmp_path / "s.json").read_text())["cameras"]["a"]["state"] == "ended"


def test_a_signal_during_startup_ends_the_run_cleanly(config: Path, tmp_path: Path) -> None:
    arguments = ["run", "--config", str(config), "--summary", str(tmp_path / "s.json")]
    done = subprocess.run(
        [
            *(sys.executable, "-c", SIGNAL_DURING_STARTUP),
            *arguments,
            *overrides("cameras.0.loop=true"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "s.json").read_text())["cameras"]["a"]["state"] == "ended"


@pytest.mark.parametrize("where", ["/dev/full", "pipe"])
def test_a_full_or_unread_standard_output_does_not_stop_a_run(
    config: Path, tmp_path: Path, where: str
) -> None:
    options = overrides(
        "cameras.0.loop=true", "events.default={enter: 0.05, exit: 0.0, cooldown_seconds: 0.0}"
    )
    run = command(
        *("run", "--config", config, "--duration", "6", "--summary", tmp_path / "s.json"), *options
    )
    reading, writing = os.pipe()
    try:
        if where == "pipe":  # one that is full, and that nobody reads
            os.set_blocking(writing, False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    os.write(writing, b"x" * 4096)
            os.set_blocking(writing, True)
        with Path(where).open("w") if where != "pipe" else os.fdopen(os.dup(writing), "w") as out:
            done = subprocess.run(
                run,
                cwd=ROOT,
                stdout=out,
                stderr=subprocess.PIPE,
                text=True,
                timeout=120,
                check=False,
            )
    finally:
        os.close(reading)
        os.close(writing)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert ("nothing more is printed" in done.stderr) == (where != "pipe")
    summary = json.loads((tmp_path / "s.json").read_text())
    assert 6 <= summary["duration_seconds"] < 60
    assert summary["cameras"]["a"]["windows"] > 0


def test_a_terminal_shows_a_live_table(scenes: Path, tiny_weights: Path, tmp_path: Path) -> None:
    """On a pseudo-terminal the same command draws the table; brackets in names are not styles."""
    (tmp_path / "bad[").mkdir()
    (tmp_path / "bad[/b].mp4").touch()
    urls = {"a": scenes / "recordings/camera-1.mp4", "b": tmp_path / "bad[/b].mp4"}
    config = write_config(tmp_path, tiny_weights, urls)
    terminal, inside = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "140", "LINES": "40"}
    process = subprocess.Popen(
        command("run", "--config", config),
        cwd=ROOT,
        stdout=inside,
        stderr=inside,
        env=environment,
    )
    os.close(inside)
    shown = b""
    with contextlib.suppress(OSError):  # the terminal closes when the process ends
        while data := os.read(terminal, 65536):
            shown += data
    os.close(terminal)
    assert process.wait(60) == 0, shown.decode()[-2000:]
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert "Traceback" not in text
    assert "camera" in text
    assert "running" in text or "blocked" in text
    assert "Invalid data found" in text
    assert "2 cameras" in text


def test_duration_ends_a_run(config: Path, tmp_path: Path) -> None:
    options = ["--duration", "3", *overrides("cameras.0.loop=true")]
    done = stream("run", "--config", config, "--summary", tmp_path / "s.json", *options)
    assert done.returncode == 0, done.stderr
    assert 3 <= json.loads((tmp_path / "s.json").read_text())["duration_seconds"] < 60
    assert stream("run", "--config", config, "--duration", "-1").returncode == 2


def test_every_hostile_file_is_analysed_or_explained(
    shared_data: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    files = sorted(
        path
        for folder in ("robust", "actions/gmdcsa24_untrimmed")
        for path in (shared_data / folder).rglob("*")
        if path.is_file()
    )
    urls = {
        f"c{number}-{path.stem}"[:60].replace(" ", "_"): path for number, path in enumerate(files)
    }
    path = write_config(tmp_path, tiny_weights, urls)
    done = stream("run", "--config", path, "--summary", tmp_path / "s.json")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    summary = json.loads((tmp_path / "s.json").read_text())
    assert len(summary["cameras"]) == len(files) > 100
    for name, camera in summary["cameras"].items():
        assert camera["state"] == "ended"
        explained = not camera["detail"].startswith("end of file")
        assert (camera["windows"] > 0) != explained, f"{name}: {camera}"
    falls = [camera for name, camera in summary["cameras"].items() if "_fall_" in name]
    assert len(falls) == 7
    assert all(camera["windows"] >= 9 for camera in falls)


@pytest.mark.broker
def test_events_go_through_a_broker(config: Path, tmp_path: Path) -> None:
    with running_broker() as bootstrap:
        topic = f"t{free_port()}"
        options = overrides(f"kafka.bootstrap=[{bootstrap}]", f"kafka.topic={topic}")
        done = stream("run", "--config", config, "--summary", tmp_path / "s.json", *options)
        assert done.returncode == 0, done.stderr
        summary = json.loads((tmp_path / "s.json").read_text())
        assert summary["outbox_left"] == 0
        assert summary["published"] > 0
        read = stream("events", "--bootstrap", bootstrap, "--topic", topic, "--format", "jsonl")
    lines = read.stdout.splitlines()
    assert len(lines) == summary["published"]
    for line in lines:
        check_event(line)
