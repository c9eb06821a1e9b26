"""Metrics and probes over HTTP."""

from __future__ import annotations

import urllib.error
import urllib.request

from stream.cameras.not_taken import NotTakenCamera
from stream.serve.config import HttpConfig
from stream.serve.health import health_report
from stream.serve.server import HttpServer
from tests.stream.serve.test_metrics import filled_metrics


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_metrics_and_health_answer() -> None:
    problem: list[str | None] = ["still warming up"]
    checks = {"ready": lambda: problem[0], "live": lambda: None}
    server = HttpServer(
        HttpConfig(port=0), metrics=filled_metrics().exposition, checks=checks, cameras=lambda: None
    )
    server.start()
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


def test_a_worker_with_a_problem_and_a_camera_that_is_not_taken_are_both_told() -> None:
    share = {"worker": "w1", "problem": None}
    assert health_report({}, (), load={}, worker=share)["status"] == "ok"
    refused = NotTakenCamera("door", "secret", "the secret 'door' is missing")
    report = health_report({}, (), load={}, not_taken=[refused], worker=share)
    assert report["status"] == "degraded"
    assert report["not_taken"][0]["camera"] == "door"
    assert report["worker"] == share
    cut = share | {"problem": "the broker is away"}
    assert health_report({}, (), load={}, worker=cut)["status"] == "degraded"
    assert "worker" not in health_report({}, (), load={})
