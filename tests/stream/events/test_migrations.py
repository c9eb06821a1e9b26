"""Outboxes of older and newer releases."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

import stream.events.migrations
import stream.events.recovery
from configs import OutboxError
from stream.events.config import OutboxConfig
from stream.events.outbox import Outbox
from stream.events.outbox_reader import read_dead_letters, read_events
from tests.support.databases import (
    fill_outbox,
    set_version,
    version_of,
)


def test_new_and_old_files_get_the_current_version_and_keep_their_events(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    fill_outbox(path, 3)
    assert version_of(path) == 2
    set_version(path, 0)
    assert len(read_events(path)) == 3
    assert read_dead_letters(path) == []
    assert version_of(path) == 0  # reading changes nothing
    Outbox(OutboxConfig(path=path)).close()
    assert version_of(path) == 2
    assert [stored.event.sequence for stored in read_events(path)] == [1, 2, 3]


def test_a_file_of_a_newer_release_is_refused_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    fill_outbox(path, 3)
    set_version(path, 3)
    before = path.read_bytes()
    names = {each.name for each in tmp_path.iterdir()}
    for use in (
        lambda: Outbox(OutboxConfig(path=path)),
        lambda: read_events(path),
        lambda: read_dead_letters(path),
    ):
        with pytest.raises(
            OutboxError, match=r"o\.db: the file has version 3, .* use the newer release"
        ):
            use()
    assert path.read_bytes() == before
    assert {each.name for each in tmp_path.iterdir()} - {"o.db-wal", "o.db-shm"} == names


def test_a_migration_that_stops_half_way_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "o.db"
    fill_outbox(path, 3)
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
    assert read_dead_letters(path) == []
    outbox = Outbox(OutboxConfig(path=path))
    assert len(outbox) == 3
    outbox.close()
    assert version_of(path) == 2
