"""What is counted, and how Prometheus reads it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from stream.metrics import Metrics
from stream.serve.config import HttpConfig
from stream.summary import LatencyLog

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
    metrics.batch.observe(4)
    metrics.dropped.labels("a", "overload").inc()
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
    path = Path(__file__).resolve().parents[3] / "deploy/prometheus.yml"
    command = [PROMTOOL, "check", "config", str(path)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    assert f"127.0.0.1:{HttpConfig().port}" in path.read_text()
