"""What a worker does with its partitions: reading, claims, rivals, and being cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from configs import BrokerError
from stream.fleet.holdings import Holdings
from stream.fleet.partitions import Phase
from stream.fleet.records import CameraRecord, Place, Record, Tombstone, decode_record
from stream.metrics import Metrics
from stream.types import EndReason
from tests.support.fake_topic import FakeCalls, FakeTopic

SESSION = 10.0


class Cameras:
    """Notes which cameras run, and what happened."""

    def __init__(self) -> None:
        self.running: dict[str, tuple[int, int]] = {}
        self.happened: list[str] = []

    def start(self, partition: int, epoch: int, records: Sequence[CameraRecord]) -> None:
        for record in records:
            self.running[record.camera_id] = (partition, epoch)
            self.happened.append(f"start {record.camera_id}")

    def change(self, partition: int, epoch: int, record: CameraRecord | Tombstone) -> None:
        if isinstance(record, Tombstone):
            self.running.pop(record.camera_id, None)
            self.happened.append(f"remove {record.camera_id}")
        else:
            self.running[record.camera_id] = (partition, epoch)
            self.happened.append(f"change {record.camera_id}")

    def stop(self, partition: int, reason: EndReason) -> int:
        stopped = [name for name, (number, _) in self.running.items() if number == partition]
        for name in stopped:
            del self.running[name]
            self.happened.append(f"stop {name}: {reason}")
        return len(stopped)

    def retry(self) -> None:
        pass


class Takeover:
    """Notes which partitions were taken over; does nothing while `is_stuck`."""

    def __init__(self) -> None:
        self.epochs: list[dict[int, int]] = []
        self.is_stuck = False
        self.error: Exception | None = None

    def finish(self, epochs: Mapping[int, int]) -> set[int]:
        if self.error is not None:
            raise self.error
        if self.is_stuck:
            return set()
        self.epochs.append(dict(epochs))
        return set(epochs)


def decode(raw: Any) -> Record:
    return decode_record(raw.key, raw.value, Place(raw.partition, raw.offset))


class Rig:
    """A worker's holdings on a topic in memory, and its clock."""

    def __init__(self, topic: FakeTopic, worker: str = "me") -> None:
        self.now = 100.0
        self.topic = topic
        self.calls = FakeCalls(topic, worker)
        self.cameras = Cameras()
        self.takeover = Takeover()
        self.metrics = Metrics()
        self.holdings = Holdings(
            self.calls,
            self.cameras,
            self.metrics,
            session_seconds=SESSION,
            decode=decode,
            takeover=self.takeover,
            clock=lambda: self.now,
        )

    def work(self, rounds: int = 4, seconds: float = 0.1) -> None:
        for _ in range(rounds):
            self.now += seconds
            self.holdings.work()

    def stops(self, reason: str) -> int:
        return self.metrics.total(self.metrics.fleet_stops, reason=reason)


@pytest.fixture
def topic() -> FakeTopic:
    made = FakeTopic()
    made.camera(0, "a")
    made.camera(0, "b")
    made.camera(1, "c")
    return made


@pytest.fixture
def rig(topic: FakeTopic) -> Rig:
    """A worker whose cameras of two partitions run."""
    rig = Rig(topic)
    rig.holdings.share({0, 1})
    rig.work()
    return rig


def test_cameras_start_after_the_claim_and_its_offset_is_their_epoch(rig: Rig) -> None:
    assert rig.cameras.running == {"a": (0, 2), "b": (0, 2), "c": (1, 1)}
    assert rig.takeover.epochs == [{0: 2, 1: 1}]
    assert rig.holdings.epochs() == {0: 2, 1: 1}
    assert rig.holdings.phases() == {Phase.RUNNING: 2}


def test_no_camera_starts_before_the_claim_is_acknowledged(topic: FakeTopic) -> None:
    rig = Rig(topic)
    rig.calls.holds_claims = True
    rig.holdings.share({0})
    rig.work(10)
    assert not rig.cameras.happened
    assert rig.holdings.phases() == {Phase.CLAIMING: 1}
    [(partition, future)] = rig.calls.waiting_claims
    future.offset = topic.claim(partition, "me")
    rig.work()
    assert rig.cameras.running["a"] == (0, future.offset)


def test_a_claim_that_is_not_acknowledged_is_dropped_and_written_again(topic: FakeTopic) -> None:
    rig = Rig(topic)
    rig.calls.holds_claims = True
    rig.holdings.share({0})
    rig.work(10, seconds=0.6)
    assert rig.calls.dropped_claims == 1
    rig.calls.holds_claims = False
    rig.work(20)
    assert rig.cameras.running.keys() == {"a", "b"}


def test_no_camera_starts_before_the_predecessors_actions_have_ended(topic: FakeTopic) -> None:
    rig = Rig(topic)
    rig.takeover.is_stuck = True
    rig.holdings.share({0})
    rig.work()
    assert not rig.cameras.running
    rig.takeover.is_stuck = False
    rig.work()
    assert rig.cameras.running.keys() == {"a", "b"}


