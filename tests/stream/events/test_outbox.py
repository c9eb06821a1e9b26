"""The outbox: order, bounds, what a crash leaves behind, and recovery of a damaged file."""

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

import stream.events.migrations
import stream.events.recovery
from configs import OutboxError
from stream.events.config import OutboxConfig
from stream.events.outbox import Outbox, read_events, read_rejected
from tests import ROOT
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


def test_a_full_disk_is_a_clear_error_and_loses_nothing_stored(tmp_path: Path) -> None:
    outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"))
    outbox.append([make_event(1)])
    pages = outbox._database.execute("pragma page_count").fetchone()[0]
    outbox._database.execute(f"pragma max_page_count = {pages}")
    many = [make_event(number) for number in range(2, 500)]
    with pytest.raises(
        OutboxError, match=r"o\.db: database or disk is full; check that the disk has room"
    ):
        outbox.append(many)
    assert [item.event for item in outbox.oldest(9)] == [make_event(1)]
    outbox._database.execute("pragma max_page_count = 100000")
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


def test_reading_the_age_does_not_wait_for_a_blocked_disk(tmp_path: Path) -> None:
    outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"))
    assert outbox.oldest_age_seconds() == 0
    outbox.append([make_event(1)])
    assert 0 < outbox.oldest_age_seconds() < 60
    with outbox._lock:
        assert 0 < outbox.oldest_age_seconds() < 60
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


def damage(path: Path, pages: slice) -> None:
    """Overwrite pages of a database that nobody has open."""
    data = bytearray(path.read_bytes())
    size = 4096
    for page in range(len(data) // size)[pages]:
        data[page * size : (page + 1) * size] = b"\xa5" * size
    path.write_bytes(bytes(data))


def filled(path: Path, count: int) -> None:
    outbox = Outbox(OutboxConfig(path=path))
    outbox.append([make_event(number, kind="updated") for number in range(1, count + 1)])
    outbox.close()


def test_a_damaged_outbox_is_moved_away_and_its_readable_events_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    damaged = []
    filled(path, 500)
    last = read_events(path)[-1].id
    damage(path, slice(20, 22))
    outbox = Outbox(OutboxConfig(path=path), on_damaged=lambda: damaged.append(1))
    assert damaged == [] or len(outbox) > 0
    try:
        outbox.append([make_event(501)])
        kept = outbox.oldest(1000)
    except OutboxError:  # noticed only while working: the next attempt works
        outbox.append([make_event(501)])
        kept = outbox.oldest(1000)
    assert damaged == [1]
    assert kept[-1].event.sequence == 501
    assert kept[-1].id > last  # numbers never begin again
    assert len(kept) > 300  # all but the damaged pages, from either end
    assert len(outbox) == len(kept)
    assert len(list(tmp_path.glob("o.db.damaged-*"))) >= 1
    outbox.close()


def test_an_outbox_that_lost_its_header_is_replaced(
    tmp_path: Path,
) -> None:
    path = tmp_path / "o.db"
    filled(path, 10)
    damage(path, slice(0, 1))
    outbox = Outbox(OutboxConfig(path=path))
    outbox.append([make_event(11)])
    assert [stored.event.sequence for stored in outbox.oldest(10)][-1] == 11
    outbox.close()


def test_a_refused_event_becomes_a_dead_letter_with_its_error(tmp_path: Path) -> None:
    outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"))
    outbox.append([make_event(1), make_event(2), make_event(3)])
    outbox._database.execute("update events set payload = '{}' where id = 1")
    assert [stored.id for stored in outbox.oldest(10)] == [2, 3]  # the unreadable one stops nobody
    outbox.set_aside(2, "MessageSizeTooLargeError: too long")
    assert [stored.id for stored in outbox.oldest(10)] == [3]
    assert len(outbox) == 1
    outbox.close()
    rejected = read_rejected(tmp_path / "o.db")
    assert rejected[0][0] == "{}"
    assert rejected[1] == (make_event(2).to_json(), "MessageSizeTooLargeError: too long")


def test_a_recovery_that_fails_half_way_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "o.db"
    filled(path, 200)
    damage(path, slice(10, 11))
    real = stream.events.recovery._events
    monkeypatch.setattr(
        stream.events.recovery,
        "_events",
        lambda *_: (_ for _ in ()).throw(OSError("No space left on device")),
    )
    for _ in range(3):
        with contextlib.suppress(OutboxError):
            outbox = Outbox(OutboxConfig(path=path))
            with contextlib.suppress(OutboxError):
                outbox.oldest(1000)
            outbox.close()
    assert not list(tmp_path.glob("*.damaged-*"))
    monkeypatch.setattr(stream.events.recovery, "_events", real)
    outbox = Outbox(OutboxConfig(path=path))
    with contextlib.suppress(OutboxError):
        outbox.oldest(1000)
    assert len(outbox.oldest(1000)) > 150
    outbox.close()


@pytest.mark.parametrize("renamings", range(1, 6))
def test_a_recovery_that_was_killed_is_finished_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renamings: int
) -> None:
    path = tmp_path / "o.db"
    outbox = Outbox(OutboxConfig(path=path))
    with contextlib.closing(sqlite3.connect(path)) as reader:  # keeps the write-ahead log in place
        outbox.append([make_event(number, kind="updated") for number in range(1, 51)])
        reader.execute("select count(*) from events").fetchone()
        outbox._is_damaged = True
        done = list[Path]()
        real = Path.rename

        def killed(source: Path, target: Path) -> Path:
            done.append(source)
            if len(done) == renamings:
                raise KeyboardInterrupt
            return real(source, target)

        monkeypatch.setattr(Path, "rename", killed)
        with contextlib.suppress(KeyboardInterrupt):
            outbox.oldest(1)
        monkeypatch.setattr(Path, "rename", real)
    outbox._claimed.close()
    outbox._database.close()
    again = Outbox(OutboxConfig(path=path))
    assert len(again) == 50
    assert again.next_sequence("cam") == 51
    assert not (tmp_path / "o.db.rescued").exists()
    again.close()


