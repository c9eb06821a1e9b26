"""What `events` prints: labels in every script, into terminals, pipes and full disks."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from pathlib import Path

import pytest

from stream.__main__ import main
from stream.config import StreamConfig
from stream.events.config import OutboxConfig
from stream.events.outbox import Outbox
from stream.events_command import EventSections
from tests import ROOT
from tests.support.command_line import command
from tests.support.factory import make_event

LABELS = ("Händeschütteln", "握手", "🤝", "[/x] [red]y")
ENCODINGS = [
    {"PYTHONIOENCODING": "ascii"},
    {"PYTHONIOENCODING": "latin-1"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"LC_ALL": "C.UTF-8", "COLUMNS": "20", "NO_COLOR": "1"},
]


@pytest.fixture
def outbox(tmp_path: Path) -> Path:
    path = tmp_path / "o.db"
    box = Outbox(OutboxConfig(path=path))
    box.append(
        [dataclasses.replace(make_event(n), action=label) for n, label in enumerate(LABELS, 1)]
    )
    box.move_to_dead_letters(4, "refused: zu groß")
    box.close()
    return path


def events(
    outbox: Path, *options: str, shell: str = "", **environment: str
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {shell}', "sh", *command("events", "--outbox", outbox, *options)],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("environment", ENCODINGS, ids=str)
def test_labels_are_shown_in_every_encoding(outbox: Path, environment: dict[str, str]) -> None:
    table = events(outbox, **environment)
    assert (table.returncode, table.stderr) == (0, b"")
    header, rule, *rows = table.stdout.decode("latin-1").splitlines()
    assert header.split()[:2] == ["started", "at"]
    assert set(rule) == {"-", " "}
    assert len(rows) == 3  # each on one line, however narrow the terminal
    lines = events(outbox, "--format", "jsonl", **environment).stdout.decode("ascii").splitlines()
    assert [json.loads(line)["action"] for line in lines] == list(LABELS[:3])
    [dead] = events(outbox, "--rejected", **environment).stdout.decode("ascii").splitlines()
    assert json.loads(dead)["error"] == "refused: zu groß"


@pytest.mark.parametrize(
    ("shell", "status"), [(">/dev/full", 2), (">&-", 0), ("2>&-", 0), ("| true", 0)]
)
@pytest.mark.parametrize("form", ["table", "jsonl"])
def test_output_that_nobody_takes_is_no_traceback(
    outbox: Path, shell: str, status: int, form: str
) -> None:
    done = events(outbox, "--format", form, shell=shell)
    assert done.returncode == status
    assert done.stderr.count(b"\n") == (status > 0)


def test_a_configuration_is_read_only_for_its_events(
    outbox: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(f"cameras: 3\nkafka:\nsource: null\noutbox: {{path: {outbox}}}\n")
    assert main(["events", "--config", str(config)]) == 0
    assert "Händeschütteln" in capsys.readouterr().out
    config.write_text("kafak: {}\n")
    assert main(["events", "--config", str(config)]) == 2
    assert "kafak: unknown setting; did you mean 'kafka'?" in capsys.readouterr().err
    assert set(EventSections.model_fields) == set(StreamConfig.model_fields)


@pytest.mark.parametrize("options", [(), ("--format", "jsonl"), ("--rejected",)])
def test_what_a_writer_put_into_an_event_cannot_change_the_terminal(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    attack = "a[/x]\x1b[2J\r\n\x7f\x9b\u202e"
    box = Outbox(OutboxConfig(path=tmp_path / "o.db"))
    box.append([dataclasses.replace(make_event(1), action=attack, camera_id=attack)])
    box.append([dataclasses.replace(make_event(2), action=attack, camera_id=attack)])
    box.move_to_dead_letters(2, attack)
    box.close()
    done = events(tmp_path / "o.db", *options)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode().split("\n")
    assert len(lines) == (2 if options else 4)
    assert "a[/x]" in lines[-2]
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("group", ["", "a\n", "a\x1b[2J"])
def test_a_group_without_a_usable_name_is_refused(
    group: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["events", "--bootstrap", "127.0.0.1:9", "--group", group]) == 2
    error = capsys.readouterr().err.removesuffix("\n")
    assert "give a name without control characters" in error
    assert error.isprintable()
