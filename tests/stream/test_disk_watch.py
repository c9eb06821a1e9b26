"""The watch of the disks: gauges, a folder that is gone, a disk that does not answer."""

from __future__ import annotations

import contextlib
import shutil
import threading
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from stream.disk_watch import DiskWatch
from stream.metrics import Metrics
from tests.support.waiting import until


def shown(metrics: Metrics) -> dict[tuple[str, str], float]:
    """What a scrape says of the disks."""
    families = text_string_to_metric_families(metrics.exposition().decode())
    return {
        (sample.name.removeprefix("cidc_disk_"), sample.labels["folder"]): sample.value
        for family in families
        if family.name.startswith("cidc_disk_")
        for sample in family.samples
    }


def test_the_gauges_are_those_of_the_disk(tmp_path: Path) -> None:
    metrics = Metrics()
    with contextlib.ExitStack() as stack:
        watch = DiskWatch.on({"outbox": tmp_path}, metrics, stack)
        assert until(lambda: bool(shown(metrics)))
        disk = shutil.disk_usage(tmp_path)  # `free` is what an ordinary user may write
        assert shown(metrics) == {
            ("free_bytes", "outbox"): pytest.approx(disk.free, rel=0.05),
            ("size_bytes", "outbox"): disk.total,
        }
    assert not watch.is_alive
    assert shown(metrics) == {}


def test_a_folder_that_cannot_be_examined_hides_only_itself(tmp_path: Path) -> None:
    metrics = Metrics()
    with contextlib.ExitStack() as stack:
        folders = {"outbox": tmp_path, "snapshots": tmp_path / "gone"}
        DiskWatch.on(folders, metrics, stack)
        assert until(lambda: bool(shown(metrics)))
        assert {folder for _, folder in shown(metrics)} == {"outbox"}


def test_a_disk_that_does_not_answer_holds_up_no_scrape() -> None:
    metrics = Metrics()
    release = threading.Event()
    answers = iter([(1, 2)])

    def examine(folder: Path) -> tuple[int, int]:
        answer = next(answers, None)
        if answer is None:
            release.wait(30)
        return answer or (0, 0)

    watch = DiskWatch(
        {"outbox": Path("unused")}, metrics, examine=examine, period_seconds=0.3, stale_seconds=0.6
    )
    metrics.before_scrape.append(watch.show)
    watch.start()
    assert until(
        lambda: shown(metrics) == {("free_bytes", "outbox"): 1, ("size_bytes", "outbox"): 2}
    )
    assert until(lambda: shown(metrics) == {}, 5)
    assert watch.is_alive
    release.set()
    watch.close()
