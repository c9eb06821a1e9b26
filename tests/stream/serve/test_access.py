"""Who may use the cameras."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import pytest

from tests.stream.serve.rig import Rig


def test_a_token_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    rig = Rig(tmp_path, token_file=tmp_path / "token")
    try:
        assert rig.ask("GET", "/cameras")[0] == 401
        assert rig.ask("GET", "/cameras", Authorization="Bearer wrong")[0] == 401
        assert rig.ask("GET", "/cameras", Authorization="Bearer s3cret")[0] == 200
        assert rig.ask("GET", "/openapi.json")[0] == 200
    finally:
        rig.close()


def test_without_a_token_only_this_machine_is_served_under_its_own_name(rig: Rig) -> None:
    assert rig.ask("GET", "/cameras", Host="evil.example")[0] == 403
    assert rig.ask("GET", "/cameras", Host="localhost:1")[0] == 200
    assert rig.ask("GET", "/cameras", Host="[::1]:9")[0] == 200
    assert rig.ask("GET", "/cameras", Host="LOCALHOST:")[0] == 200
    for host in (
        "user@evil.example",
        "a b",
        "evil.example:80:80",
        "localhost@evil.example",
        "[::1].evil.example",
        "localhost:1:2",
    ):
        assert rig.ask("GET", "/cameras", Host=host)[0] == 403, host


def test_whoever_listens_for_others_needs_a_token(tmp_path: Path) -> None:
    rig = Rig(tmp_path, host="0.0.0.0")
    try:
        status, answer = rig.ask("GET", "/cameras")  # from this machine, under its own name
        assert status == 403
        assert "set http.token" in answer["error"]
        assert rig.ask("POST", "/cameras", {"id": "b", "url": "rtsp://h/b"})[0] == 403
        with urllib.request.urlopen(
            f"http://127.0.0.1:{rig.server.port}/live", timeout=5
        ) as answered:
            assert answered.status == 200  # health and metrics are for everybody
    finally:
        rig.close()


def test_web_pages_are_refused(rig: Rig) -> None:
    assert rig.ask("POST", "/cameras/a/pause", Origin="https://evil.example")[0] == 403
    assert rig.ask("POST", "/cameras/a/pause", **{"Sec-Fetch-Site": "cross-site"})[0] == 403
    assert rig.running == ["a"]


@pytest.mark.parametrize(
    "header",
    [
        "Via",
        "Forwarded",
        "X-Real-IP",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "X-Forwarded-Port",
        "X-Forwarded-Server",
        "X-Forwarded-User",
        "True-Client-IP",
        "CF-Connecting-IP",
        "CF-Ray",
        "CDN-Loop",
        "X-Client-IP",
        "X-Cluster-Client-IP",
        "X-Original-Host",
        "X-Original-URL",
        "X-Original-Forwarded-For",
        "X-Envoy-External-Address",
        "X-Azure-ClientIP",
        "X-Amzn-Trace-Id",
        "Fastly-Client-IP",
        "x-REMOTE-addr",
    ],
)
def test_what_a_proxy_forwards_is_refused_without_a_token(rig: Rig, header: str) -> None:
    status, said = rig.ask("POST", "/cameras/a/pause", **{header: "127.0.0.1"})
    assert (status, "set http.token" in said["error"]) == (403, True)
    assert rig.running == ["a"]


def test_a_program_on_this_machine_may_trace_its_requests(rig: Rig) -> None:
    for header in ("Traceparent", "X-Request-Id", "User-Agent", "Accept"):
        assert rig.ask("GET", "/cameras", **{header: "x"})[0] == 200


def test_with_a_token_proxies_may_forward(tmp_path: Path) -> None:
    rig = Rig(tmp_path, token="t")
    try:
        headers = {"Via": "1.1 proxy", "X-Forwarded-For": "10.0.0.1", "Authorization": "Bearer t"}
        assert rig.ask("GET", "/cameras", **headers)[0] == 200
    finally:
        rig.close()
