"""Routes of a worker whose cameras live in a topic: changes are written, not carried out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from configs import CameraError
from tests.stream.serve.rig import Rig

HIDDEN = "secret"


class WrittenTopic:
    """Remembers what it is asked to write."""

    worker = "w1"

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.error: CameraError | None = None

    def add(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        return self._note("added", "add", fields)

    def replace(self, camera_id: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        return self._note("changed", "replace", camera_id, fields)

    def change(self, camera_id: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        return self._note("changed", "change", camera_id, fields)

    def remove(self, camera_id: str) -> dict[str, Any]:
        return self._note("removed", "remove", camera_id)

    def _note(self, change: str, *call: object) -> dict[str, Any]:
        if self.error is not None:
            raise self.error
        self.calls.append(call)
        return {"id": "x", "change": change, "detail": "soon"}


@pytest.fixture
def topic() -> WrittenTopic:
    return WrittenTopic()


@pytest.fixture
def rig(tmp_path: Path, topic: WrittenTopic) -> Iterator[Rig]:
    made = Rig(tmp_path, topic=topic)
    yield made
    made.close()


def test_changes_are_written_and_the_cameras_of_this_worker_stay_as_they_are(
    rig: Rig, topic: WrittenTopic
) -> None:
    before = rig.ask("GET", "/cameras")
    body = {"id": "b", "url": "rtsp://h/b"}
    soon = {"id": "x", "detail": "soon"}
    assert rig.ask("POST", "/cameras", body) == (202, soon | {"change": "added"})
    assert rig.ask("PUT", "/cameras/b", body) == (202, soon | {"change": "changed"})
    assert rig.ask("PATCH", "/cameras/a", {"hop": 2}) == (202, soon | {"change": "changed"})
    assert rig.ask("DELETE", "/cameras/a") == (202, soon | {"change": "removed"})
    assert topic.calls == [
        ("add", body),
        ("replace", "b", body),
        ("change", "a", {"hop": 2}),
        ("remove", "a"),
    ]
    assert rig.ask("GET", "/cameras") == before
    assert rig.running == ["a"]


def test_cameras_are_shown_with_their_worker(rig: Rig) -> None:
    [camera] = rig.ask("GET", "/cameras")[1]
    assert (camera["id"], camera["worker"]) == ("a", "w1")
    assert rig.ask("GET", "/cameras/a")[1]["worker"] == "w1"
    status, answer = rig.ask("GET", "/cameras/elsewhere")
    assert status == 404
    assert "this worker, w1, does not run a camera 'elsewhere'" in answer["error"]


@pytest.mark.parametrize(
    ("kind", "status"), [("invalid", 422), ("exists", 409), ("unknown", 404), ("no_broker", 503)]
)
def test_refusals_say_why(rig: Rig, topic: WrittenTopic, kind: str, status: int) -> None:
    topic.error = CameraError("because", kind)
    for method, path, body in (
        ("POST", "/cameras", {}),
        ("PUT", "/cameras/a", {}),
        ("PATCH", "/cameras/a", {}),
        ("DELETE", "/cameras/a", None),
    ):
        assert rig.ask(method, path, body) == (status, {"error": "because"})


def test_a_camera_that_may_move_cannot_be_paused(rig: Rig) -> None:
    for verb in ("pause", "resume"):
        status, answer = rig.ask("POST", f"/cameras/a/{verb}")
        assert status == 422
        assert "remove it, and add it again later" in answer["error"]
    assert rig.running == ["a"]


def test_the_routes_need_the_token_and_json_as_the_others_do(tmp_path: Path) -> None:
    topic = WrittenTopic()
    made = Rig(tmp_path, topic=topic, token=HIDDEN)
    try:
        assert made.ask("PUT", "/cameras/a", {})[0] == 401
        allowed = {"Authorization": f"Bearer {HIDDEN}"}
        assert made.ask("PUT", "/cameras/a", b"{", **allowed)[0] == 400
        assert made.ask("PUT", "/cameras/a", {"id": "a"}, **allowed)[0] == 202
        assert topic.calls == [("replace", "a", {"id": "a"})]
    finally:
        made.close()


def test_the_document_has_the_further_route(rig: Rig) -> None:
    operation = rig.ask("GET", "/openapi.json")[1]["paths"]["/cameras/{camera_id}"]["put"]
    wanted = {"202", "400", "401", "403", "408", "413", "415", "422", "503"}
    assert set(operation["responses"]) == wanted
