"""Events and their pictures are for the user of the pipeline only, whatever the umask."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs import OutboxError
from stream.events.config import OutboxConfig, SnapshotConfig
from stream.events.outbox import Outbox
from stream.events.outbox_reader import read_events
from stream.events.snapshots import Snapshot, SnapshotStore, snapshot_name
from tests.support.databases import damage, fill_outbox
from tests.support.factory import make_event
from tests.support.permissions import another_user, mode_of, umask


@pytest.fixture(autouse=True)
def open_umask() -> Iterator[None]:
    """Let new files have every permission that the program does not take away itself."""
    with umask(0):
        yield


def test_every_file_of_an_outbox_is_for_its_owner(tmp_path: Path) -> None:
    folder = tmp_path / "data/events"
    outbox = Outbox(OutboxConfig(path=folder / "o.db"))
    outbox.append([make_event(1)])
    found = {file.name: mode_of(file) for file in folder.iterdir()}
    assert found == dict.fromkeys(("o.db", "o.db-wal", "o.db-shm", "o.db.lock"), 0o600)
    assert (mode_of(folder), mode_of(folder.parent)) == (0o700, 0o700)
    outbox.close()


def test_an_outbox_can_be_read_by_others_at_no_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looks at all files whenever SQLite is about to run a statement."""
    seen: dict[str, int] = {}
    connect = sqlite3.connect

    def look(_statement: str) -> None:
        for file in tmp_path.glob("o.db*"):
            seen[file.name] = seen.get(file.name, 0) | mode_of(file)

    def watched(*args: Any, **options: Any) -> sqlite3.Connection:
        look("")
        connection = connect(*args, **options)
        connection.set_trace_callback(look)
        return connection

    monkeypatch.setattr(sqlite3, "connect", watched)
    outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"))
    outbox.append([make_event(1)])
    outbox.close()
    assert {"o.db", "o.db-wal"} <= set(seen)
    assert set(seen.values()) == {0o600}


def test_a_recovered_outbox_and_the_damaged_copy_are_for_their_owner(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    fill_outbox(path, 10)
    path.chmod(0o640)
    damage(path, slice(0, 1))
    Outbox(OutboxConfig(path=path)).close()
    (damaged,) = tmp_path.glob("o.db.damaged-*")
    assert mode_of(damaged) == 0o600
    assert mode_of(path) == 0o640  # somebody let the group read it


@pytest.mark.parametrize(("mode", "is_warned_of"), [(0o644, True), (0o640, False), (0o600, False)])
def test_an_outbox_that_everybody_may_read_is_warned_of_and_left_alone(
    tmp_path: Path, mode: int, is_warned_of: bool, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "o.db"
    fill_outbox(path, 1)
    path.chmod(mode)
    Outbox(OutboxConfig(path=path)).close()
    said = f"outbox {path}: every user of this machine may read the events; chmod 600 {path}"
    assert [said in message for message in caplog.messages] == [True] * is_warned_of
    assert mode_of(path) == mode


def test_a_link_to_an_outbox_that_is_missing_leads_to_a_private_file(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "o.db").symlink_to(tmp_path / "disk/events.db")
    Outbox(OutboxConfig(path=tmp_path / "o.db")).close()
    assert mode_of(tmp_path / "disk/events.db") == 0o600


def test_another_user_is_told_why_an_outbox_cannot_be_read(tmp_path: Path) -> None:
    folder = tmp_path / "events"
    Outbox(OutboxConfig(path=folder / "o.db")).close()
    for mode in (0o700, 0o755):
        folder.chmod(mode)
        with another_user(folder), pytest.raises(OutboxError, match="the user of the pipeline"):
            read_events(folder / "o.db")


def test_pictures_and_their_folders_are_for_their_owner(tmp_path: Path) -> None:
    store = SnapshotStore(SnapshotConfig(enabled=True, path=tmp_path / "new/pictures"))
    store.start()
    picture = np.zeros((64, 64, 3), np.uint8)
    assert store.offer(Snapshot(snapshot_name("a", str(uuid.UUID(int=1))), picture))
    store.close()
    (written,) = tmp_path.glob("new/pictures/a/*")
    assert mode_of(written) == 0o600
    folders = list(written.parents)[:3]
    assert [mode_of(folder) for folder in folders] == [0o700] * 3


def test_a_picture_is_not_written_through_a_link(tmp_path: Path) -> None:
    """Somebody who may write to the folder knows the names of pictures from the events."""
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    name = snapshot_name("a", str(uuid.UUID(int=1)))
    store = SnapshotStore(SnapshotConfig(enabled=True, path=tmp_path / "p"))
    (tmp_path / "p/a").mkdir()
    (tmp_path / "p" / name).symlink_to(victim)
    (tmp_path / "p" / f"{name}.part").symlink_to(victim)
    (tmp_path / "p/.writable").symlink_to(tmp_path / "planted")
    store.start()
    store.offer(Snapshot(name, np.zeros((64, 64, 3), np.uint8)))
    store.close()
    assert victim.read_text() == "untouched"
    assert not (tmp_path / "p" / name).is_symlink()
    SnapshotStore(SnapshotConfig(enabled=True, path=tmp_path / "p"))
    assert not (tmp_path / "planted").exists()
