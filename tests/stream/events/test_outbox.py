"""The outbox: order, bounds, dead letters, locks and what a crash leaves behind."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from configs import OutboxError
from stream.events.config import OutboxConfig
from stream.events.outbox import Outbox
from stream.events.outbox_reader import read_dead_letters, read_events
from tests import ROOT
from tests.support.databases import (
    execute,
    fill_disk,
    free_disk,
    watched_connections,
)
from tests.support.factory import make_event
from tests.support.schema import check_event


def test_events_come_back_in_order_and_stay_until_removed(tmp_path: Path) -> None:
    path = tmp_path / "deep/er/outbox.db"
    outbox = Outbox(OutboxConfig(path=path))
    events = [make_event(number) for number in range(1, 6)]
    outbox.append(events[:2])
    outbox.append(events[2:])
    outbox.close()
    again = Outbox(OutboxConfig(path=path))
    stored = again.oldest(3)
    assert [item.event for item in stored] == events[:3]
    again.remove([item.id for item in stored])
    assert [item.event for item in again.oldest(10)] == events[3:]
    assert again.oldest(10, after_id=again.oldest(1)[0].id) == again.oldest(10)[1:]
    assert len(again) == 2
    assert again.oldest_age_seconds() >= 0
    assert again.next_sequence("cam") == 6
    assert again.next_sequence("other") == 1
    again.close()


def test_the_file_is_plain_sqlite_that_others_can_read(tmp_path: Path) -> None:
    outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"))
    outbox.append([make_event(1)])
    with sqlite3.connect(tmp_path / "o.db") as database:
        assert database.execute("pragma journal_mode").fetchone() == ("wal",)
        (payload,) = database.execute("select payload from events").fetchone()
    database.close()
    check_event(payload)
    assert [item.event for item in read_events(tmp_path / "o.db")] == [make_event(1)]
    outbox.close()


def test_a_full_outbox_drops_updates_first(tmp_path: Path) -> None:
    dropped: list[str] = []
    outbox = Outbox(OutboxConfig(path=tmp_path / "o.db", max_events=10), dropped.append)
    kinds = ["started", "updated", "updated", "ended"] * 3
    outbox.append([make_event(number, kind=kind) for number, kind in enumerate(kinds, 1)])
    assert dropped == ["updated", "updated"]
    outbox.append([make_event(20 + number) for number in range(6)])
    assert dropped == ["updated"] * 6 + ["started", "ended"]
    assert len(outbox) == 10
    outbox.close()


def test_events_left_open_by_a_dead_process_are_ended_once(tmp_path: Path) -> None:
    """A real process, killed with SIGKILL between `started` and `ended`."""
    path = tmp_path / "o.db"
    script = """
import sys, time
from pathlib import Path
from stream.events.config import OutboxConfig
from stream.events.outbox import Outbox
from tests.support.factory import make_event

outbox = Outbox(OutboxConfig(path=Path(sys.argv[1])))
outbox.append([make_event(1), make_event(2, event=1, kind="ended"), make_event(3)])
print("stored", flush=True)
time.sleep(60)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, cwd=ROOT
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"stored\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    outbox = Outbox(OutboxConfig(path=path))
    (closed,) = outbox.close_open_events()
    assert (closed.kind, closed.reason, closed.event_id, closed.sequence) == (
        "ended",
        "crash",
        make_event(3).event_id,
        4,
    )
    check_event(closed.to_json())
    # It lasted at least until its last event was produced, 3 s after its start.
    assert (closed.ended_at, closed.pts_end_seconds) == (make_event(3).produced_at, 8.0)
    assert outbox.close_open_events() == []
    assert outbox.next_sequence("cam") == 5
    assert [item.event.kind for item in outbox.oldest(10)] == [
        "started",
        "ended",
        "started",
        "ended",
    ]
    outbox.close()


def test_an_open_event_of_a_camera_with_a_fast_clock_does_not_end_before_it_started(
    tmp_path: Path,
) -> None:
    outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"))
    outbox.append([dataclasses.replace(make_event(1), started_at="2026-01-02T03:04:14.000Z")])
    (closed,) = outbox.close_open_events()
    assert (closed.ended_at, closed.pts_end_seconds) == (
        "2026-01-02T03:04:14.000Z",
        closed.pts_start_seconds,
    )
    outbox.close()


def test_a_full_disk_is_a_clear_error_and_loses_nothing_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = watched_connections(monkeypatch)
    outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"))
    outbox.append([make_event(1)])
    fill_disk(opened[-1])
    many = [make_event(number) for number in range(2, 500)]
    with pytest.raises(
        OutboxError, match=r"o\.db: database or disk is full; check that the disk has room"
    ):
        outbox.append(many)
    assert [item.event for item in outbox.oldest(9)] == [make_event(1)]
    free_disk(opened[-1])
    outbox.append(many)
    assert len(outbox) == 499
    outbox.close()


