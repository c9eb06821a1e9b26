"""Changes of cameras that survive a restart, and the manager behind the routes."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from configs import CameraError, ConfigError
from stream.cameras.config import CameraConfig
from stream.cameras.overrides import CameraOverrides
from tests.stream.serve.rig import Rig
from tests.support.waiting import until


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
        CameraOverrides(tmp_path / "c.json")


def test_a_camera_without_room_is_not_resumed_at_the_cost_of_another(rig: Rig) -> None:
    rig.manager.pause("a")
    # As after a start with more cameras in the configuration than before.
    rig.manager._unusable.add("a")
    regions = [{"id": f"r{number}"} for number in range(5)]
    rig.manager.add({"id": "b", "url": "rtsp://h/b", "regions": regions})
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


def test_one_of_the_same_name_is_not_paused_because_another_was(rig: Rig, tmp_path: Path) -> None:
    rig.ask("POST", "/cameras/a/pause")
    changes = CameraOverrides(tmp_path / "changes.json")
    assert changes.apply([]) == []  # a was taken out of the configuration
    changes.note("a", CameraConfig(id="a", url="rtsp://other"))
    again = CameraOverrides(tmp_path / "changes.json")
    again.apply([])
    assert not again.is_paused("a")
    assert "added a" in str(again.summary())


def test_what_was_counted_of_a_camera_is_not_forgotten_when_it_is_back(rig: Rig) -> None:
    """The end of the removed camera reaches the end of the pipeline after it was added again."""
    rig.metrics.decoded.labels("a").inc()
    assert rig.ask("DELETE", "/cameras/a")[0] == 204
    (removed,) = rig.breaks
    assert rig.ask("POST", "/cameras", {"id": "a", "url": "rtsp://h/a"})[0] == 201
    rig.metrics.forget("a", removed.generation)
    assert rig.metrics.total(rig.metrics.decoded, camera="a") == 1
    assert rig.ask("DELETE", "/cameras/a")[0] == 204
    rig.metrics.forget("a", rig.breaks[-1].generation)
    assert rig.metrics.total(rig.metrics.decoded, camera="a") == 0


def test_the_summary_says_whose_address_differs_from_the_configuration(tmp_path: Path) -> None:
    configured = [CameraConfig(id=each, url=f"rtsp://h/{each}") for each in "ab"]
    changes = CameraOverrides(tmp_path / "changes.json")
    changes.apply(configured)
    changes.note("a", CameraConfig(id="a", url="rtsp://h/a", hop=8))
    changes.note("b", CameraConfig(id="b", url="rtsp://h/other"))
    assert "changed a, b (also its address) (" in str(changes.summary())


@pytest.mark.slow
def test_a_pipeline_does_not_end_while_a_camera_is_changed_and_takes_nothing_when_it_stops(
    rig: Rig,
) -> None:
    ended, stop = [], threading.Event()

    def watch() -> None:
        while not stop.wait(0.0005):  # without a pause it would take the lock from the changes
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
    assert json.loads((tmp_path / "changes.json").read_text()) == {
        "cameras": {},
        "paused": ["a"],
    }  # its settings stay the file's
