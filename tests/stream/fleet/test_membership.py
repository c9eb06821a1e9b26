"""The thread of the cameras: it waits for a broker, says so, and survives errors."""

from __future__ import annotations

import pytest

from configs import BrokerError
from stream.events.kafka import kafka
from stream.fleet.holdings import Holdings
from stream.fleet.membership import Membership
from stream.metrics import Metrics
from tests.stream.fleet.test_holdings import Cameras, Takeover, decode
from tests.support.fake_topic import FakeCalls, FakeTopic

SESSION = 10.0


class FakeGroup(FakeCalls):
    """A group that gives this worker what the test says."""

    def __init__(self, topic: FakeTopic) -> None:
        super().__init__(topic)
        self.missing: str | None = None
        self.partitions: set[int] = set()
        self.error: Exception | None = None
        self.closed = 0

    def prepare(self) -> str | None:
        return self.missing

    def assigned(self) -> set[int]:
        if self.error is not None:
            raise self.error
        return self.partitions

    def why_idle(self) -> str | None:
        return "joining the group"

    def close(self) -> None:
        self.closed += 1


class Rig:
    """A membership without its thread."""

    def __init__(self) -> None:
        self.now = 100.0
        self.topic = FakeTopic()
        self.topic.camera(0, "a")
        self.group = FakeGroup(self.topic)
        self.cameras = Cameras()
        self.holdings = Holdings(
            self.group,
            self.cameras,
            Metrics(),
            session_seconds=SESSION,
            decode=decode,
            takeover=Takeover(),
            clock=lambda: self.now,
        )
        self.membership = Membership(
            self.group,
            self.holdings,
            session_seconds=SESSION,
            redact=lambda text: str(text).replace("hunter2", "***"),
            clock=lambda: self.now,
        )
        self.membership.stopping.set()  # so that no pause takes time

    def step(self, rounds: int = 1, seconds: float = 0.1) -> str | None:
        for _ in range(rounds):
            self.now += seconds
            self.membership.step()
        return self.membership.problem


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_it_says_what_it_waits_for_until_the_cameras_run(rig: Rig) -> None:
    assert rig.membership.problem is not None
    rig.group.missing = "kafka at b:9092 cannot be reached"
    assert rig.step() == "kafka at b:9092 cannot be reached"
    rig.group.missing = None
    assert rig.step() == "joining the group"
    rig.group.partitions = {0}
    assert rig.step(5) is None
    assert rig.cameras.running.keys() == {"a"}


def test_a_password_in_an_answer_is_not_shown(rig: Rig) -> None:
    rig.group.missing = "login with hunter2 refused"
    assert rig.step() == "login with *** refused"


@pytest.mark.parametrize(
    "error", [kafka.errors.GroupAuthorizationFailedError("g"), BrokerError("no"), ValueError("bug")]
)
def test_an_error_is_a_problem_and_not_the_end(rig: Rig, error: Exception) -> None:
    rig.group.partitions = {0}
    rig.step(5)
    rig.group.error = error
    assert type(error).__name__ in str(rig.step())
    assert rig.cameras.running
    rig.group.error = None
    assert rig.step() is None


def test_errors_that_stay_end_with_new_connections_and_no_cameras(rig: Rig) -> None:
    rig.group.partitions = {0}
    rig.step(5)
    rig.group.error = kafka.errors.KafkaTimeoutError("again")
    rig.step(40, seconds=1.0)
    assert not rig.cameras.running
    assert rig.group.closed == 1
    rig.group.error = None
    rig.step(5)
    assert rig.cameras.running == {"a": (0, 2)}


def test_it_leaves_the_group_at_its_end(rig: Rig) -> None:
    rig.membership.run()
    assert rig.group.closed == 1
