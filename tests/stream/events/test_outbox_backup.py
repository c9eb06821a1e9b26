"""Copies of an outbox while another process writes to it, and what an outbox says of itself."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import configs.files
from configs import OutboxError
from stream.events.config import KafkaConfig, OutboxConfig
from stream.events.outbox import Outbox
from stream.events.outbox_backup import back_up, describe
from stream.events.outbox_reader import read_dead_letters, read_events
from stream.outbox_command import drain_outbox
from tests import ROOT
from tests.support.broker import free_port
from tests.support.command_line import assert_one_error, stream
from tests.support.databases import damage, execute, fill_outbox, set_version, version_of
from tests.support.factory import make_event
from tests.support.permissions import mode_of, umask

# Stores two events in each transaction until its standard input ends.
WRITER = """
import pathlib, sys, threading
from stream.events.config import OutboxConfig
from stream.events.outbox import Outbox
from tests.support.factory import make_event
outbox = Outbox(OutboxConfig(path=pathlib.Path(sys.argv[1])))
over = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
number = 0
while not over.is_set():
    outbox.append([make_event(number + 1), make_event(number + 2, kind="ended", event=number + 1)])
    number += 2
    if number == 2:
        print("writing", flush=True)
print(number)
"""


@contextlib.contextmanager
def writer(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that writes to an outbox as fast as it can, as a pipeline does."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, path],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        yield process


def contents(path: Path) -> tuple[int, int, int]:
    """Return the number of events, the last sequence number and the number of open actions."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        [row] = database.execute(
            "select (select count(*) from events), (select max(last) from sequences),"
            " (select count(*) from open_events)"
        )
    return row


