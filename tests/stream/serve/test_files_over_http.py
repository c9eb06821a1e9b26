"""Files that callers of the HTTP interface name: only those that `http.files` allows are read."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stream.cameras.config import CameraConfig
from stream.cameras.overrides import CameraOverrides
from stream.pipeline import Pipeline
from tests.stream.serve.rig import Rig
from tests.support.pipelines import config_for
from tests.support.waiting import until

# Event rules by which a clip of any content is an action, so that its picture is kept.
EAGER = {"smoothing": 1, "default": {"enter": 0.01, "exit": 0.0, "onset_seconds": 0.0}}


def answer(rig: Rig, body: dict[str, Any]) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection("127.0.0.1", rig.server.port, timeout=5)
    with contextlib.closing(connection):
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/cameras", json.dumps(body), headers)
        found = connection.getresponse()
        kept = {name: value for name, value in found.getheaders() if name != "date"}
        return found.status, kept, found.read().decode()


def test_the_answer_does_not_tell_whether_a_file_exists(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "here.mp4").touch()
    found = []
    for path in (tmp_path / "here.mp4", tmp_path / "gone.mp4"):
        for source in ({"url": str(path)}, with_authorities(path)):
            status, headers, text = answer(rig, {"id": "b"} | source)
            assert status == 422
            found.append((headers, text.replace("here", "gone")))
    assert found[:2] == found[2:]
    assert rig.running == ["a"]


def with_authorities(path: Path) -> dict[str, Any]:
    return {"url": "rtsps://h/b", "source": {"tls_verify": True, "tls_ca_file": str(path)}}


def test_a_file_that_is_allowed_and_missing_is_named(tmp_path: Path) -> None:
    rig = Rig(tmp_path, files=[tmp_path])
    try:
        assert (
            "file not found"
            in rig.ask("POST", "/cameras", {"id": "b", "url": f"{tmp_path}/x"})[1]["error"]
        )
        (tmp_path / "x").touch()
        assert rig.ask("POST", "/cameras", {"id": "b", "url": f"{tmp_path}/x"})[0] == 201
        assert rig.ask("PATCH", "/cameras/b", {"url": "/etc/passwd"})[0] == 422
        assert rig.ask("PATCH", "/cameras/a", {"url": "/etc/passwd"})[0] == 422
    finally:
        rig.close()


def test_a_configured_file_may_be_changed_but_not_exchanged(tmp_path: Path) -> None:
    video = tmp_path / "video.mp4"
    video.touch()
    rig = Rig(tmp_path, configured=[CameraConfig(id="a", url=str(video))])
    try:
        assert rig.ask("PATCH", "/cameras/a", {"hop": 8})[0] == 200
        assert rig.ask("PATCH", "/cameras/a", {"url": str(tmp_path / "other")})[0] == 422
        assert rig.ask("POST", "/cameras", {"id": "b", "url": str(video)})[0] == 422
        assert rig.ask("POST", "/cameras/a/pause")[0] == 200
        assert rig.ask("POST", "/cameras/a/resume")[0] == 200
    finally:
        rig.close()


def test_a_paused_camera_whose_file_is_no_longer_allowed_is_not_resumed(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    first = Rig(tmp_path, files=[tmp_path])
    first.ask("POST", "/cameras", {"id": "b", "url": f"{tmp_path}/x"})
    first.ask("POST", "/cameras/b/pause")
    first.close()
    second = Rig(tmp_path)
    try:
        status, said = second.ask("POST", "/cameras/b/resume")
        assert (status, "http.files" in said["error"]) == (422, True)
        assert second.running == ["a"]
        assert second.ask("DELETE", "/cameras/b")[0] == 204
    finally:
        second.close()


@contextlib.contextmanager
def running(
    weights: Path, folder: Path, video: Path, **http_settings: object
) -> Iterator[tuple[Pipeline, str]]:
    """Run a pipeline on a video in an endless loop; yields it and its address."""
    stop = threading.Event()
    config = config_for(
        weights,
        folder,
        {},
        cameras=[{"id": "a", "url": str(video), "loop": True}],
        events=EAGER,
        snapshots={"enabled": True, "path": folder / "pictures"},
        http={"port": 0, "changes": folder / "changes.json"} | http_settings,
    )
    with Pipeline(config) as pipeline:
        thread = threading.Thread(target=lambda: pipeline.run(stop, duration_seconds=60))
        thread.start()
        try:
            assert until(pipeline.health.started.is_set)
            assert pipeline.http is not None
            yield pipeline, pipeline.http.address
        finally:
            stop.set()
            thread.join()


def post(address: str, body: dict[str, Any]) -> tuple[int, str]:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{address}/cameras", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as found:
            return found.status, found.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A text file, which FFmpeg shows as video if it is opened."""
    path = tmp_path / "private/notes.txt"
    path.parent.mkdir()
    path.write_text("the password is 12345\n" * 200)
    return path


@pytest.mark.slow
def test_a_text_file_of_the_service_is_not_shown_in_a_picture(
    scenes: Path, tiny_weights: Path, tmp_path: Path, secret: Path
) -> None:
    video = next((scenes / "recordings").glob("*.mp4"))
    with running(tiny_weights, tmp_path, video) as (pipeline, address):
        status, said = post(address, {"id": "b", "url": str(secret), "pace": "fast"})
        assert (status, "http.files" in said) == (422, True)
        # Pictures are kept here, so that one of the text would have been seen.
        assert until(lambda: any((tmp_path / "pictures/a").glob("*.jpg")), 30)
        assert [status.camera.id for status in pipeline.supervisor.statuses] == ["a"]
    folders = [each.name for each in (tmp_path / "pictures").iterdir() if each.is_dir()]
    assert folders == ["a"]


@pytest.mark.slow
def test_a_file_in_the_file_of_changes_that_is_not_allowed_is_not_opened_and_stops_nothing(
    scenes: Path, tiny_weights: Path, tmp_path: Path, secret: Path
) -> None:
    video = next((scenes / "recordings").glob("*.mp4"))
    changes = CameraOverrides(tmp_path / "changes.json")
    changes.apply([CameraConfig(id="a", url=str(video))])
    changes.note("a", CameraConfig(id="a", url=str(video), loop=True, hop=8))
    changes.note("b", CameraConfig(id="b", url=str(secret)))
    with running(tiny_weights, tmp_path, video) as (pipeline, _):
        assert until(lambda: any((tmp_path / "pictures/a").glob("*.jpg")), 30)
        described = {each["id"]: each for each in pipeline.manager.describe_all()}
        assert described["a"]["hop"] == 8
        assert described["b"]["state"] == "ended"
        assert "http.files" in described["b"]["detail"]
    assert not (tmp_path / "pictures/b").exists()
    with running(tiny_weights, tmp_path, video, files=[secret.parent]) as (pipeline, _):
        assert pipeline.supervisor.status("b").detail != described["b"]["detail"]  # type: ignore[union-attr]
