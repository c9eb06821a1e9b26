"""The command lines as people and scripts use them: real processes, exit status, one clear
message.
"""

import contextlib
import dataclasses
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import torch
import yaml

from stream.cameras.config import CameraConfig
from stream.cameras.overrides import CameraChanges
from stream.events.config import OutboxConfig
from stream.events.outbox import Outbox
from tests import ROOT
from tests.support.broker import free_port, running_broker
from tests.support.factory import make_event
from tests.support.schema import check_event


def stream(*arguments: str | Path, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stream", *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False
    )


def write_config(folder: Path, weights: Path, urls: dict[str, Path], **sections: object) -> Path:
    fields: dict[str, object] = {
        "cameras": [{"id": name, "url": str(path), "pace": "fast"} for name, path in urls.items()],
        "infer": {"weights": str(weights)},
        "events": {"smoothing": 1, "default": {"enter": 0.3, "exit": 0.2}},
        "outbox": {"path": str(folder / "outbox.db")},
        "http": {"port": 0},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(fields | sections))
    return path


@pytest.fixture
def config(scenes: Path, tiny_weights: Path, tmp_path: Path) -> Path:
    return write_config(
        tmp_path,
        tiny_weights,
        {"a": scenes / "recordings/camera-1.mp4", "b": scenes / "recordings/camera-2.mp4"},
    )


def assert_one_error(done: subprocess.CompletedProcess[str], says: str) -> None:
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 2, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert sum(line.startswith("error:") for line in lines) == 1
    assert lines[-1].startswith("error:")


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("clip.hoop=3", "clip.hoop: unknown setting; did you mean 'hop'"),
        ("cameras.0.url=/nowhere/x.mp4", "camera a: file not found: /nowhere/x.mp4"),
        ("cameras.0.url=rtps://host/x", "unknown scheme 'rtps'"),
        ("infer.weights=/nowhere/w.safetensors", "no weights file '/nowhere/w.safetensors'"),
        ("infer.labels=[fall, fly]", "infer.labels is ['fall', 'fly'], but the weights"),
        ("events.ignore=[walking]", "the weights have no label 'walking'"),
        ("clip.fps=25", "clip.fps is 25, but the weights"),
        ("outbox.path=/proc/none/o.db", "outbox /proc/none/o.db"),
    ],
)
def test_a_wrong_setting_is_one_message_and_status_2(
    config: Path, override: str, says: str
) -> None:
    assert_one_error(stream("run", "--config", config, "--set", override), says)


def test_check_finds_the_same_without_running(config: Path, tmp_path: Path) -> None:
    done = stream("check", "--config", config)
    assert (done.returncode, done.stdout) == (0, "ok: 2 cameras, weights tiny with 13 labels\n")
    assert_one_error(
        stream("check", "--config", config, "--set", "infer.labels=[x]"), "infer.labels"
    )
    assert_one_error(
        stream("check", "--config", tmp_path / "none.yaml"), "configuration file not found"
    )


def test_what_was_changed_over_http_is_said_and_checked(config: Path, tmp_path: Path) -> None:
    changes = tmp_path / "changes.json"
    CameraChanges(changes).note("yard", CameraConfig(id="yard", url="rtsp://h/yard"))
    done = stream("check", "--config", config, "--set", f"http.changes={changes}")
    assert "changes made over HTTP: added yard (delete the file to undo them all)" in done.stdout
    assert "ok: 3 cameras" in done.stdout
    changes.write_text("{")
    assert_one_error(
        stream(
            "check",
            "--config",
            config,
            "--set",
            "http.enabled=true",
            "--set",
            f"http.changes={changes}",
        ),
        "cannot be read",
    )


def test_events_say_when_and_in_which_region(tmp_path: Path) -> None:
    outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"))
    outbox.append([dataclasses.replace(make_event(1), region="gate")])
    outbox.close()
    printed = stream("events", "--outbox", tmp_path / "o.db").stdout
    assert "2026-01-02T03:04:05.000Z" in printed
    assert "cam/gate" in printed


