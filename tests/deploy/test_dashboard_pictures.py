"""Pictures of the dashboards: legends, amounts, and every panel drawn."""

from __future__ import annotations

import json
import urllib.parse
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from scripts import dashboard_pictures
from tests.support.web import web_server


def answer(request: BaseHTTPRequestHandler) -> None:
    """Answer a query as Prometheus does, with one series; none for the GPU."""
    path, _, text = request.path.partition("?")
    query = urllib.parse.parse_qs(text)["query"][0]
    assert "$" not in query
    samples = [[1000.0 + second, "2"] for second in range(3)]
    of_range = {"metric": {"state": "running", "reason": "a"}, "values": samples}
    at_once = {"metric": {"state": "running", "job": "j"}, "value": samples[0]}
    result = [] if "gpu" in query else [of_range if path.endswith("query_range") else at_once]
    body = json.dumps({"status": "success", "data": {"result": result}}).encode()
    request.send_response(200)
    request.end_headers()
    request.wfile.write(body)


@pytest.mark.slow
def test_a_dashboard_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with web_server(answer) as address:
        out = tmp_path / "pictures"
        arguments = ["--prometheus", address, "--out", str(out), "--only", "hardware"]
        assert dashboard_pictures.main(arguments) == 0
    (picture,) = out.iterdir()
    assert (picture.name, picture.read_bytes()[:4]) == ("hardware.png", b"\x89PNG")
    said = capsys.readouterr().out.strip()
    assert said.partition("; ")[2] == "without data: How busy the GPU is"


def test_a_prometheus_that_does_not_answer_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--prometheus", "http://127.0.0.1:9", "--out", str(tmp_path)]
    assert dashboard_pictures.main(arguments) == 1
    assert "http://127.0.0.1:9" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.256, "percentunit", "25.6%"),
        (0.25, "s", "250 ms"),
        (90, "s", "90 s"),
        (600, "s", "10 min"),
        (7.17e10, "bytes", "71.7 GB"),
        (15, "suffix: fps", "15 fps"),
    ],
)
def test_amounts_are_written_with_their_units(value: float, unit: str, text: str) -> None:
    assert dashboard_pictures.amount(value, unit) == text
