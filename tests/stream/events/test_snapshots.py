"""Pictures of events: written whole, bounded in number and age, and never in the way."""

from __future__ import annotations

import os
import time
import uuid
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from configs import ConfigError
from stream.events.config import SnapshotConfig
from stream.events.snapshots import Snapshot, SnapshotStore, snapshot_name


def store_at(path: Path, counts: Counter[str], **settings: float) -> SnapshotStore:
    config = SnapshotConfig(enabled=True, path=path, **settings)  # type: ignore[arg-type]
    store = SnapshotStore(
        config,
        on_written=lambda: counts.update(["written"]),
        on_lost=lambda: counts.update(["lost"]),
    )
    store.start()
    return store


def picture(value: int, width: int = 320) -> np.ndarray:  # type: ignore[type-arg]
    return np.full((width * 3 // 4, width, 3), (value, 0, 0), np.uint8)


def event(number: int) -> str:
    return str(uuid.UUID(int=number))


def test_a_picture_is_kept_in_its_colours_and_made_smaller(tmp_path: Path) -> None:
    counts: Counter[str] = Counter()
    store = store_at(tmp_path / "p", counts, width=160)
    store.offer(Snapshot(snapshot_name("a", "e1"), picture(200)))
    store.close()
    read = cv2.imread(str(tmp_path / "p/a/e1.jpg"))
    assert read.shape == (120, 160, 3)
    assert abs(int(read[60, 80, 2]) - 200) < 6  # OpenCV reads blue first
    assert counts == {"written": 1}


def test_the_oldest_pictures_are_deleted_when_too_many_or_too_old(tmp_path: Path) -> None:
    counts: Counter[str] = Counter()
    store = store_at(tmp_path, counts)
    for number in range(20):
        store.offer(Snapshot(snapshot_name("a", event(number)), picture(number)))
    store.close()
    sizes = [file.stat().st_size for file in tmp_path.glob("*/*.jpg")]
    assert len(sizes) == 20
    long_ago = time.time() - 3 * 86400
    for number in range(5):
        os.utime(tmp_path / "a" / f"{event(number)}.jpg", (long_ago, long_ago))
    again = store_at(tmp_path, counts, keep_days=2.0, keep_megabytes=10.5 * max(sizes) / 1e6)
    again.offer(Snapshot(snapshot_name("b", "new"), picture(1)))
    again.close()
    left = sorted(file.name for file in tmp_path.glob("*/*.jpg"))
    assert "new.jpg" in left
    assert not any(name < f"{event(5)}.jpg" for name in left if name != "new.jpg")
    assert 5 <= len(left) <= 11
    assert left[0] == f"{event(20 - (len(left) - 1))}.jpg"  # the newest stayed


def test_a_disk_that_cannot_be_written_loses_only_pictures(tmp_path: Path) -> None:
    counts: Counter[str] = Counter()
    store = store_at(tmp_path / "p", counts)
    (tmp_path / "p/a").write_text("not a folder")
    store.offer(Snapshot(snapshot_name("a", "e"), picture(1)))
    store.offer(Snapshot(snapshot_name("b", "e"), picture(1)))
    store.close()
    assert counts == {"lost": 1, "written": 1}


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"snapshots\.path: cannot write to .*file/p"):
        store_at(tmp_path / "file/p", Counter())


def test_files_of_other_programs_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday").mkdir()
    long_ago = time.time() - 1000 * 86400
    others = [tmp_path / "holiday" / name for name in ("beach.jpg", "download.part", "beach.png")]
    for file in others:
        file.write_bytes(b"x" * 10_000)
        os.utime(file, (long_ago, long_ago))
    store = store_at(tmp_path, Counter(), keep_megabytes=0.001)
    for number in range(3):
        store.offer(Snapshot(snapshot_name("a", event(number)), picture(number)))
    store.close()
    assert all(file.exists() for file in others)
    assert len(list(tmp_path.glob("a/*.jpg"))) < 3


def test_a_clock_that_was_ahead_neither_keeps_pictures_for_ever_nor_deletes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: Counter[str] = Counter()
    (tmp_path / "a").mkdir()
    ahead = tmp_path / "a" / f"{event(0)}.jpg"
    ahead.write_bytes(b"x")
    os.utime(ahead, (time.time() + 1000 * 86400,) * 2)
    store = store_at(tmp_path, counts, keep_days=1.0)
    monkeypatch.setattr(time, "time", lambda: 4e9)
    store.offer(Snapshot(snapshot_name("a", event(1)), picture(1)))
    store.close()
    assert len(list(tmp_path.glob("a/*.jpg"))) == 2
    started_at = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: started_at + 2 * 86400)
    store.delete_old()
    assert list(tmp_path.glob("*/*.jpg")) == []


def test_what_a_killed_process_left_half_written_is_removed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    ours = [tmp_path / "a" / f"{event(1)}.part", tmp_path / "a" / f"{event(2)}.jpg.part"]
    others = [tmp_path / "a" / f"{event(3)}.edited.jpg", tmp_path / "a" / "b.jpg.part"]
    for file in ours + others:
        file.write_bytes(b"x" * 10_000)
    store = store_at(tmp_path, Counter(), keep_megabytes=0.001)
    store.offer(Snapshot(snapshot_name("a", event(4)), picture(1)))
    store.close()
    assert not any(file.exists() for file in ours)
    assert all(file.exists() for file in others)


def test_a_picture_that_comes_too_fast_or_too_late_is_lost(tmp_path: Path) -> None:
    counts: Counter[str] = Counter()
    idle = SnapshotStore(
        SnapshotConfig(enabled=True, path=tmp_path), on_lost=lambda: counts.update(["lost"])
    )
    snapshot = Snapshot(snapshot_name("a", event(1)), picture(1))
    taken = [idle.offer(snapshot) for _ in range(40)]  # nobody writes: it was not started
    assert taken == [True] * 32 + [False] * 8
    idle.close()
    assert not idle.offer(snapshot)
    assert counts == {"lost": 9}


def test_a_store_without_pictures_shows_that_it_is_alive(tmp_path: Path) -> None:
    store = store_at(tmp_path, Counter())
    time.sleep(2.5)  # longer than it waits for a picture
    assert store.silent_seconds < 2
    assert store.is_alive
    store.close()
    assert not store.is_alive
