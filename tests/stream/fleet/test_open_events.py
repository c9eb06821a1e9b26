"""Events and their records in the topic of open events: what is sent when, and by whom.

Two workers and the two topics live in memory. A worker can be cut off, or die, after any step.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from stream.events.config import KafkaConfig, OutboxConfig
from stream.events.event import ActionEvent
from stream.events.kafka import kafka
from stream.events.outbox import Outbox
from stream.fleet.open_events import OpenEvents
from stream.fleet.open_log import LogRecord
from stream.fleet.takeover import OpenActionsTakeover
from tests.support.factory import make_event
from tests.support.fake_topic import FakeFuture, FakeTopic

CAMERA = "cam"


class World:
    """What both workers see: the claims, the topic of open events, and the topic of events."""

    def __init__(self) -> None:
        self.claims = [0]  # offsets, of one partition
        self.open = FakeTopic()
        self.events: list[ActionEvent] = []
        self.workers: list[Worker] = []

    def claim(self) -> int:
        """Claim the partition; returns the epoch."""
        self.claims.append(self.claims[-1] + 10)
        return self.claims[-1]

    def read(self, config: object, topic: str, partitions: Collection[int], **_: Any) -> Any:
        """Read the topic of open events."""
        return {
            number: [
                LogRecord(r.offset, r.key or b"", r.value, int(dict(r.headers)["epoch"]))
                for r in self.open.partitions.get(number, ())
            ]
            for number in partitions
        }


class Writer:
    """Writes to the topic of open events. While `is_cut`, records wait in it."""

    topic = "action-open"

    def __init__(self, world: World) -> None:
        self._world = world
        self.is_cut = False
        self.waiting: list[tuple[FakeFuture, tuple[Any, ...]]] = []

    def send(self, partition: int, key: bytes, value: bytes | None, epoch: int) -> FakeFuture:
        future = FakeFuture(None)
        record = (partition, key, value, (("epoch", str(epoch).encode()),))
        if self.is_cut:
            self.waiting.append((future, record))
        else:
            future.offset = self._world.open.append(*record)
        return future

    def restore(self) -> None:
        """Deliver what waits, as a producer does by itself."""
        self.is_cut = False
        for future, record in self.waiting:
            future.offset = self._world.open.append(*record)
        self.waiting.clear()

    def start_over(self) -> None:
        self.waiting.clear()


class Worker:
    """One worker: its outbox, its publisher, and what it takes over."""

    def __init__(self, world: World, name: str, path: Path) -> None:
        self.world = world
        self.name = name
        self.path = path
        self.writer = Writer(world)
        self.superseded = 0
        self.late_answers = 0
        self.sequence = itertools.count(1)
        self.outbox = Outbox(OutboxConfig(path=path))
        world.workers.append(self)
        self.open_events = OpenEvents(
            self.outbox,
            KafkaConfig(),
            self.writer,  # type: ignore[arg-type]
            self,
            partition_of=lambda camera_id: 0,
            on_superseded=self._count,
            on_late_answer=self._count_late_answer,
            read=world.read,
        )
        self.takeover = OpenActionsTakeover(
            KafkaConfig(),
            self.writer,  # type: ignore[arg-type]
            worker=name,
            next_sequence=self.outbox.next_sequence,
            resend=self.open_events.resend,
            announce=self.outbox.append,
            read=world.read,
        )

    def _count(self) -> None:
        self.superseded += 1

    def _count_late_answer(self) -> None:
        self.late_answers += 1

    def claimed_after(self, claims: Collection[tuple[int, int]]) -> set[tuple[int, int]]:
        if self.writer.is_cut:
            raise kafka.errors.KafkaTimeoutError("no answer")
        return {claim for claim in claims if self.world.claims[-1] > claim[1]}

    def take(self) -> int:
        """Take the partition; returns the epoch."""
        self.epoch = self.world.claim()
        self.takeover.finish({0: self.epoch})
        return self.epoch

    def happens(self, kind: str, number: int, epoch: int, reason: str = "over") -> None:
        """Store an event of the action of this number."""
        event = make_event(
            self.outbox.next_sequence(CAMERA, epoch), camera=CAMERA, kind=kind, event=number
        )
        reason_of = {"reason": reason} if kind == "ended" else {}
        self.outbox.append(
            [dataclasses.replace(event, worker=self.name, epoch=epoch, **reason_of)]  # type: ignore[arg-type]
        )

    def publish(self, removes: bool = True) -> None:
        """Publish; without `removes` the process dies before it notes what was published."""
        for _ in range(6):
            for stored in self.open_events.oldest(100):
                self.world.events.append(stored.event)
                if removes:
                    self.open_events.remove([stored.id])

    def restart(self) -> Worker:
        """Die, and come back with the same outbox."""
        self.outbox.close()
        self.world.workers.remove(self)
        again = Worker(self.world, self.name, self.path)
        again.outbox.close_open_events()
        return again


def stories(world: World) -> dict[str, list[str]]:
    """Each action's kinds and reasons; repetitions, which are the same text, once."""
    texts = dict.fromkeys(event.to_json() for event in world.events)
    found: dict[str, list[str]] = collections.defaultdict(list)
    for event in map(ActionEvent.from_json, texts):
        found[event.event_id].append(event.reason or event.kind)
    return found


