import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from configs import ConfigError
from stream.console.summary import LatencyLog
from stream.http import HttpConfig, HttpServer
from stream.metrics import Metrics
from tests import ROOT

PROMTOOL = shutil.which("promtool")


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


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


def test_metrics_and_health_answer() -> None:
    problem: list[str | None] = ["still warming up"]
    checks = {"ready": lambda: problem[0], "live": lambda: None}
    server = HttpServer(
        HttpConfig(port=0), metrics=filled_metrics().exposition, checks=checks, cameras=lambda: None
    )
    try:
        assert get(server.port, "/live") == (200, "ok\n")
        assert get(server.port, "/ready") == (503, "still warming up\n")
        problem[0] = None
        assert get(server.port, "/ready")[0] == 200
        assert get(server.port, "/cameras")[0] == 503  # still loading
        assert 'cidc_frames_decoded_total{camera="a"} 3.0' in get(server.port, "/metrics")[1]
        assert get(server.port, "/nowhere")[0] == 404
    finally:
        server.close()


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            ConfigError,
            match=f"cannot listen on 127.0.0.1:{port}: Address already in use; set http.port",
        ):
            HttpServer(HttpConfig(port=port), metrics=bytes, checks={}, cameras=lambda: None)


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
    path = ROOT / "deploy/prometheus.yml"
    assert (
        subprocess.run(
            [PROMTOOL, "check", "config", str(path)], capture_output=True, check=False
        ).returncode
        == 0
    )
    assert f"127.0.0.1:{HttpConfig().port}" in path.read_text()
