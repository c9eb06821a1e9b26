"""Cameras that are added, changed, paused and removed while the pipeline runs."""

from __future__ import annotations

import collections
import contextlib
import http.client
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

import stream.http
from configs import CameraError, ConfigError
from stream.cameras.config import CameraConfig
from stream.cameras.manager import CameraManager
from stream.cameras.overrides import CameraChanges
from stream.cameras.status import CameraStatus
from stream.cameras.supervisor import Fleet, Worker
from stream.events.config import EventConfig
from stream.http import HttpConfig, HttpServer
from stream.ingest.config import SourceConfig
from stream.metrics import Metrics
from stream.openapi import document
from stream.types import StreamBreak
from tests.support.waiting import until


class Rig:
    """A manager whose cameras only wait to be stopped, behind a real server."""

    def __init__(self, folder: Path, **http: Any) -> None:
        self.running: list[str] = []
        self.breaks: list[StreamBreak] = []
        self.fleet = Fleet(SourceConfig(), Metrics(), self._run)
        changes = CameraChanges(folder / "changes.json")
        self.manager = CameraManager(
            self.fleet,
            changes,
            Metrics(),
            most_views=6,
            common={"events": EventConfig(smoothing=2), "source": SourceConfig()},
            check=self._check,
            interrupt=self.breaks.append,
        )
        self.manager.load(
            changes.apply([CameraConfig(id="a", url="rtsp://user:secret@host/a")]), {}
        )
        self.manager.start()
        self.server = HttpServer(
            HttpConfig(port=0, **http),
            metrics=lambda: b"m 1\n",
            cameras=lambda: self.manager,
            checks={name: lambda: None for name in ("live", "ready", "startup")},
        )

    def close(self) -> None:
        self.server.close()
        self.fleet.stop()

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
        data = (
            body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        )
        if data is not None:
            headers.setdefault("Content-Type", "application/json")
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.server.port}{path}", data, headers, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                text = answer.read()
                return answer.status, json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    def _run(self, status: CameraStatus, worker: Worker) -> None:
        self.running.append(status.camera.id)
        status.set_state("running")
        worker.stop.wait()
        self.running.remove(status.camera.id)

    def _check(self, camera: CameraConfig) -> None:
        problem = camera.problem()
        if problem:
            raise ConfigError(problem)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.close()


def test_a_camera_comes_changes_pauses_and_goes(rig: Rig) -> None:
    status, camera = rig.ask("POST", "/cameras", {"id": "b", "url": "rtsp://u:p@host/b", "hop": 8})
    assert (status, camera["id"], camera["hop"], camera["url"]) == (201, "b", 8, "rtsp://host/b")
    assert until(lambda: sorted(rig.running) == ["a", "b"])
    assert rig.ask("PATCH", "/cameras/b", {"regions": [{"id": "door", "right": 0.5}]})[0] == 200
    assert rig.manager.config("b").url == "rtsp://u:p@host/b"  # type: ignore[union-attr]
    assert rig.breaks == [StreamBreak("b", "changed")]
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
            "file not found: /nowhere.mp4",
        ),
        ("POST", "/cameras", b"{", 400, "not valid JSON"),
        ("POST", "/cameras", [1], 422, "must be a JSON object"),
        ("POST", "/cameras", b" " * 70_000, 413, "most_body_bytes"),
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


def test_changes_survive_a_restart_and_secrets_are_for_the_owner(tmp_path: Path) -> None:
    first = Rig(tmp_path)
    first.ask("POST", "/cameras", {"id": "b", "url": "rtsp://u:p@host/b"})
    first.ask("POST", "/cameras/b/pause")
    first.ask("DELETE", "/cameras/a")
    first.close()
    assert (tmp_path / "changes.json").stat().st_mode & 0o077 == 0
    second = Rig(tmp_path)
    try:
        cameras = second.ask("GET", "/cameras")[1]
        assert [(each["id"], each["paused"]) for each in cameras] == [("b", True)]
        assert second.running == []
        assert not second.manager.all_ended()  # a paused camera is waited for
        second.ask("POST", "/cameras/b/resume")
        assert until(lambda: second.running == ["b"])
    finally:
        second.close()


def test_changes_that_cannot_be_kept_do_not_happen(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "changes.json").unlink(missing_ok=True)
    (tmp_path / "changes.json").mkdir()
    status, answer = rig.ask("POST", "/cameras", {"id": "b", "url": "rtsp://h/b"})
    assert status == 507
    assert "cannot be kept" in answer["error"]
    assert [each["id"] for each in rig.ask("GET", "/cameras")[1]] == ["a"]