def open_now(world: World) -> list[bytes]:
    newest = {r.key: r.value for r in world.open.partitions.get(0, ())}
    return [
        key or b"" for key, value in newest.items() if value and not (key or b"").startswith(b"#")
    ]


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def workers(world: World, tmp_path: Path) -> Iterator[Mapping[str, Worker]]:
    made = {name: Worker(world, name, tmp_path / f"{name}.db") for name in "ab"}
    yield made
    for worker in world.workers:
        worker.outbox.close()


def test_the_record_comes_before_the_event_and_the_tombstone_after_the_end(
    world: World, workers: Mapping[str, Worker]
) -> None:
    a = workers["a"]
    epoch = a.take()
    a.happens("started", 1, epoch)
    a.writer.is_cut = True
    a.publish()
    assert not world.events  # not ahead of its record
    a.writer.restore()
    a.publish()
    assert len(open_now(world)) == 1
    a.happens("ended", 1, epoch)
    a.publish()
    assert list(stories(world).values()) == [["started", "over"]]
    assert not open_now(world)


def test_a_successor_ends_what_a_dead_worker_left_once(
    world: World, workers: Mapping[str, Worker]
) -> None:
    a, b = workers["a"], workers["b"]
    epoch = a.take()
    a.happens("started", 1, epoch)
    a.happens("updated", 1, epoch)
    a.publish()
    b.take()
    b.publish()
    assert list(stories(world).values()) == [["started", "updated", "crash"]]
    ended = world.events[-1]
    assert (ended.worker, ended.epoch, ended.sequence) == ("b", b.epoch, 1)
    a.restart().publish()
    assert list(stories(world).values()) == [["started", "updated", "crash"]]
    assert not open_now(world)
    b.take()
    b.publish()
    assert list(stories(world).values()) == [["started", "updated", "crash"]]


def test_a_returning_worker_ends_what_never_reached_kafka(
    world: World, workers: Mapping[str, Worker]
) -> None:
    a, b = workers["a"], workers["b"]
    epoch = a.take()
    a.writer.is_cut = True
    a.happens("started", 1, epoch)
    a.publish()
    b.take()
    again = a.restart()
    again.publish()
    assert list(stories(world).values()) == [["started", "crash"]]
    assert len(again.outbox) == 0
    assert not open_now(world) or b.take()
    b.publish()
    assert list(stories(world).values()) == [["started", "crash"]]


