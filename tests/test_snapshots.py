"""Pictures of events: written whole, bounded in number and age, and never in the way."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from configs import ConfigError
from stream.snapshots import Snapshot, SnapshotConfig, SnapshotStore, snapshot_name


def store_at(path: Path, counts: Counter[str], **settings: float) -> SnapshotStore:
    config = SnapshotConfig(enabled=True, path=path, **settings)  # type: ignore[arg-type]
    return SnapshotStore(config, on_written=lambda: counts.update(["written"]), on_lost=lambda: counts.update(["lost"]))


def picture(value: int, width: int = 320) -> np.ndarray:  # type: ignore[type-arg]
    return np.full((width * 3 // 4, width, 3), (value, 0, 0), np.uint8)


def test_a_picture_is_kept_in_its_colours_and_made_smaller(tmp_path: Path) -> None:
    counts: Counter[str] = Counter()
    store = store_at(tmp_path / "p", counts, width=160)
    store.offer(Snapshot(snapshot_name("a", "e1"), picture(200)))
    store.close()
    read = cv2.imread(str(tmp_path / "p/a/e1.jpg"))
    assert read.shape == (120, 160, 3)
    assert abs(int(read[60, 80, 2]) - 200) < 6  # OpenCV reads blue first
    assert counts == {"written": 1}


def test_the_oldest_go_when_they_are_too_many_or_too_old(tmp_path: Path) -> None:
    counts: Counter[str] = Counter()
    store = store_at(tmp_path, counts)
    for number in range(20):
        store.offer(Snapshot(snapshot_name("a", f"e{number:02}"), picture(number)))
    store.close()
    sizes = [file.stat().st_size for file in tmp_path.glob("*/*.jpg")]
    assert len(sizes) == 20
    long_ago = time.time() - 3 * 86400
    for file in tmp_path.glob("*/e0[0-4].jpg"):
        os.utime(file, (long_ago, long_ago))
    again = store_at(tmp_path, counts, keep_days=2.0, keep_megabytes=10.5 * max(sizes) / 1e6)
    again.offer(Snapshot(snapshot_name("b", "new"), picture(1)))
    again.close()
    left = sorted(file.name for file in tmp_path.glob("*/*.jpg"))
    assert "new.jpg" in left
    assert not any(name < "e05" for name in left if name != "new.jpg")
    assert 5 <= len(left) <= 11
    assert left[0] == f"e{20 - (len(left) - 1):02}.jpg"  # the newest stayed


def test_a_disk_that_takes_nothing_costs_pictures_only(tmp_path: Path) -> None:
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