def test_copies_are_whole_while_another_process_writes(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    found = []
    with writer(path) as process:
        for number in range(8):
            copy = tmp_path / f"copy-{number}.db"
            found.append(back_up(path, copy))
            count, last, open_actions = contents(copy)
            # A transaction stores two events, the last number, and no action that stays open.
            assert (count, last, open_actions) == (found[-1], found[-1], 0)
            assert count % 2 == 0
            assert mode_of(copy) == 0o600
        assert describe(path).is_used
        written, _ = process.communicate()
    assert found == sorted(set(found)), "the process did not write between two copies"
    assert 0 < found[0] < int(written)
    assert [stored.event.sequence for stored in read_events(path)] == [*range(1, int(written) + 1)]
    left = {each.name for each in tmp_path.iterdir() if each.name.startswith("copy")}
    assert left == {f"copy-{number}.db" for number in range(8)}


def test_a_plain_copy_of_the_file_lacks_events(tmp_path: Path) -> None:
    """Why the command exists: events lie in the write-ahead log first."""
    outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"))
    outbox.append([make_event(number) for number in range(1, 6)])
    shutil.copyfile(tmp_path / "o.db", tmp_path / "plain.db")
    assert back_up(tmp_path / "o.db", tmp_path / "copy.db") == 5
    outbox.close()
    with pytest.raises(OutboxError, match="no such table"):
        read_events(tmp_path / "plain.db")
    assert len(read_events(tmp_path / "copy.db")) == 5


def test_a_pipeline_continues_with_a_copy(tmp_path: Path) -> None:
    fill_outbox(tmp_path / "o.db", 3)
    with umask(0):
        back_up(tmp_path / "o.db", tmp_path / "copies" / "o.db")
    assert mode_of(tmp_path / "copies" / "o.db") == 0o600
    assert mode_of(tmp_path / "copies") == 0o700
    outbox = Outbox(OutboxConfig(path=tmp_path / "copies" / "o.db"))
    assert len(outbox) == 3
    assert outbox.next_sequence("cam") == 4
    assert [event.reason for event in outbox.close_open_events()] == ["crash"] * 3
    outbox.close()


def test_a_restored_copy_sends_events_again_with_the_same_numbers(tmp_path: Path) -> None:
    """At least once: a reader knows an event that it has by its id, kind and number."""
    fill_outbox(tmp_path / "o.db", 2)
    back_up(tmp_path / "o.db", tmp_path / "copy.db")
    outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"))
    first = [stored.event for stored in outbox.oldest(10)]
    outbox.remove([stored.id for stored in outbox.oldest(10)])  # the broker has them
    outbox.append([make_event(3)])
    outbox.close()
    restored = Outbox(OutboxConfig(path=tmp_path / "copy.db"))
    assert [stored.event for stored in restored.oldest(10)] == first
    assert restored.next_sequence("cam") == 3  # a number that was given before
    restored.close()


def test_nothing_is_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "o.db"
    fill_outbox(path, 2)
    taken = tmp_path / "taken.db"
    taken.write_text("mine")
    dangling = tmp_path / "link.db"
    dangling.symlink_to(tmp_path / "nowhere")
    for copy in (taken, dangling, path, tmp_path):
        with pytest.raises(OutboxError, match="exists, and copies replace nothing"):
            back_up(path, copy)
    # It appears while the copy is written, on file systems with and without hard links.
    for link in (os.link, refuse_link):
        monkeypatch.setattr(configs.files.os, "link", link)
        late = tmp_path / f"late-{link.__name__}.db"
        appear = functools.partial(late.write_text, "mine")
        monkeypatch.setattr("stream.events.outbox_backup._copy", lambda *_, appear=appear: appear())
        with pytest.raises(OutboxError, match="exists, and copies replace nothing"):
            back_up(path, late)
        assert late.read_text() == "mine"
    assert taken.read_text() == "mine"
    assert not [each for each in tmp_path.iterdir() if each.name.endswith(".part")]


def refuse_link(*_: object) -> None:
    """Stand for a file system without hard links."""
    raise PermissionError(1, "Operation not permitted")


def test_copies_work_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_outbox(tmp_path / "o.db", 2)
    monkeypatch.setattr(configs.files.os, "link", refuse_link)
    assert back_up(tmp_path / "o.db", tmp_path / "copy.db") == 2
    assert len(read_events(tmp_path / "copy.db")) == 2


def test_what_is_not_a_sound_outbox_is_not_copied(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    fill_outbox(path, 200)
    damage(path, slice(-3, None))
    other = tmp_path / "other.db"
    execute(other, "create table t (x)")
    (tmp_path / "text.db").write_text("no database at all, " * 100)
    for name, says in (
        ("o.db", "is damaged|malformed"),
        ("other.db", "no such table"),
        ("text.db", "not a database"),
        ("gone.db", "outbox not found"),
    ):
        with pytest.raises(OutboxError, match=says):
            back_up(tmp_path / name, tmp_path / "copy.db")
    with pytest.raises(OutboxError, match=r"other\.db is not a readable outbox"):
        describe(other)
    assert not list(tmp_path.glob("copy*"))


def test_an_outbox_that_another_program_locks_is_not_waited_for_forever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream.events.outbox_backup._LOCK_SECONDS", 0.2)
    path = tmp_path / "o.db"
    fill_outbox(path, 2)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("pragma journal_mode = delete")
        other.execute("begin exclusive")
        started_at = time.monotonic()
        with pytest.raises(OutboxError, match="locked"):
            back_up(path, tmp_path / "copy.db")
    assert time.monotonic() - started_at < 5
    assert not list(tmp_path.glob("copy*"))


def test_an_outbox_says_what_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    outbox = Outbox(OutboxConfig(path=path))
    outbox.append([make_event(1, camera="a"), make_event(1, camera="b", kind="ended")])
    outbox.append([make_event(2, camera="a", kind="ended", event=1)])
    outbox.move_to_dead_letters(2, "too large")
    info = describe(path)
    assert (info.waiting, info.open_actions, info.dead_letters, info.cameras) == (2, 0, 1, 2)
    assert (info.version, info.current_version) == (2, 2)
    assert info.is_used
    assert info.size_bytes == path.stat().st_size + (tmp_path / "o.db-wal").stat().st_size
    assert info.oldest_seconds is not None
    assert 0 <= info.oldest_seconds < 60
    outbox.remove([1, 3])
    outbox.close()
    info = describe(path)
    assert (info.waiting, info.oldest_at, info.oldest_seconds) == (0, None, None)
    assert not info.is_used
    assert len(read_dead_letters(path)) == 1


def test_the_commands(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    fill_outbox(path, 3)
    set_version(path, 0)  # as a release before versions wrote it
    done = stream("outbox", "info", path)
    assert done.returncode == 0, done.stderr
    lines = dict(line.split("  ", 1) for line in done.stdout.splitlines()[2:])
    assert {name: value.strip() for name, value in lines.items()}.items() >= {
        "version": "0 (this release writes 2)",
        "waiting events": "3",
        "in use": "no",
    }.items()
    done = stream("outbox", "backup", path, "--to", tmp_path / "copy.db")
    assert (done.returncode, done.stdout) == (0, f"copied 3 events to {tmp_path / 'copy.db'}\n")
    assert (version_of(path), version_of(tmp_path / "copy.db")) == (0, 0)
    done = stream("outbox", "info", tmp_path / "copy.db", "--json")
    assert json.loads(done.stdout)["waiting"] == 3
    assert_one_error(
        stream("outbox", "backup", path, "--to", tmp_path / "copy.db"), "copies replace nothing"
    )


def test_a_file_of_a_newer_release_is_refused_in_one_sentence(tmp_path: Path) -> None:
    """After a downgrade: no command changes the file, and each says what to do."""
    path = tmp_path / "o.db"
    fill_outbox(path, 3)
    set_version(path, 3)
    before = path.read_bytes()
    kafka = KafkaConfig(bootstrap=(f"127.0.0.1:{free_port()}",))
    for use in (
        lambda: describe(path),
        lambda: back_up(path, tmp_path / "copy.db"),
        lambda: drain_outbox(path, kafka, stop=threading.Event(), max_seconds=1),
    ):
        with pytest.raises(OutboxError, match="use the newer release that wrote it"):
            use()
    says = "the file has version 3, this release reads versions 0 to 2; use the newer release"
    assert_one_error(stream("outbox", "info", path), says)
    assert path.read_bytes() == before
    assert not list(tmp_path.glob("copy*"))
