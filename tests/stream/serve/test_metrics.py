"""What is counted, and how Prometheus reads it."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from stream.cameras.config import CameraConfig
from stream.cameras.manager import CameraManager
from stream.cameras.overrides import CameraOverrides
from stream.cameras.supervisor import Supervisor
from stream.cameras.worker_threads import WorkerThreads
from stream.console.summary import LatencyLog
from stream.events.config import EventConfig
from stream.gauges import refresh_cameras
from stream.ingest.config import SourceConfig
from stream.metrics import Metrics
from stream.serve.config import HttpConfig
from stream.types import BreakReason, CameraSnapshot, StreamBreak
from tests import ROOT
from tests.support.waiting import until

PROMTOOL = shutil.which("promtool")


def filled_metrics() -> Metrics:
    metrics = Metrics()
    metrics.set_camera_state("a", "running")
    metrics.decoded.labels("a").inc(3)
    metrics.resets.labels("a", "gap").inc()
    metrics.resets.labels("b", "size").inc(2)
    metrics.events.labels("a", "fall", "started").inc()
    metrics.stage.labels("infer").observe(0.02)
    metrics.latency.observe(0.1)
    metrics.batch_clips.observe(4)
    metrics.dropped_clips.labels("a", "overload").inc()
    metrics.dropped_packets.labels("a", "decoder").inc(2)
    metrics.clips.labels("a").inc(5)
    metrics.outbox_dropped.labels("updated").inc()
    metrics.publish_failures.labels("x").inc()
    metrics.runtime.labels(
        device="cpu",
        engine="eager",
        dtype="bfloat16",
        model="m",
        preprocess="dali-cpu",
        mixing="reference",
        mixing_reason="the network runs on the CPU",
        staging="none",
        staging_reason="the network runs on the CPU",
    ).set(1)
    return metrics


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is missing: apt-get install prometheus")
def test_prometheus_finds_nothing_wrong() -> None:
    assert PROMTOOL is not None
    done = subprocess.run(
        [PROMTOOL, "check", "metrics"],
        input=filled_metrics().exposition(),
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, b"", b"")


def test_counts_are_read_back_by_label() -> None:
    metrics = filled_metrics()
    assert metrics.total(metrics.resets) == 3
    assert metrics.total(metrics.resets, camera="b") == 2
    assert metrics.by_label(metrics.resets, "reason") == {"gap": 1, "size": 2}
    assert metrics.by_label(metrics.resets, "reason", camera="a") == {"gap": 1}


def test_old_names_show_the_values_of_the_new_ones() -> None:
    lines = filled_metrics().exposition().decode().splitlines()
    for line in (
        'cidc_windows_total{camera="a"} 5.0',
        'cidc_clips_total{camera="a"} 5.0',
        'cidc_dropped_total{camera="a",reason="overload"} 1.0',
        'cidc_dropped_total{camera="a",reason="decoder"} 2.0',
        'cidc_dropped_clips_total{camera="a",reason="overload"} 1.0',
        "cidc_batch_windows_sum 4.0",
        "cidc_batch_clips_sum 4.0",
    ):
        assert line in lines, line
    deprecated = [line for line in lines if line.startswith("# HELP") and "Deprecated" in line]
    assert [line.split()[2] for line in deprecated] == [
        "cidc_windows_total",
        "cidc_dropped_total",
        "cidc_batch_windows",
    ]


def test_a_camera_that_was_added_again_keeps_its_series() -> None:
    metrics = Metrics()
    metrics.note_generation("a", 1)
    metrics.decoded.labels("a").inc()
    metrics.note_generation("a", 2)
    metrics.forget("a", 1)
    assert metrics.total(metrics.decoded, camera="a") == 1
    metrics.forget("a", 2)
    assert b'camera="a"' not in metrics.exposition()


def test_a_camera_that_goes_away_during_a_scrape_leaves_nothing_behind() -> None:
    metrics = Metrics()
    metrics.note_generation("a", 1)

    def cameras() -> list[CameraSnapshot]:
        snapshots = [CameraSnapshot("a", "running", "", 25.0, 0.1)]
        metrics.forget("a", 1)
        return snapshots

    metrics.before_scrape.append(lambda: refresh_cameras(metrics, cameras))
    assert b'camera="a"' not in metrics.exposition()
    metrics.before_scrape.clear()
    assert b'camera="a"' not in metrics.exposition()


def test_a_camera_that_is_added_again_during_a_scrape_keeps_its_series() -> None:
    metrics = Metrics()
    metrics.note_generation("a", 1)

    def change() -> None:
        metrics.forget("a", 1)
        metrics.note_generation("a", 2)
        metrics.decoded.labels("a").inc()

    metrics.before_scrape.append(change)
    assert b'cidc_frames_decoded_total{camera="a"} 1.0' in metrics.exposition()


def series(metrics: Metrics) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    """Names and labels of all series, but those of this process's own figures."""
    families = text_string_to_metric_families(metrics.exposition().decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items())))
        for family in families
        for sample in family.samples
    }