def test_a_file_that_is_not_an_outbox_is_named_in_the_error(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("certainly not a database, but long enough to be looked at" * 40)
    for _ in range(2):  # somebody's file is never taken for ours, however often it is tried
        with pytest.raises(
            OutboxError, match=r"x\.db exists and is not a readable outbox; name another file"
        ):
            Outbox(OutboxConfig(path=tmp_path / "x.db"))
    assert [path.name for path in tmp_path.iterdir()] == ["x.db"]
    with pytest.raises(OutboxError, match=r"x\.db"):
        read_events(tmp_path / "x.db")
    with pytest.raises(OutboxError, match="not found"):
        read_events(tmp_path / "none.db")
    if os.geteuid() != 0:
        with pytest.raises(OutboxError):
            Outbox(OutboxConfig(path=Path("/proc/nowhere/o.db")))


def test_two_processes_cannot_share_an_outbox(tmp_path: Path) -> None:
    outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"))
    with pytest.raises(OutboxError, match="another process is using it"):
        Outbox(OutboxConfig(path=tmp_path / "o.db"))
    outbox.close()
    Outbox(OutboxConfig(path=tmp_path / "o.db")).close()


def test_a_start_waits_for_another_programs_lock(tmp_path: Path) -> None:
    outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"))
    outbox.append([make_event(1)])
    outbox.close()
    with contextlib.closing(
        sqlite3.connect(tmp_path / "o.db", isolation_level=None, check_same_thread=False)
    ) as foreign:
        foreign.execute("begin immediate")
        threading.Timer(1.0, lambda: foreign.execute("rollback")).start()
        outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"))
        assert [event.kind for event in outbox.close_open_events()] == ["ended"]
    with contextlib.closing(sqlite3.connect(tmp_path / "o.db", isolation_level=None)) as foreign:
        foreign.execute("begin immediate")
        started_at = time.monotonic()
        with pytest.raises(OutboxError, match="locked"):
            outbox.append([make_event(3)])
        assert time.monotonic() - started_at < 5  # while cameras run nobody waits for long
    outbox.close()


def test_reading_the_age_does_not_wait_for_a_blocked_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = watched_connections(monkeypatch)
    outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"))
    assert outbox.oldest_age_seconds() == 0
    outbox.append([make_event(1)])
    assert 0 < outbox.oldest_age_seconds() < 60
    is_blocked = threading.Event()
    release = threading.Event()

    def block(statement: str) -> None:
        is_blocked.set()
        release.wait(30)

    opened[-1].set_trace_callback(block)
    writer = threading.Thread(target=outbox.append, args=([make_event(2)],))
    writer.start()
    assert is_blocked.wait(10)
    started_at = time.monotonic()
    assert 0 < outbox.oldest_age_seconds() < 60
    assert time.monotonic() - started_at < 10
    assert writer.is_alive()
    release.set()
    writer.join(10)
    assert len(outbox) == 2
    outbox.close()


def test_threads_can_share_an_outbox(tmp_path: Path) -> None:
    outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"))

    def write(camera: str) -> None:
        for number in range(1, 21):
            outbox.append([make_event(number, camera=camera)])

    threads = [threading.Thread(target=write, args=(f"c{index}",)) for index in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        outbox.oldest(10)
        time.sleep(0.005)  # leave the lock to the writers now and then
    for camera in range(4):
        numbers = [
            item.event.sequence
            for item in outbox.oldest(100)
            if item.event.camera_id == f"c{camera}"
        ]
        assert numbers == list(range(1, 21))
    outbox.close()


def test_a_refused_event_becomes_a_dead_letter_with_its_error(tmp_path: Path) -> None:
    outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"))
    outbox.append([make_event(1), make_event(2), make_event(3)])
    execute(tmp_path / "o.db", "update events set payload = '{}' where id = 1")
    assert [stored.id for stored in outbox.oldest(10)] == [2, 3]  # the unreadable one stops nobody
    outbox.move_to_dead_letters(2, "MessageSizeTooLargeError: too long")
    assert [stored.id for stored in outbox.oldest(10)] == [3]
    assert len(outbox) == 1
    outbox.close()
    dead_letters = read_dead_letters(tmp_path / "o.db")
    assert dead_letters[0][0] == "{}"
    says = "MessageSizeTooLargeError: too long"
    assert dead_letters[1] == (make_event(2).to_json(), says, "kafka")


def test_an_unreadable_open_event_does_not_prevent_a_start(tmp_path: Path) -> None:
    outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"))
    outbox.append([make_event(1), make_event(2)])
    execute(tmp_path / "o.db", "update open_events set payload = x'ff00' where rowid = 1")
    assert [event.reason for event in outbox.close_open_events()] == ["crash"]
    assert outbox.close_open_events() == []
    outbox.close()


def test_a_payload_that_is_not_text_becomes_a_dead_letter(tmp_path: Path) -> None:
    outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"))
    outbox.append([make_event(1), make_event(2)])
    execute(tmp_path / "o.db", "update events set payload = cast(x'7bff' as text) where id = 1")
    assert [stored.id for stored in read_events(tmp_path / "o.db")] == [2]
    assert [stored.id for stored in outbox.oldest(10)] == [2]
    assert len(read_dead_letters(tmp_path / "o.db")) == 1
    outbox.close()