def test_sequences_continue_when_their_table_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    outbox = Outbox(OutboxConfig(path=path))
    outbox.append([make_event(number) for number in range(1, 8)])
    outbox._database.execute("delete from sequences")
    outbox._is_damaged = True
    outbox.oldest(1)
    assert outbox.next_sequence("cam") == 8
    outbox.close()
    again = Outbox(OutboxConfig(path=path))
    assert [event.sequence for event in again.close_open_events()] == list(range(8, 15))
    again.close()


def test_an_unreadable_open_event_does_not_prevent_a_start(tmp_path: Path) -> None:
    outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"))
    outbox.append([make_event(1), make_event(2)])
    outbox._database.execute("update open_events set payload = x'ff00' where rowid = 1")
    assert [event.reason for event in outbox.close_open_events()] == ["crash"]
    assert outbox.close_open_events() == []
    outbox.close()


def test_a_payload_that_is_not_text_becomes_a_dead_letter(tmp_path: Path) -> None:
    outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"))
    outbox.append([make_event(1), make_event(2)])
    outbox._database.execute("update events set payload = cast(x'7bff' as text) where id = 1")
    assert [stored.id for stored in read_events(tmp_path / "o.db")] == [2]
    assert [stored.id for stored in outbox.oldest(10)] == [2]
    assert len(read_rejected(tmp_path / "o.db")) == 1
    outbox.close()


def set_version(path: Path, version: int) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute(f"pragma user_version = {version}")


def version_of(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as database:
        return int(database.execute("pragma user_version").fetchone()[0])


def test_new_and_old_files_get_the_current_version_and_keep_their_events(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    filled(path, 3)
    assert version_of(path) == 1
    set_version(path, 0)
    assert len(read_events(path)) == 3
    assert read_rejected(path) == []
    assert version_of(path) == 0  # reading changes nothing
    Outbox(OutboxConfig(path=path)).close()
    assert version_of(path) == 1
    assert [stored.event.sequence for stored in read_events(path)] == [1, 2, 3]


def test_a_file_of_a_newer_release_is_refused_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    filled(path, 3)
    set_version(path, 2)
    before = path.read_bytes()
    names = {each.name for each in tmp_path.iterdir()}
    for use in (
        lambda: Outbox(OutboxConfig(path=path)),
        lambda: read_events(path),
        lambda: read_rejected(path),
    ):
        with pytest.raises(
            OutboxError, match=r"o\.db: the file has version 2, .* use the newer release"
        ):
            use()
    assert path.read_bytes() == before
    assert {each.name for each in tmp_path.iterdir()} - {"o.db-wal", "o.db-shm"} == names


def test_a_damaged_file_of_a_newer_release_is_refused_and_not_recovered(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    filled(path, 500)
    set_version(path, 2)
    damage(path, slice(1, None))
    with pytest.raises(OutboxError, match="use the newer release"):
        Outbox(OutboxConfig(path=path))
    assert not list(tmp_path.glob("*.damaged-*"))
    assert not (tmp_path / "o.db.rescued").exists()


def test_what_is_recovered_has_the_current_version(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    filled(path, 10)
    set_version(path, 0)
    damage(path, slice(0, 1))
    Outbox(OutboxConfig(path=path)).close()
    assert version_of(path) == 1
    assert len(list(tmp_path.glob("o.db.damaged-*"))) >= 1


def test_a_migration_that_stops_half_way_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "o.db"
    filled(path, 3)
    set_version(path, 0)

    def half(database: sqlite3.Connection) -> None:
        database.execute("delete from events")
        database.execute("alter table rejected rename to dead_letters")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(
            stream.events.migrations, "MIGRATIONS", (*stream.events.migrations.MIGRATIONS, half)
        )
        with pytest.raises(KeyboardInterrupt):
            Outbox(OutboxConfig(path=path))
    assert version_of(path) == 0
    assert [stored.event.sequence for stored in read_events(path)] == [1, 2, 3]
    assert read_rejected(path) == []
    outbox = Outbox(OutboxConfig(path=path))
    assert len(outbox) == 3
    outbox.close()
    assert version_of(path) == 1