def test_a_thousand_cameras_that_came_and_went_leave_no_series(tmp_path: Path) -> None:
    metrics = Metrics()

    def run(threads: WorkerThreads) -> None:
        threads.status.set_state("running")
        threads.status.count_decoded(time.monotonic())
        metrics.resets.labels(threads.camera_id, "gap").inc()
        metrics.events.labels(threads.camera_id, "fall", "started").inc()
        threads.stop.wait()
        metrics.dropped_frames.labels(threads.camera_id, "conversion").inc()  # afterwards

    def interrupt(broken: StreamBreak) -> None:  # as the announcer does
        if broken.reason is BreakReason.REMOVED:
            metrics.forget(broken.camera_id, broken.generation)

    supervisor = Supervisor(SourceConfig(), metrics, run, interrupt)
    metrics.before_scrape.append(
        lambda: refresh_cameras(
            metrics, lambda: [status.snapshot() for status in supervisor.statuses]
        )
    )
    manager = CameraManager(
        supervisor,
        CameraOverrides(None),
        metrics,
        max_views=6,
        shared={"events": EventConfig(), "source": SourceConfig()},
        check=lambda camera: None,
    )
    manager.load([CameraConfig(id="stays", url="rtsp://h/a")], {})
    manager.start()
    assert until(lambda: metrics.total(metrics.events, camera="stays") == 1)
    supervisor.supervise()
    metrics.dropped_frames.labels("stays", "conversion").inc()
    before = series(metrics)
    has_ended = threading.Event()
    scraper = threading.Thread(
        target=lambda: [metrics.exposition() for _ in iter(has_ended.is_set, True)]
    )
    scraper.start()
    for number in range(1000):
        manager.add({"id": f"camera-{number}", "url": "rtsp://h/a"})
        manager.remove(f"camera-{number}")
    has_ended.set()
    scraper.join()

    def is_as_before() -> bool:
        supervisor.supervise()
        return series(metrics) == before

    assert until(is_as_before, 20)
    supervisor.stop()


ODD = 'a "b" \\ \\n {c="d"} 握手\n# TYPE x counter\nx 1'


def test_odd_labels_are_read_back_as_they_are() -> None:
    metrics = Metrics()
    metrics.events.labels("a", ODD, "started").inc()
    text = metrics.exposition().decode()
    assert "\nx 1" not in text
    events = [name_labels for name_labels in series(metrics) if "cidc_events_total" in name_labels]
    assert [dict(labels)["action"] for _, labels in events] == [ODD]
    if PROMTOOL is not None:
        done = subprocess.run(
            [PROMTOOL, "check", "metrics"], input=text.encode(), capture_output=True, check=False
        )
        assert (done.returncode, done.stderr, done.stdout) == (0, b"", b"")


def test_two_pipelines_do_not_share_counts() -> None:
    assert filled_metrics().total(Metrics().decoded) == 0


def test_percentiles_are_by_nearest_rank() -> None:
    log = LatencyLog()
    assert log.percentiles() == {"p50": None, "p95": None, "p99": None}
    for value in range(1, 101):
        log.add(value / 100)
    assert log.percentiles() == {"p50": 0.5, "p95": 0.95, "p99": 0.99}


def test_the_promtool_skip_hides_nothing(tmp_path: Path) -> None:
    if PROMTOOL is not None:
        done = subprocess.run(
            [PROMTOOL, "check", "metrics"],
            input=b"# TYPE x counter\nx 1\n",
            capture_output=True,
            check=False,
        )
        assert done.returncode != 0


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is missing: apt-get install prometheus")
def test_the_scrape_configuration_is_valid() -> None:
    assert PROMTOOL is not None
    path = ROOT / "deploy/prometheus.yml"
    command = [PROMTOOL, "check", "config", str(path)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    assert f"127.0.0.1:{HttpConfig().port}" in path.read_text()
