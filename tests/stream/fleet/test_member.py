"""The thread of a group's member: it is always inside `poll`, and tells what it has at any time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from stream.events.config import KafkaConfig
from stream.events.kafka import kafka
from stream.fleet import member as module
from stream.fleet.member import Member
from tests.support.waiting import until


class Consumer:
    """A client whose `poll` returns when the test says so."""

    def __init__(self, listener: Any) -> None:
        self.listener = listener
        self.partitions: set[Any] = set()
        self.held: set[Any] = set()
        self.error: Exception | None = None
        self.state = "<rebalancing>"
        self.topic: set[int] | None = {0}
        self.polls = 0
        self.closed = False
        self.may_return = threading.Event()

    def poll(self, timeout_ms: int) -> dict[Any, Any]:
        self.polls += 1
        self.may_return.wait(timeout_ms / 1000)
        if self.error is not None:
            raise self.error
        return {}

    def assignment(self) -> set[Any]:
        return set(self.partitions)

    def paused(self) -> set[Any]:
        return set(self.held)

    def pause(self, *partitions: Any) -> None:
        self.held |= set(partitions)

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        return self.topic

    def group_metadata(self) -> Any:
        return SimpleNamespace(state=self.state)

    def close(self, timeout_ms: int) -> None:
        self.closed = True


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Member, Consumer]]:
    consumers: list[Consumer] = []

    def connect(config: KafkaConfig, *, listener: Any, **settings: Any) -> Consumer:
        consumers.append(Consumer(listener))
        return consumers[0]

    monkeypatch.setattr(module, "connect_member", connect)
    monkeypatch.setattr(module, "_PAUSE_SECONDS", 0.01)
    config = KafkaConfig.model_validate({"bootstrap": "b:9092", "topic": "cameras"})
    member = Member(config, group="g", session_seconds=10, instance=None)
    member.start()
    yield member, consumers[0]
    member.stop()
    consumers[0].may_return.set()
    assert member.join(5)
    assert consumers[0].closed


def named(*numbers: int) -> set[Any]:
    return {kafka.TopicPartition("cameras", number) for number in numbers}


def test_it_polls_while_nobody_asks_for_its_partitions(made: tuple[Member, Consumer]) -> None:
    _, consumer = made
    consumer.may_return.set()
    until(lambda: consumer.polls > 20)


def test_a_change_inside_poll_is_known_at_once(made: tuple[Member, Consumer]) -> None:
    member, consumer = made
    until(lambda: consumer.polls == 1)
    consumer.listener.on_partitions_assigned(named(1, 2, 3))
    assert member.assigned(0) == {1, 2, 3}
    consumer.listener.on_partitions_revoked(named(2))
    assert member.assigned(0) == {1, 3}
    consumer.listener.on_partitions_lost(named(1, 3))
    assert member.assigned(0) == set()
    assert consumer.polls == 1


def test_it_reads_no_records(made: tuple[Member, Consumer]) -> None:
    member, consumer = made
    consumer.partitions = named(0, 4)
    consumer.may_return.set()
    until(lambda: consumer.held == named(0, 4))
    until(lambda: member.assigned(0.01) == {0, 4})


def test_an_error_is_raised_until_a_poll_succeeds(made: tuple[Member, Consumer]) -> None:
    member, consumer = made
    consumer.partitions = named(7)
    consumer.error = kafka.errors.GroupAuthorizationFailedError("g")
    consumer.may_return.set()
    with pytest.raises(kafka.errors.GroupAuthorizationFailedError):
        until(lambda: member.assigned(0.01) is None)
    with pytest.raises(kafka.errors.GroupAuthorizationFailedError):
        member.assigned(0)
    consumer.error = None

    def has_recovered() -> bool:
        try:
            return member.assigned(0.01) == {7}
        except kafka.errors.KafkaError:
            return False

    until(has_recovered)


def test_it_tells_a_missing_topic_and_an_unfinished_group(made: tuple[Member, Consumer]) -> None:
    member, consumer = made
    assert not member.is_stable
    assert member.has_topic
    consumer.topic = None
    consumer.state = "<stable>"
    consumer.may_return.set()
    until(lambda: not member.has_topic)
    assert member.is_stable