def test_a_damaged_checkpoint_is_named(config: Path, tiny_weights: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(tiny_weights.read_bytes()[:5000])
    assert_one_error(
        stream("run", "--config", config, "--set", f"infer.weights={broken}"),
        "broken.safetensors is not a readable",
    )


def test_a_port_in_use_is_named(config: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert_one_error(
            stream("run", "--config", config, "--set", f"http.port={port}"),
            f"cannot listen on 127.0.0.1:{port}",
        )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_device_asked_for_and_missing_is_an_error(config: Path) -> None:
    assert_one_error(
        stream("run", "--config", config, "--set", "infer.device=cuda"),
        "device: cuda was asked for",
    )


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
    command = [
        sys.executable,
        "-m",
        "stream",
        "run",
        "--config",
        str(config),
        "--summary",
        str(tmp_path / "s.json"),
        "--set",
        "cameras.0.loop=true",
        "--set",
        "cameras.0.pace=realtime",
        "--set",
        f"http.port={port}",
        "--set",
        "events.default.enter=0.05",
        "--set",
        "events.default.exit=0",
    ]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    metrics = ""
    while 'kind="started"' not in metrics and time.monotonic() < deadline:
        time.sleep(0.2)
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=2) as answer:
                metrics = answer.read().decode()
        except OSError:
            continue
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert "2 cameras" in out
    events = [
        json.loads(line)
        for line in stream(
            "events", "--outbox", tmp_path / "outbox.db", "--format", "jsonl"
        ).stdout.splitlines()
    ]
    started, ended = (
        {event["event_id"] for event in events if event["kind"] == kind}
        for kind in ("started", "ended")
    )
    assert started
    assert started == ended
    assert "shutdown" in {event["reason"] for event in events}
    assert f"http://127.0.0.1:{port}" in err
    assert json.loads((tmp_path / "s.json").read_text())["cameras"]["a"]["state"] == "ended"


def test_who_stops_a_start_gets_an_orderly_end(config: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "stream",
        "run",
        "--config",
        str(config),
        "--summary",
        str(tmp_path / "s.json"),
        "--set",
        "cameras.0.loop=true",
    ]
    # A signal that comes while the network is loaded: torch is imported after the handlers are
    # there.
    code = (
        "import sys, os, signal; import stream.__main__ as main; sys.modules.pop('stream.pipeline',"
        " None)"
    )
    code += (
        "\nclass Early:\n def find_spec(self, name, *_):\n  if name == 'stream.pipeline':"
        " os.kill(os.getpid(), signal.SIGTERM)"
    )
    code += "\nsys.meta_path.insert(0, Early()); sys.exit(main.main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, *command[3:]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "s.json").read_text())["cameras"]["a"]["state"] == "ended"


@pytest.mark.parametrize("where", ["/dev/full", "pipe"])
def test_standard_output_that_takes_nothing_stops_nothing(
    config: Path, tmp_path: Path, where: str
) -> None:
    command = [
        sys.executable,
        "-m",
        "stream",
        "run",
        "--config",
        str(config),
        "--duration",
        "6",
        "--summary",
        str(tmp_path / "s.json"),
        "--set",
        "cameras.0.loop=true",
        "--set",
        "events.default={enter: 0.05, exit: 0.0, cooldown_seconds: 0.0}",
    ]
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
                command,
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


def test_changes_are_kept_beside_the_outbox_so_that_runs_do_not_share_them(
    config: Path, tmp_path: Path
) -> None:
    CameraChanges(tmp_path / "outbox.db.cameras.json").note(
        "yard", CameraConfig(id="yard", url="rtsp://h/yard")
    )
    assert "ok: 3 cameras" in stream("check", "--config", config).stdout
    assert (
        "ok: 2 cameras"
        in stream(
            "check", "--config", config, "--set", f"outbox.path={tmp_path / 'other.db'}"
        ).stdout
    )


def test_events_can_be_followed_before_there_are_any(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "stream",
        "events",
        "--outbox",
        str(tmp_path / "o.db"),
        "--follow",
        "--format",
        "jsonl",
    ]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        assert process.stderr is not None
        assert "waiting for the outbox" in process.stderr.readline()
        outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"))
        for number in (1, 2):
            outbox.append([make_event(number)])
            assert json.loads(process.stdout.readline())["sequence"] == number
        outbox.close()
    finally:
        process.kill()
        process.communicate()


def test_what_a_broker_refused_is_listed_with_its_error(tmp_path: Path) -> None:
    outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"))
    outbox.append([make_event(1), make_event(2)])
    outbox.set_aside(2, "MessageSizeTooLargeError: too large")
    outbox.close()
    [line] = stream("events", "--outbox", tmp_path / "o.db", "--rejected").stdout.splitlines()
    listed = json.loads(line)
    assert "too large" in listed["error"]
    assert json.loads(listed["event"])["sequence"] == 2
    assert_one_error(
        stream("events", "--outbox", tmp_path / "o.db", "--group", "g"),
        "--group and --topic are for a broker",
    )


def test_a_terminal_shows_a_live_table(config: Path) -> None:
    """The same command on a pseudo-terminal, where the table is drawn."""
    terminal, inside = pty.openpty()
    command = [sys.executable, "-m", "stream", "run", "--config", str(config)]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "140", "LINES": "40"}
    process = subprocess.Popen(command, cwd=ROOT, stdout=inside, stderr=inside, env=environment)
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
    assert "2 cameras" in text


def test_duration_ends_a_run(config: Path, tmp_path: Path) -> None:
    done = stream(
        "run",
        "--config",
        config,
        "--set",
        "cameras.0.loop=true",
        "--duration",
        "3",
        "--summary",
        tmp_path / "s.json",
    )
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


def test_events_go_through_a_broker(config: Path, tmp_path: Path) -> None:
    with running_broker() as bootstrap:
        topic = f"t{free_port()}"
        done = stream(
            "run",
            "--config",
            config,
            "--set",
            f"kafka.bootstrap=[{bootstrap}]",
            "--set",
            f"kafka.topic={topic}",
            "--summary",
            tmp_path / "s.json",
        )
        assert done.returncode == 0, done.stderr
        summary = json.loads((tmp_path / "s.json").read_text())
        assert summary["outbox_left"] == 0
        assert summary["published"] > 0
        read = stream("events", "--bootstrap", bootstrap, "--topic", topic, "--format", "jsonl")
    lines = read.stdout.splitlines()
    assert len(lines) == summary["published"]
    for line in lines:
        check_event(line)


def test_a_closed_pipe_is_no_error(config: Path, tmp_path: Path) -> None:
    stream("run", "--config", config)
    command = (
        f"{sys.executable} -m stream events --outbox {tmp_path}/outbox.db --format jsonl | head"
        " -n 1"
    )
    done = subprocess.run(
        command, shell=True, cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ
    )
    assert "Traceback" not in done.stderr
