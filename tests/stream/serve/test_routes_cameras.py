"""Cameras that are added, changed, paused and removed while the pipeline runs."""

from __future__ import annotations

import http.client
import json
from pathlib import Path

import pytest

from stream.serve import connections
from tests.stream.serve.rig import Rig
from tests.support.waiting import until


def test_a_camera_comes_changes_pauses_and_goes(rig: Rig) -> None:
    status, camera = rig.ask("POST", "/cameras", {"id": "b", "url": "rtsp://u:p@host/b", "hop": 8})
    assert (status, camera["id"], camera["hop"], camera["url"]) == (201, "b", 8, "rtsp://host/b")
    assert until(lambda: sorted(rig.running) == ["a", "b"])
    assert rig.ask("PATCH", "/cameras/b", {"regions": [{"id": "door", "right": 0.5}]})[0] == 200
    status_of_b = rig.supervisor.status("b")
    assert status_of_b is not None
    assert status_of_b.camera.url == "rtsp://u:p@host/b"
    assert [(each.camera_id, each.reason) for each in rig.breaks] == [("b", "changed")]
    assert rig.ask("POST", "/cameras/b/pause")[1]["paused"] is True
    assert until(lambda: rig.running == ["a"])
    assert rig.ask("POST", "/cameras/b/resume")[1]["paused"] is False
    assert until(lambda: sorted(rig.running) == ["a", "b"])
    assert rig.ask("DELETE", "/cameras/b") == (204, None)
    assert until(lambda: rig.running == ["a"])
    assert [each.reason for each in rig.breaks] == ["changed", "paused", "removed"]
    assert [each["id"] for each in rig.ask("GET", "/cameras")[1]] == ["a"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("GET", "/cameras/x", None, 404, "there is no camera 'x'"),
        (
            "POST",
            "/cameras",
            {"id": "a", "url": "rtsp://h/x"},
            409,
            "there is a camera 'a' already",
        ),
        ("POST", "/cameras", {"id": "b"}, 422, "url: this setting is required"),
        (
            "POST",
            "/cameras",
            {"id": "b", "url": "rtsp://h/x", "hopp": 3},
            422,
            "did you mean 'hop'",
        ),
        (
            "POST",
            "/cameras",
            {"id": "b", "url": "/nowhere.mp4"},
            422,
            "add its folder to http.files",
        ),
        ("POST", "/cameras", b"{", 400, "not valid JSON"),
        ("POST", "/cameras", [1], 422, "must be a JSON object"),
        ("POST", "/cameras", b" " * 70_000, 413, "max_body_bytes"),
        ("PATCH", "/cameras/a", {"id": "b"}, 422, "keeps its id"),
        (
            "POST",
            "/cameras",
            {"id": "b", "url": "rtsp://h/x", "regions": [{"id": f"r{n}"} for n in range(6)]},
            409,
            "no room",
        ),
        ("PUT", "/cameras/a", {}, 405, "Method Not Allowed"),
    ],
)
def test_a_request_that_cannot_be_met_says_why(
    rig: Rig, method: str, path: str, body: object, status: int, words: str
) -> None:
    answer = rig.ask(method, path, body)
    assert answer[0] == status
    assert words in answer[1]["error"]
    assert rig.running == ["a"]


def test_json_must_be_called_json(rig: Rig) -> None:
    assert (
        rig.ask(
            "POST",
            "/cameras",
            b'{"id": "b", "url": "rtsp://h/x"}',
            **{"Content-Type": "text/plain"},
        )[0]
        == 415
    )


@pytest.mark.parametrize(
    "change",
    [
        {"hop": "8"},
        {"hop": True},
        {"loop": "yes"},
        {"max_gap_seconds": "1.5"},
        {"source": {"tls_verify": 1}},
    ],
)
def test_a_value_of_another_kind_is_refused(rig: Rig, change: dict[str, object]) -> None:
    status, answer = rig.ask("PATCH", "/cameras/a", change)
    assert status == 422
    assert "must be" in answer["error"]
    assert "null" not in answer["error"]


