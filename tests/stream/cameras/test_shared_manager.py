"""Cameras that come and go as partitions move from worker to worker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from configs import CameraError, ConfigError
from stream.cameras.config import CameraConfig
from stream.cameras.overrides import CameraOverrides
from stream.cameras.shared_manager import SharedCameraManager
from stream.cameras.supervisor import Supervisor
from stream.cameras.worker_threads import WorkerThreads
from stream.ingest.config import SourceConfig
from stream.metrics import Metrics
from stream.types import BreakReason, EndReason, StreamBreak


class Rig:
    """A manager whose cameras only wait to be stopped."""

    def __init__(self) -> None:
        self.breaks: list[StreamBreak] = []
        self.opened: list[tuple[str, int | None]] = []
        self.metrics = Metrics()
        self.supervisor = Supervisor(SourceConfig(), self.metrics, self.run, self.breaks.append)
        self.manager = SharedCameraManager(
            self.supervisor,
            CameraOverrides(None),
            self.metrics,
            max_views=2,
            shared={},
            check=self.check,
        )
        self.manager.load([], {})
        self.manager.start()

    def run(self, threads: WorkerThreads) -> None:
        self.opened.append((threads.camera_id, threads.status.epoch))
        threads.stop.wait(30)

    def check(self, camera: CameraConfig) -> None:
        if "bad" in camera.url:
            raise ConfigError("this address cannot be used")

    def ids(self) -> list[str]:
        return [status.camera.id for status in self.supervisor.statuses]


def camera(camera_id: str, url: str = "rtsp://10.0.0.1/x") -> CameraConfig:
    return CameraConfig(id=camera_id, url=url)


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.supervisor.stop()


def test_a_camera_that_moves_away_is_forgotten_and_its_actions_end_so(rig: Rig) -> None:
    rig.manager.take(camera("a"), epoch=7)
    rig.manager.take(camera("b"), epoch=9)
    assert rig.manager.give_up("a", EndReason.MOVED)
    assert rig.ids() == ["b"]
    assert [(broken.camera_id, broken.reason) for broken in rig.breaks] == [
        ("a", BreakReason.MOVED)
    ]
    assert not rig.manager.give_up("a", EndReason.MOVED)
    rig.manager.take(camera("a"), epoch=12)
    assert sorted(rig.opened) == [("a", 7), ("a", 12), ("b", 9)]


def test_a_changed_camera_is_replaced_in_its_epoch(rig: Rig) -> None:
    rig.manager.take(camera("a"), epoch=7)
    rig.manager.take(camera("a", "rtsp://10.0.0.2/y"), epoch=7)
    assert rig.ids() == ["a"]
    assert [broken.reason for broken in rig.breaks] == [BreakReason.CHANGED]
    assert rig.opened == [("a", 7), ("a", 7)]


def test_what_cannot_be_taken_leaves_everything_as_it_is(rig: Rig) -> None:
    rig.manager.take(camera("a"), epoch=7)
    rig.manager.take(camera("b"), epoch=7)
    for wrong, kind in ((camera("c"), "no_room"), (camera("a", "rtsp://bad/x"), "invalid")):
        with pytest.raises(CameraError) as raised:
            rig.manager.take(wrong, epoch=7)
        assert raised.value.kind == kind
    assert rig.ids() == ["a", "b"]
    assert not rig.breaks


def test_a_worker_does_not_end_because_its_cameras_have_ended(rig: Rig) -> None:
    rig.manager.take(camera("a"), epoch=7)
    rig.supervisor.stop()
    assert not rig.manager.all_ended()


def test_a_pipeline_that_stops_takes_no_cameras(rig: Rig) -> None:
    rig.manager.stop()
    with pytest.raises(CameraError, match="stopping"):
        rig.manager.take(camera("a"), epoch=7)
    assert rig.ids() == []