def test_a_damaged_file_of_changes_is_named(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text("{")
    with pytest.raises(ConfigError, match=r"c\.json cannot be read"):
        CameraChanges(tmp_path / "c.json")


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


def test_a_camera_without_room_is_not_resumed_at_the_cost_of_another(rig: Rig) -> None:
    rig.manager.pause("a")
    # as after a start with more cameras in the configuration than before
    rig.manager._unusable.add("a")
    rig.manager.add(
        {"id": "b", "url": "rtsp://h/b", "regions": [{"id": f"r{number}"} for number in range(5)]}
    )
    rig.manager.pause("b")
    rig.manager._cameras["c"] = CameraConfig(id="c", url="rtsp://h/c")
    status, answer = rig.ask("POST", "/cameras/a/resume")
    assert (status, "no room" in answer["error"]) == (409, True)
    assert "a" not in rig.running
    del rig.manager._cameras["c"]
    assert rig.ask("POST", "/cameras/a/resume")[0] == 200


def test_threads_come_back_when_cameras_go(rig: Rig) -> None:
    before = threading.active_count()
    for _ in range(50):
        rig.manager.add({"id": "b", "url": "rtsp://h/b"})
        rig.manager.remove("b")
    assert until(lambda: threading.active_count() <= before)
    with pytest.raises(CameraError, match="no camera"):
        rig.manager.describe("b")


def test_any_request_gets_an_answer_that_the_document_names(rig: Rig) -> None:
    schema = schemathesis.openapi.from_dict(
        document() | {"servers": [{"url": f"http://127.0.0.1:{rig.server.port}"}]}
    )
    # not kept by this rig
    paths = [name for name in document()["paths"] if not name.startswith("/snapshots")]
    counts: dict[str, int] = {}
    for operation in schema.include(path=paths).get_all_operations():
        for mode in GenerationMode:
            run_operation(operation.ok(), mode, rig, counts)
    assert len(counts) == sum(
        len(set(document()["paths"][name]) & {"get", "post", "patch", "delete"}) for name in paths
    )


def run_operation(operation: Any, mode: GenerationMode, rig: Rig, counts: dict[str, int]) -> None:
    # Nothing to spoil: a request without parameters and body, or one whose camera may have any
    # name.
    if mode is GenerationMode.NEGATIVE and not operation.body:
        return

    @given(case=operation.as_strategy(generation_mode=mode), known=st.integers(0, 9))
    @settings(
        max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    def check(case: Any, known: int) -> None:
        if "camera_id" in case.path_parameters and known:  # mostly a camera that exists
            case.path_parameters["camera_id"] = "a"
            with contextlib.suppress(CameraError):
                rig.manager.add({"id": "a", "url": "rtsp://h/a"})
        answer = case.call(base_url=f"http://127.0.0.1:{rig.server.port}", timeout=10)
        counts[operation.label] = counts.get(operation.label, 0) + 1
        seen[answer.status_code] += 1
        # Not all that a schema allows can be used: a file must exist, edges must be in order.
        case.validate_response(answer, excluded_checks=[positive_data_acceptance])

    seen: collections.Counter[int] = collections.Counter()
    check()
    if "camera_id" in operation.path and mode is GenerationMode.POSITIVE:
        assert sum(count for status, count in seen.items() if status in (200, 204, 422)) > 10, seen


def test_web_pages_and_forwarders_are_refused(rig: Rig) -> None:
    assert rig.ask("POST", "/cameras/a/pause", Origin="https://evil.example")[0] == 403
    assert rig.ask("GET", "/cameras", **{"X-Forwarded-For": "127.0.0.1"})[0] == 403
    assert rig.ask("POST", "/cameras/a/pause", **{"Sec-Fetch-Site": "cross-site"})[0] == 403
    assert rig.running == ["a"]


def test_numbers_without_end_are_refused_before_they_are_kept(rig: Rig, tmp_path: Path) -> None:
    status, answer = rig.ask("PATCH", "/cameras/a", b'{"events": {"update_seconds": 1e999}}')
    assert status == 422
    assert "finite" in answer["error"]
    assert rig.ask("GET", "/cameras")[0] == 200
    assert not (tmp_path / "changes.json").exists()


def test_connections_that_say_nothing_are_cut_off(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream.http, "_REQUEST_SECONDS", 0.3)
    with crowd(rig, b"", 40) as idle:
        assert all(each.recv(1) == b"" for each in idle)


UNFINISHED = (
    b"POST /cameras HTTP/1.1\r\nHost: localhost\r\nContent-Type:"
    b" application/json\r\nContent-Length: 9\r\n\r\n"
)


@pytest.mark.parametrize("said", [b"", UNFINISHED], ids=["idle", "unfinished"])
def test_however_many_connect_health_is_answered_and_the_oldest_go(rig: Rig, said: bytes) -> None:
    with (
        crowd(rig, said, 200) as held,
        urllib.request.urlopen(f"http://127.0.0.1:{rig.server.port}/live", timeout=5) as answer,
    ):
        assert answer.status == 200
        connections = rig.server._server.server_state.connections
        assert until(lambda: len(connections) <= 64)
        for each in held[:100]:
            with contextlib.suppress(ConnectionResetError):
                assert each.recv(1) == b""


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
    assert (
        camera["events"]["actions"]["fall"] | {"enter": 0.8, "exit": 0.1}
        == camera["events"]["actions"]["fall"]
    )
    begun = len(rig.breaks)
    assert rig.ask("PATCH", "/cameras/a", {"events": {"smoothing": 3}})[0] == 200
    assert len(rig.breaks) == begun  # nothing differs, so nothing begins anew
    assert (
        rig.ask("PATCH", "/cameras/a", {"events": {"actions": {"fall": None}}})[1]["events"][
            "actions"
        ]
        == {}
    )
    assert rig.ask("PATCH", "/cameras/a", {"events": None})[1]["events"] is None


def test_a_connection_that_begins_a_second_request_and_goes_silent_is_cut_off(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream.http, "_REQUEST_SECONDS", 0.3)
    with socket.create_connection(("127.0.0.1", rig.server.port), timeout=5) as client:
        client.sendall(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while not answer.endswith(b"ok\n"):
            answer += client.recv(65536)
        client.sendall(b"GET /l")
        assert client.recv(65536) == b""


def test_a_request_that_drips_is_cut_off(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream.http, "_REQUEST_SECONDS", 0.3)
    with socket.create_connection(("127.0.0.1", rig.server.port), timeout=5) as client:
        begun = time.monotonic()
        with contextlib.suppress(OSError):
            while time.monotonic() - begun < 5:
                client.sendall(b"G")
                time.sleep(0.05)
    assert time.monotonic() - begun < 3


def test_one_of_the_same_name_is_not_paused_because_another_was(rig: Rig, tmp_path: Path) -> None:
    rig.ask("POST", "/cameras/a/pause")
    changes = CameraChanges(tmp_path / "changes.json")
    assert changes.apply([]) == []  # a was taken out of the configuration
    changes.note("a", CameraConfig(id="a", url="rtsp://other"))
    again = CameraChanges(tmp_path / "changes.json")
    again.apply([])
    assert not again.is_paused("a")
    assert "added a" in str(again.summary())


def test_what_was_counted_of_a_camera_is_not_forgotten_when_it_is_back(rig: Rig) -> None:
    forgotten: list[str] = []
    rig.manager._metrics.forget = forgotten.append  # type: ignore[method-assign]
    rig.manager.forget_counts("a")
    assert forgotten == []
    assert rig.ask("DELETE", "/cameras/a")[0] == 204
    rig.manager.forget_counts("a")
    assert forgotten == ["a"]


@contextlib.contextmanager
def crowd(rig: Rig, said: bytes, count: int) -> Iterator[list[socket.socket]]:
    held = [
        socket.create_connection(("127.0.0.1", rig.server.port), timeout=5) for _ in range(count)
    ]
    try:
        for each in held:
            with contextlib.suppress(OSError):
                each.sendall(said)
        yield held
    finally:
        for each in held:
            each.close()


def test_a_pipeline_does_not_end_while_a_camera_is_changed_and_takes_nothing_when_it_stops(
    rig: Rig,
) -> None:
    ended = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            ended.append(rig.manager.all_ended())

    thread = threading.Thread(target=watch)
    thread.start()
    for hop in range(1, 60):
        rig.manager.change("a", {"hop": hop})
        rig.manager.pause("a")
        rig.manager.resume("a")
    stop.set()
    thread.join()
    assert not any(ended)
    rig.manager.stop()
    assert rig.ask("POST", "/cameras", {"id": "b", "url": "rtsp://h/b"})[0] == 503


def test_cameras_that_came_and_went_leave_nothing_in_the_file(rig: Rig, tmp_path: Path) -> None:
    for number in range(20):
        rig.manager.add({"id": f"b{number}", "url": "rtsp://h/b"})
        rig.manager.remove(f"b{number}")
    assert json.loads((tmp_path / "changes.json").read_text()) == {"cameras": {}, "paused": []}
    rig.manager.pause("a")
    # its settings stay the file's
    assert json.loads((tmp_path / "changes.json").read_text()) == {"cameras": {}, "paused": ["a"]}


def test_pictures_are_served_to_whoever_may_see_cameras_and_no_other_file_is(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "pictures"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "e.jpg").write_bytes(b"a picture")
    for other in (tmp_path / "secret.jpg", folder / "top.jpg", folder / "a" / "notes.txt"):
        other.write_bytes(b"secret")
    (folder / "a" / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    config = HttpConfig.model_validate({"port": 0, "token": "t"})
    server = HttpServer(
        config, metrics=bytes, checks={}, cameras=lambda: SimpleNamespace(), snapshots=folder
    )  # type: ignore[arg-type,return-value]

    def get(path: str, token: str = "t") -> tuple[int, bytes]:
        # sends the path as it is
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        return answer.status, answer.read()

    try:
        assert get("/snapshots/a/e.jpg") == (200, b"a picture")
        assert get("/snapshots/a/e.jpg", token="x")[0] == 401
        for path in (
            "a/none.jpg",
            "a/notes.txt",
            "a/link.jpg",
            "../secret.jpg",
            "%2e%2e/secret.jpg",
            "a/..%2f..%2fsecret.jpg",
            "a/../top.jpg",
            "./top.jpg",
            "a%00/e.jpg",
            "..%2fpictures/a",
            "x" * 300 + "/e.jpg",
        ):
            status, said = get(f"/snapshots/{path}")
            assert status == 404, path
            assert b"secret" not in said.replace(path.encode(), b"")
    finally:
        server.close()
