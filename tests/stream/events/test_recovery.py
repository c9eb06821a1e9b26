"""What is kept of a damaged outbox, also when its recovery fails or is killed."""

from __future__ import annotations

import contextlib
import sqlite3
import stat
from pathlib import Path
from typing import Any

import pytest

from configs import OutboxError
from stream.events.config import OutboxConfig
from stream.events.outbox import Outbox
from stream.events.outbox_reader import read_events
from tests.support.databases import (
    damage,
    damage_index,
    execute,
    fill_outbox,
    set_version,
    version_of,
)
from tests.support.factory import make_event


def test_a_damaged_outbox_is_moved_away_and_its_readable_events_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    damaged = []
    fill_outbox(path, 500)
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
    fill_outbox(path, 10)
    damage(path, slice(0, 1))
    outbox = Outbox(OutboxConfig(path=path))
    outbox.append([make_event(11)])
    assert [stored.event.sequence for stored in outbox.oldest(10)][-1] == 11
    outbox.close()


def test_a_recovery_that_fails_half_way_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "o.db"
    fill_outbox(path, 200)
    damage(path, slice(20, 21))
    connect = sqlite3.connect
    failed = []

    def small(database: Path, **options: Any) -> sqlite3.Connection:
        connection = connect(database, **options)
        if "rescued" in str(database):  # the new database has room for its tables, not for events
            connection.execute("pragma max_page_count = 15")
            failed.append(database)
        return connection

    monkeypatch.setattr(sqlite3, "connect", small)
    for _ in range(3):
        with contextlib.suppress(OutboxError):
            outbox = Outbox(OutboxConfig(path=path))
            with contextlib.suppress(OutboxError):
                outbox.oldest(1000)
            outbox.close()
    assert not list(tmp_path.glob("*.damaged-*"))
    assert failed
    assert not list(tmp_path.glob("*.rescued*"))
    monkeypatch.setattr(sqlite3, "connect", connect)
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
        damage_index(path)
        with pytest.raises(OutboxError):
            outbox.append([make_event(51, kind="updated")])
        done = list[Path]()
        rename = Path.rename

        def killed(source: Path, target: Path) -> None:
            done.append(source)
            if len(done) == renamings:
                raise KeyboardInterrupt
            rename(source, target)

        with monkeypatch.context() as patched:
            patched.setattr(Path, "rename", killed)
            patched.setattr(Path, "replace", killed)
            with pytest.raises(KeyboardInterrupt):
                outbox.oldest(1)
        assert len(done) == renamings
    outbox.close()
    again = Outbox(OutboxConfig(path=path))
    assert len(again) == 50
    assert again.next_sequence("cam") == 51
    assert not (tmp_path / "o.db.rescued").exists()
    again.close()


def test_sequences_continue_when_their_table_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    outbox = Outbox(OutboxConfig(path=path))
    outbox.append([make_event(number) for number in range(1, 8)])
    execute(path, "delete from sequences")
    damage_index(path)
    with pytest.raises(OutboxError):
        outbox.append([make_event(8, kind="updated")])
    outbox.oldest(1)
    assert outbox.next_sequence("cam") == 8
    outbox.close()
    again = Outbox(OutboxConfig(path=path))
    assert [event.sequence for event in again.close_open_events()] == list(range(8, 15))
    again.close()


def test_a_damaged_file_of_a_newer_release_is_refused_and_not_recovered(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    fill_outbox(path, 500)
    set_version(path, 3)
    damage(path, slice(1, None))
    with pytest.raises(OutboxError, match="use the newer release"):
        Outbox(OutboxConfig(path=path))
    assert not list(tmp_path.glob("*.damaged-*"))
    assert not (tmp_path / "o.db.rescued").exists()


def test_what_is_recovered_has_the_current_version(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    fill_outbox(path, 10)
    set_version(path, 0)
    damage(path, slice(0, 1))
    Outbox(OutboxConfig(path=path)).close()
    assert version_of(path) == 2
    assert len(list(tmp_path.glob("o.db.damaged-*"))) >= 1


def test_what_version_0_1_0_left_of_a_recovery_is_finished_or_cleaned_up(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    fill_outbox(tmp_path / "new.db", 10)
    fill_outbox(path, 3)
    damage(path, slice(0, 1))
    (tmp_path / "new.db").rename(tmp_path / "o.db.rescued")
    (tmp_path / "o.db.rescuing").write_bytes(b"half a database")
    outbox = Outbox(OutboxConfig(path=path))
    assert len(outbox) == 10
    assert not (tmp_path / "o.db.rescued").exists()
    outbox.close()
    damage(path, slice(0, 1))
    Outbox(OutboxConfig(path=path)).close()
    assert not (tmp_path / "o.db.rescuing").exists()


def test_a_recovered_outbox_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    fill_outbox(path, 10)
    path.chmod(0o600)
    damage(path, slice(0, 1))
    Outbox(OutboxConfig(path=path)).close()
    assert list(tmp_path.glob("o.db.damaged-*"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