def test_a_worker_that_was_cut_leaves_the_end_to_its_successor(
    world: World, workers: Mapping[str, Worker]
) -> None:
    a, b = workers["a"], workers["b"]
    epoch = a.take()
    a.happens("started", 1, epoch)
    a.publish()
    a.writer.is_cut = True
    a.happens("ended", 1, epoch, "moved")
    a.publish()
    b.take()
    b.publish()
    a.writer.restore()
    a.publish()
    assert list(stories(world).values()) == [["started", "crash"]]
    assert a.superseded == 1
    assert len(a.outbox) == 0


def test_a_worker_that_gives_a_partition_up_in_order_ends_its_actions_itself(
    world: World, workers: Mapping[str, Worker]
) -> None:
    a, b = workers["a"], workers["b"]
    epoch = a.take()
    a.happens("started", 1, epoch)
    a.publish()
    a.happens("ended", 1, epoch, "moved")
    a.publish()
    b.take()
    b.publish()
    assert list(stories(world).values()) == [["started", "moved"]]


STEPS: dict[str, Callable[[World, Worker], None]] = {
    "nothing": lambda world, a: None,
    "record": lambda world, a: a.open_events.oldest(100) and None,
    "sent": lambda world, a: a.publish(removes=False),
    "all": lambda world, a: a.publish(),
}


@pytest.mark.parametrize("second", STEPS)
@pytest.mark.parametrize("first", STEPS)
@pytest.mark.parametrize("returns", ["before", "after", "cut"])
def test_every_action_ends_once_wherever_its_worker_dies(
    world: World, workers: Mapping[str, Worker], first: str, second: str, returns: str
) -> None:
    """A worker dies, or is cut, at one step of the start and one of the end of an action."""
    a, b = workers["a"], workers["b"]
    epoch = a.take()
    a.happens("started", 1, epoch)
    STEPS[first](world, a)
    a.happens("ended", 1, epoch, "moved")
    STEPS[second](world, a)
    if returns == "before":
        a = a.restart()
        a.publish()
    a.writer.is_cut = returns == "cut"
    b.take()
    b.publish()
    if returns == "after":
        a = a.restart()
    a.writer.restore()
    a.publish()
    a.take()
    a.publish()
    b.publish()
    [story] = stories(world).values()
    assert story.count("started") == 1
    assert len(story) == 2
    assert len(a.outbox) == len(b.outbox) == 0
    assert not open_now(world)


def test_an_answer_after_the_end_opens_no_action(
    world: World, workers: Mapping[str, Worker]
) -> None:
    a, b = workers["a"], workers["b"]
    epoch = a.take()
    a.happens("started", 1, epoch)
    a.happens("ended", 1, epoch)
    a.publish()
    a.happens("verified", 1, epoch)
    a.publish()
    assert list(stories(world).values()) == [["started", "over", "verified"]]
    assert not open_now(world)
    b.take()
    b.publish()
    assert list(stories(world).values()) == [["started", "over", "verified"]]
    assert (len(a.outbox), a.late_answers) == (0, 0)


def test_an_answer_while_the_action_goes_on_leaves_it_to_the_successor(
    world: World, workers: Mapping[str, Worker]
) -> None:
    a, b = workers["a"], workers["b"]
    epoch = a.take()
    a.happens("started", 1, epoch)
    a.happens("verified", 1, epoch)
    a.publish()
    b.take()
    b.publish()
    assert list(stories(world).values()) == [["started", "verified", "crash"]]


@pytest.mark.parametrize("has_ended", [False, True])
def test_an_answer_is_dropped_once_another_worker_has_claimed_the_camera(
    world: World, workers: Mapping[str, Worker], has_ended: bool
) -> None:
    a, b = workers["a"], workers["b"]
    epoch = a.take()
    a.happens("started", 1, epoch)
    a.publish()
    a.writer.is_cut = True
    a.happens("verified", 1, epoch)
    if has_ended:
        a.happens("ended", 1, epoch, "moved")
    a.publish()
    b.take()
    b.publish()
    a.writer.restore()
    a.publish()
    assert list(stories(world).values()) == [["started", "crash"]]
    assert (a.late_answers, a.superseded) == (1, has_ended)
    assert len(a.outbox) == 0
