"""Which cameras of its partitions a worker runs, and which it names because it cannot."""

from __future__ import annotations

import collections

import pytest

from configs import CameraError, ConfigError
from stream.cameras.config import CameraConfig
from stream.cameras.not_taken import NotTaken
from stream.fleet.cameras import WorkerCameras
from stream.fleet.records import CameraRecord, Tombstone
from stream.metrics import Metrics
from stream.types import EndReason


class Runner:
    """Runs at most `room` cameras."""

    def __init__(self) -> None:
        self.room = 2
        self.running: dict[str, tuple[CameraConfig, int]] = {}
        self.reasons: list[tuple[str, EndReason]] = []

    def take(self, camera: CameraConfig, *, epoch: int) -> None:
        if camera.id not in self.running and len(self.running) >= self.room:
            raise CameraError(f"no room: {self.room} are taken", "no_room")
        self.running[camera.id] = (camera, epoch)

    def give_up(self, camera_id: str, reason: EndReason) -> bool:
        self.reasons.append((camera_id, reason))
        return self.running.pop(camera_id, None) is not None


def record(camera_id: str, **fields: object) -> CameraRecord:
    plain = {"id": camera_id, "url": "rtsp://10.0.0.1/x"} | fields
    return CameraRecord(CameraConfig.model_validate(plain), plain)


class Rig:
    """A worker's cameras, with a clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.runner = Runner()
        self.metrics = Metrics()
        self.list = NotTaken(self.metrics)
        self.load = 0.0
        self.cameras = WorkerCameras(
            self.runner,
            self.list,
            self.resolve,
            clock=lambda: self.now,
            load=lambda: self.load,
            max_load=0.8,
        )
        self.secrets = True

    def resolve(self, camera: CameraConfig) -> CameraConfig:
        if not self.secrets:
            raise ConfigError("the secret 'door' is missing")
        return camera

    def not_taken(self) -> set[tuple[str, str]]:
        """Camera and reason, as `/health` has them; the metric counts the same."""
        found = {(each.camera, each.reason) for each in self.list.cameras}
        samples = self.metrics.worker.not_taken.collect()[0].samples
        counted = {each.labels["reason"]: each.value for each in samples if each.value}
        assert counted == collections.Counter(reason for _, reason in found)
        return {(camera, str(reason)) for camera, reason in found}


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_cameras_of_one_partition_stop_and_the_others_run_on(rig: Rig) -> None:
    rig.cameras.start(0, 5, [record("a")])
    rig.cameras.start(1, 7, [record("b")])
    assert {name: epoch for name, (_, epoch) in rig.runner.running.items()} == {"a": 5, "b": 7}
    assert rig.cameras.stop(0, EndReason.MOVED) == 1
    assert rig.runner.running.keys() == {"b"}
    assert rig.runner.reasons == [("a", EndReason.MOVED)]
    assert rig.cameras.partition_of("a") == 0  # for events that are still to be sent


def test_a_tombstone_removes_its_camera(rig: Rig) -> None:
    rig.cameras.start(0, 5, [record("a"), record("b")])
    rig.cameras.change(0, 5, Tombstone("a"))
    assert rig.runner.reasons == [("a", EndReason.REMOVED)]
    assert rig.runner.running.keys() == {"b"}


def test_a_camera_without_room_is_named_and_started_when_there_is_room(rig: Rig) -> None:
    rig.cameras.start(0, 5, [record("a"), record("b"), record("c")])
    assert rig.not_taken() == {("c", "no_slot")}
    assert "no room" in rig.list.cameras[0].detail
    rig.cameras.change(0, 5, Tombstone("a"))
    rig.cameras.retry()
    assert "c" not in rig.runner.running  # not at every opportunity
    rig.now += 10
    rig.cameras.retry()
    assert rig.runner.running.keys() == {"b", "c"}
    assert not rig.not_taken()


def test_a_missing_secret_keeps_one_camera_from_running(rig: Rig) -> None:
    rig.secrets = False
    rig.cameras.start(0, 5, [record("a")])
    assert rig.not_taken() == {("a", "secret")}
    rig.secrets = True
    rig.now += 10
    rig.cameras.retry()
    assert rig.runner.running.keys() == {"a"}


def test_a_camera_that_cannot_be_changed_runs_on_as_it_was(rig: Rig) -> None:
    rig.cameras.start(0, 5, [record("a")])
    rig.secrets = False
    rig.cameras.change(0, 5, record("a", loop=True))
    assert not rig.runner.running["a"][0].loop
    assert rig.not_taken() == {("a", "secret")}


def test_one_id_in_two_partitions_runs_once(rig: Rig) -> None:
    rig.cameras.start(0, 5, [record("a")])
    rig.cameras.start(1, 7, [record("a")])
    assert rig.runner.running["a"][1] == 5
    assert rig.not_taken() == {("a", "twice")}
    rig.cameras.change(1, 7, Tombstone("a"))
    assert rig.runner.running.keys() == {"a"}  # that was the other one's
    assert rig.not_taken() == {("a", "twice")}


def test_a_partition_that_moves_takes_its_refused_cameras_along(rig: Rig) -> None:
    rig.runner.room = 0
    rig.cameras.start(0, 5, [record("a")])
    assert rig.cameras.stop(0, EndReason.MOVED) == 0
    assert not rig.not_taken()


def test_no_camera_is_added_above_the_load_and_those_that_run_stay() -> None:
    rig = Rig()
    rig.runner.room = 9
    rig.cameras.start(0, 5, [record("a")])
    rig.load = 0.9
    rig.cameras.start(1, 6, [record("b"), record("c")])
    assert rig.not_taken() == {("b", "load"), ("c", "load")}
    assert rig.runner.running.keys() == {"a"}
    rig.cameras.change(0, 5, record("a", url="rtsp://10.0.0.1/y"))
    assert rig.runner.running["a"][0].url.endswith("/y")
    rig.load = 0.7  # it follows a new camera with a delay, so they come one by one
    rig.now += 6
    rig.cameras.retry()
    assert rig.not_taken() == {("c", "load")}
    rig.now += 6
    rig.cameras.retry()
    assert rig.not_taken() == set()
    assert rig.runner.running.keys() == {"a", "b", "c"}
