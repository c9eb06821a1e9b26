"""What follows a camera when a device is added or removed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stream.config import StreamConfig
from stream.events.config import OutboxConfig
from stream.events.outbox import Outbox, read_events
from stream.local.dealing import deal, owner_of
from stream.local.moves import move_state
from tests.support.factory import make_event

CAMERAS = [f"c{number}" for number in range(12)]


def move(tmp_path: Path, devices: int) -> None:
    cameras = [{"id": name, "url": "push:"} for name in CAMERAS]
    fields = {"cameras": cameras, "outbox": {"path": tmp_path / "outbox.db"}}
    workers = deal(StreamConfig.model_validate(fields), ("cpu",) * devices)
    move_state(workers, tmp_path / "outbox.db", None)


def outbox(tmp_path: Path, index: int) -> Outbox:
    return Outbox(OutboxConfig(path=tmp_path / f"outbox-{index}.db"))


def changes(tmp_path: Path, index: int) -> dict[str, object]:
    text = (tmp_path / f"outbox-{index}.db.cameras.json").read_text()
    tree: dict[str, object] = json.loads(text)
    return tree


def test_numbers_go_on_at_the_new_worker_and_open_actions_end_at_the_old_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for index in range(2):
        box = outbox(tmp_path, index)
        mine = [name for name in CAMERAS if owner_of(name, 2) == index]
        box.append([make_event(7, camera=name, kind="started") for name in mine])
        box.close()
    move(tmp_path, 3)
    moved = [name for name in CAMERAS if owner_of(name, 3) == 2]
    assert moved
    box = outbox(tmp_path, 2)
    assert [box.next_sequence(name) for name in moved] == [9] * len(moved)
    box.append([make_event(9, camera=name, kind="ended") for name in moved])
    box.close()
    ended = {
        (stored.event.camera_id, stored.event.sequence, stored.event.reason)
        for index in range(2)
        for stored in read_events(tmp_path / f"outbox-{index}.db")
        if stored.event.kind == "ended"
    }
    assert {(name, 8, "crash") for name in moved} <= ended
    caplog.clear()
    move(tmp_path, 2)  # and back
    for name in moved:
        box = outbox(tmp_path, owner_of(name, 2))
        assert box.next_sequence(name) == 10
        box.close()
    assert f"outbox-2.db of a worker that no longer runs has {len(moved)} events" in caplog.text


def test_changes_follow_their_cameras(tmp_path: Path) -> None:
    everything: dict[str, object] = {}
    for index in range(2):
        mine = {
            name: {"id": name, "url": "push:"} for name in CAMERAS if owner_of(name, 2) == index
        }
        everything |= mine
        tree = {"cameras": mine, "paused": list(mine)[:1]}
        (tmp_path / f"outbox-{index}.db.cameras.json").write_text(json.dumps(tree))
    paused = {name for index in range(2) for name in changes(tmp_path, index)["paused"]}  # type: ignore[attr-defined]
    move(tmp_path, 3)
    found: dict[str, object] = {}
    still: set[str] = set()
    for index in range(3):
        tree = changes(tmp_path, index)
        assert all(owner_of(name, 3) == index for name in tree["cameras"])  # type: ignore[attr-defined]
        found |= tree["cameras"]  # type: ignore[operator]
        still |= set(tree["paused"])  # type: ignore[arg-type]
    assert (found, still) == (everything, paused)
