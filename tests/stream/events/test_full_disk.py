"""A disk that pictures fill: they give way, and events are stored. On a real small file system."""

import contextlib
import os
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from configs import OutboxError
from stream.events import disk_room
from stream.events.config import OutboxConfig, SnapshotConfig
from stream.events.outbox import Outbox
from stream.events.outbox_reader import read_events
from stream.events.recovery import finish_recovery
from stream.events.snapshots import Snapshot, SnapshotStore, snapshot_name
from tests.support.disks import small_file_system
from tests.support.factory import make_event


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    with small_file_system(tmp_path / "disk", megabytes=8) as folder:
        yield folder


def name(number: int) -> str:
    return snapshot_name("a", str(uuid.UUID(int=number)))


def noise(seed: int) -> np.ndarray:  # type: ignore[type-arg]
    """A picture of about 140 kB as a JPEG."""
    return np.random.default_rng(seed).integers(0, 256, (360, 480, 3), np.uint8)


@contextlib.contextmanager
def running_store(path: Path, counts: Counter[str], reserve: float) -> Iterator[SnapshotStore]:
    store = SnapshotStore(
        SnapshotConfig(enabled=True, path=path, min_free_megabytes=reserve),
        on_written=lambda: counts.update(["written"]),
        on_lost=lambda: counts.update(["lost"]),
        on_deleted=lambda: counts.update(["deleted"]),
    )
    store.start()
    try:
        yield store
    finally:
        store.close()


def free(folder: Path) -> int:
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def fill_with_pictures(folder: Path, *, count: int = 100) -> None:
    """Fill the disk as an earlier release did."""
    (folder / "a").mkdir(parents=True)
    with contextlib.suppress(OSError):
        for number in range(count):
            (folder / name(number)).write_bytes(bytes(140_000))


def test_many_pictures_leave_the_reserve_free_and_events_are_stored(small_disk: Path) -> None:
    counts: Counter[str] = Counter()
    outbox = Outbox(OutboxConfig(path=small_disk / "outbox.db"))
    with running_store(small_disk / "pictures", counts, 4.0) as store:
        for number in range(60):
            while not store.offer(Snapshot(name(number), noise(number))):
                counts["lost"] -= 1  # its queue is full; try again
        store.close()
    assert free(small_disk) >= 4e6
    assert counts["written"] == 60
    left = sorted(file.name for file in (small_disk / "pictures/a").iterdir())
    assert counts["deleted"] == 60 - len(left) > 0
    assert left == [Path(name(number)).name for number in range(60 - len(left), 60)]
    outbox.append([make_event(number) for number in range(1, 501)])
    outbox.close()
    assert len(read_events(small_disk / "outbox.db")) == 500


def test_pictures_of_an_earlier_run_that_fill_the_disk_make_room_at_the_start(
    small_disk: Path,
) -> None:
    counts: Counter[str] = Counter()
    fill_with_pictures(small_disk / "pictures")
    with pytest.raises(OutboxError):
        Outbox(OutboxConfig(path=small_disk / "outbox.db"))
    with running_store(small_disk / "pictures", counts, 2.0):
        outbox = Outbox(OutboxConfig(path=small_disk / "outbox.db"))
        outbox.append([make_event(1)])
        outbox.close()
    assert counts["deleted"] > 0


def test_if_others_fill_the_disk_all_pictures_give_way_and_new_ones_are_not_stored(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    counts: Counter[str] = Counter()
    with running_store(small_disk / "pictures", counts, 4.0) as store:
        store.offer(Snapshot(name(1), noise(1)))
        store.close()
        (small_disk / "other").write_bytes(bytes(5_000_000))
        store.delete_old()
    assert counts == {"written": 1, "deleted": 1}
    with running_store(small_disk / "pictures", counts, 4.0) as store:
        for number in range(3):
            store.offer(Snapshot(name(number), noise(1)))
    assert counts["lost"] == 3
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 2, warnings
    assert all("snapshots.min_free_megabytes (4)" in warning for warning in warnings)


def test_without_a_reserve_or_with_room_nothing_is_deleted(tmp_path: Path) -> None:
    for reserve in (0.0, 0.001):
        counts: Counter[str] = Counter()
        with running_store(tmp_path, counts, reserve) as store:
            store.offer(Snapshot(name(1), noise(1)))
        assert counts == {"written": 1}
    assert disk_room.has_room(tmp_path, 0, 1.0)
    assert not disk_room.has_room(tmp_path, 0, 1e12)
    assert disk_room.has_room(tmp_path, 10**18, 0)


def test_only_the_latest_damaged_databases_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    for number in range(8):
        damaged = tmp_path / f"outbox.db.damaged-2026010{number}T000000-000"
        for ending in ("", "-wal", "-shm"):
            damaged.with_name(damaged.name + ending).write_bytes(b"x")
    other = tmp_path / "outbox.db.backup"
    other.write_bytes(b"x")
    path.write_bytes(b"damaged")
    path.with_name("outbox.db.rescued").write_bytes(b"recovered")
    moved_to = finish_recovery(path)
    assert moved_to is not None
    kept = sorted(file.name for file in tmp_path.glob("outbox.db.damaged-*"))
    names = {each.removesuffix("-wal").removesuffix("-shm") for each in kept}
    assert names == {moved_to.name} | {
        f"outbox.db.damaged-2026010{number}T000000-000" for number in (4, 5, 6, 7)
    }
    assert other.exists()
    assert path.read_bytes() == b"recovered"
