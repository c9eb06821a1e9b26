"""What is counted, and how Prometheus reads it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from stream.console.summary import LatencyLog
from stream.metrics import Metrics
from stream.serve.config import HttpConfig
from tests import ROOT

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
        "cpu", "bfloat16", "m", "dali-cpu", "reference", "the network runs on the CPU"
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