def test_numbers_without_end_are_refused_before_they_are_kept(rig: Rig, tmp_path: Path) -> None:
    status, answer = rig.ask("PATCH", "/cameras/a", b'{"events": {"update_seconds": 1e999}}')
    assert status == 422
    assert "finite" in answer["error"]
    assert rig.ask("GET", "/cameras")[0] == 200
    assert not (tmp_path / "changes.json").exists()


def test_settings_that_a_change_does_not_name_stay_at_any_depth(rig: Rig) -> None:
    status, camera = rig.ask(
        "PATCH",
        "/cameras/a",
        {"events": {"update_seconds": 2.0, "actions": {"fall": {"enter": 0.8}}}},
    )
    assert status == 200
    assert camera["events"]["smoothing"] == 2  # of all cameras
    assert camera["events"]["actions"]["fall"]["exit"] == 0.3
    status, camera = rig.ask(
        "PATCH", "/cameras/a", {"events": {"actions": {"fall": {"exit": 0.1}}, "smoothing": 3}}
    )
    assert (camera["events"]["smoothing"], camera["events"]["update_seconds"]) == (3, 2.0)
    fall = camera["events"]["actions"]["fall"]
    assert fall | {"enter": 0.8, "exit": 0.1} == fall
    breaks = len(rig.breaks)
    assert rig.ask("PATCH", "/cameras/a", {"events": {"smoothing": 3}})[0] == 200
    assert len(rig.breaks) == breaks  # nothing differs, so nothing restarts
    camera = rig.ask("PATCH", "/cameras/a", {"events": {"actions": {"fall": None}}})[1]
    assert camera["events"]["actions"] == {}
    assert rig.ask("PATCH", "/cameras/a", {"events": None})[1]["events"] is None


def answer_of(rig: Rig, method: str, path: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", rig.server.port, timeout=5)
    try:
        connection.request(method, path)
        return connection.getresponse()
    finally:
        connection.close()


@pytest.mark.parametrize("path", ["/cameras", "/cameras/a", "/live", "/metrics", "/openapi.json"])
def test_head_is_answered_like_get_without_a_body(rig: Rig, path: str) -> None:
    whole, head = (answer_of(rig, method, path) for method in ("GET", "HEAD"))
    assert (head.status, head.getheader("Content-Type")) == (200, whole.getheader("Content-Type"))
    assert int(head.getheader("Content-Length", "0")) > 0
    assert head.read() == b""


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/cameras", "GET, HEAD, POST"),
        ("POST", "/cameras/a", "DELETE, GET, HEAD, PATCH"),
        ("GET", "/cameras/a/pause", "POST"),
        ("HEAD", "/cameras/a/pause", "POST"),
        ("POST", "/metrics", "GET, HEAD"),
    ],
)
def test_a_method_that_a_path_does_not_have_is_refused_with_those_that_it_has(
    rig: Rig, method: str, path: str, allowed: str
) -> None:
    answer = answer_of(rig, method, path)
    assert (answer.status, answer.getheader("Allow")) == (405, allowed)


def test_a_fault_of_ours_is_logged_and_not_shown(
    rig: Rig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise ValueError("inner detail")

    monkeypatch.setattr(rig.manager, "describe_all", fail)
    status, answer = rig.ask("GET", "/cameras")
    assert (status, answer) == (500, {"error": "internal error, see the log"})
    assert "GET /cameras failed" in caplog.text
    assert "inner detail" in caplog.text


def test_a_request_that_is_not_complete_in_time_is_refused(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MAX_REQUEST_SECONDS", 0.3)
    connection = http.client.HTTPConnection("127.0.0.1", rig.server.port, timeout=5)
    connection.putrequest("POST", "/cameras")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", "9")
    connection.endheaders(b"{")
    answer = connection.getresponse()
    assert answer.status == 408
    assert "not complete after 0.3 s" in json.loads(answer.read())["error"]
    connection.close()