def test_trouble_with_open_actions_holds_up_new_partitions_only(rig: Rig) -> None:
    rig.topic.camera(2, "late")
    rig.takeover.error = BrokerError("the topic has too few partitions")
    rig.holdings.share({0, 1, 2})
    rig.work(10)
    assert rig.cameras.running.keys() == {"a", "b", "c"}
    assert "too few partitions" in str(rig.holdings.problem())
    rig.takeover.error = None
    rig.work()
    assert "late" in rig.cameras.running
    assert rig.holdings.problem() is None


def test_records_are_followed_and_only_their_camera_is_touched(rig: Rig) -> None:
    rig.cameras.happened.clear()
    rig.topic.camera(0, "b", loop=True)
    rig.topic.camera(0, "d")
    rig.topic.append(1, b"c", None)
    rig.topic.camera(0, "a")  # as it is
    rig.work(1)
    assert sorted(rig.cameras.happened) == ["change b", "change d", "remove c"]
    assert rig.cameras.running["d"] == (0, 2)


def test_a_bad_record_is_counted_and_named_and_stops_nothing(rig: Rig) -> None:
    rig.cameras.happened.clear()
    rig.topic.append(0, b"a", b"not json")
    rig.topic.camera(0, "new")
    rig.work(1)
    assert rig.cameras.happened == ["change new"]
    assert rig.metrics.total(rig.metrics.fleet_unreadable) == 1
    assert [bad.camera_id for bad in rig.holdings.unreadable()] == ["a"]


def test_a_lost_partition_stops_at_once_and_the_others_run_on(rig: Rig) -> None:
    rig.cameras.happened.clear()
    rig.holdings.share({1})
    assert rig.cameras.happened == ["stop a: moved", "stop b: moved"]
    assert rig.cameras.running == {"c": (1, 1)}
    assert rig.stops("moved") == 1


def test_a_partition_that_comes_back_gets_a_higher_epoch(rig: Rig) -> None:
    rig.holdings.share({1})
    rig.holdings.share({0, 1})
    rig.work()
    assert rig.cameras.running["a"] == (0, 3)
    assert rig.cameras.running["c"] == (1, 1)


def test_a_worker_that_is_cut_stops_its_cameras_before_the_session_is_over(rig: Rig) -> None:
    cut_at = rig.now
    rig.topic.is_cut = True
    while rig.cameras.running:
        rig.now += 0.1
        rig.holdings.expire()  # as the pipeline's own thread does while this one waits
        assert rig.now - cut_at < SESSION
    assert rig.now - cut_at > SESSION / 2  # a broker that restarts quickly stops nothing
    assert rig.stops("cut") == 2
    assert rig.holdings.phases() == {Phase.WAITING: 2}


def test_after_a_cut_cameras_run_again_only_when_the_group_confirms(rig: Rig) -> None:
    rig.topic.is_cut = True
    rig.now += SESSION
    rig.holdings.expire()
    rig.topic.is_cut = False
    rig.calls.is_member = False
    rig.work(30)
    assert not rig.cameras.running
    rig.calls.is_member = True
    rig.work(30)
    assert rig.cameras.running == {"a": (0, 3), "b": (0, 3), "c": (1, 2)}


def test_a_working_broker_keeps_cameras_running_for_ever(rig: Rig) -> None:
    rig.cameras.happened.clear()
    rig.work(rounds=100, seconds=SESSION / 20)
    rig.holdings.expire()
    assert not rig.cameras.happened


def test_a_newer_claim_of_another_worker_stops_the_cameras(rig: Rig) -> None:
    rig.topic.claim(0, "other")
    rig.work(1)
    assert rig.cameras.running == {"c": (1, 1)}
    assert rig.stops("fenced") == 1
    rig.work(5)
    assert "a" not in rig.cameras.running  # not before a session has passed
    rig.work(30, seconds=0.5)
    assert rig.cameras.running["a"] == (0, 4)  # the group still says that it is ours


def test_of_two_workers_that_believe_in_one_partition_one_runs_it(topic: FakeTopic) -> None:
    first, second = Rig(topic, "first"), Rig(topic, "second")
    first.holdings.share({0})
    first.work()
    second.holdings.share({0})
    for _ in range(10):
        second.work(1)
        first.work(1)
    assert second.cameras.running.keys() == {"a", "b"}
    assert not first.cameras.running


def test_a_worker_that_paused_before_it_could_start_makes_sure_first(topic: FakeTopic) -> None:
    rig = Rig(topic)
    rig.takeover.is_stuck = True
    rig.holdings.share({0})
    rig.work()
    rig.takeover.is_stuck = False
    topic.claim(0, "other")  # meanwhile
    rig.now += 3 * SESSION
    rig.work(3)
    assert not rig.cameras.happened


def test_the_problem_names_the_partitions(topic: FakeTopic) -> None:
    rig = Rig(topic)
    rig.holdings.share({0, 1})
    assert rig.holdings.problem() == "partitions 0, 1 are being taken over"
    rig.work()
    assert rig.holdings.problem() is None
    rig.now += SESSION
    rig.holdings.expire()
    assert "were given up" in str(rig.holdings.problem())
