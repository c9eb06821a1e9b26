"""What `check` and `events` print, and how mistakes are reported: one message, status 2."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import socket
import subprocess
from pathlib import Path

import pytest
import torch

from stream.cameras.config import CameraConfig
from stream.cameras.overrides import CameraOverrides
from stream.events.config import OutboxConfig
from stream.events.outbox import Outbox
from tests import ROOT
from tests.support.command_line import assert_one_error, command, overrides, stream
from tests.support.factory import make_event

pytestmark = pytest.mark.slow


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
def test_a_wrong_setting_gives_one_message_and_status_2(
    config: Path, override: str, says: str
) -> None:
    assert_one_error(stream("run", "--config", config, "--set", override), says)


def test_check_reports_the_same_mistakes_without_running(config: Path, tmp_path: Path) -> None:
    done = stream("check", "--config", config)
    assert (done.returncode, done.stdout) == (0, "ok: 2 cameras, weights tiny with 13 labels\n")
    assert_one_error(
        stream("check", "--config", config, "--set", "infer.labels=[x]"), "infer.labels"
    )
    assert_one_error(
        stream("check", "--config", tmp_path / "none.yaml"), "configuration file not found"
    )


def test_check_reports_cameras_that_were_changed_over_http(config: Path, tmp_path: Path) -> None:
    changes = tmp_path / "changes.json"
    CameraOverrides(changes).note("yard", CameraConfig(id="yard", url="rtsp://h/yard"))
    done = stream("check", "--config", config, "--set", f"http.changes={changes}")
    assert "changes made over HTTP: added yard (delete the file to undo them all)" in done.stdout
    assert "ok: 3 cameras" in done.stdout
    changes.write_text("{")
    options = overrides("http.enabled=true", f"http.changes={changes}")
    assert_one_error(stream("check", "--config", config, *options), "cannot be read")


def test_the_table_of_events_shows_time_and_region(tmp_path: Path) -> None:
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
def test_asking_for_a_missing_device_is_an_error(config: Path) -> None:
    assert_one_error(
        stream("run", "--config", config, "--set", "infer.device=cuda"),
        "device: cuda was asked for",
    )


def test_camera_changes_are_kept_beside_the_outbox_so_runs_do_not_share_them(
    config: Path, tmp_path: Path
) -> None:
    CameraOverrides(tmp_path / "outbox.db.cameras.json").note(
        "yard", CameraConfig(id="yard", url="rtsp://h/yard")
    )
    assert "ok: 3 cameras" in stream("check", "--config", config).stdout
    options = overrides(f"outbox.path={tmp_path / 'other.db'}")
    assert "ok: 2 cameras" in stream("check", "--config", config, *options).stdout


def test_events_can_be_followed_before_there_are_any(tmp_path: Path) -> None:
    process = subprocess.Popen(
        command("events", "--outbox", tmp_path / "o.db", "--follow", "--format", "jsonl"),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
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


def test_dead_letters_are_listed_with_their_error(tmp_path: Path) -> None:
    outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"))
    outbox.append([make_event(1), make_event(2)])
    outbox.move_to_dead_letters(2, "MessageSizeTooLargeError: too large")
    outbox.close()
    [line] = stream("events", "--outbox", tmp_path / "o.db", "--rejected").stdout.splitlines()
    listed = json.loads(line)
    assert "too large" in listed["error"]
    assert json.loads(listed["event"])["sequence"] == 2
    assert_one_error(
        stream("events", "--outbox", tmp_path / "o.db", "--group", "g"),
        "--group and --topic are for a broker",
    )


def test_a_closed_pipe_is_not_an_error(config: Path, tmp_path: Path) -> None:
    stream("run", "--config", config)
    events = shlex.join(command("events", "--outbox", tmp_path / "outbox.db", "--format", "jsonl"))
    done = subprocess.run(
        f"{events} | head -n 1",
        shell=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
    )
    assert "Traceback" not in done.stderr
