"""Producers that fail on purpose, in place of kafka-python's, for tests of the publisher."""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

from stream.events.config import KafkaConfig, OutboxConfig
from stream.events.kafka import kafka
from stream.events.outbox import Outbox
from stream.events.producer_watch import PublisherTimings
from stream.events.publisher import BrokerCalls, Publisher
from stream.events.topic import TopicProblem
from tests.support.factory import make_event

Future = kafka.future.Future


class Refusing:
    """A producer that fails as kafka-python's does.

    One refused record fails all records that are held with it, and all that follow.
    """

    refused: ClassVar[set[int]] = set()
    stored: ClassVar[list[int]] = []

    def __init__(self) -> None:
        self._dead: BaseException | None = None
        self._held: list[tuple[int, Future]] = []

    def send(self, topic: str, value: bytes, key: bytes, headers: object) -> Future:
        future = Future()
        number = json.loads(value)["sequence"]
        if self._dead is not None:
            future.failure(self._dead)
            return future
        self._held.append((number, future))
        if len(self._held) >= 5 or number in self.refused:
            self.deliver()
        else:
            threading.Timer(0.01, self.deliver).start()
        return future

    def close(self, timeout: float) -> None:
        """Nothing to do."""

    def deliver(self) -> None:
        held = self._held
        self._held = []
        bad = [number for number, _ in held if number in self.refused]
        for number, future in held:
            if bad:
                self._dead = (
                    kafka.errors.MessageSizeTooLargeError()
                    if len(held) == 1 or number in bad
                    else kafka.errors.KafkaError()
                )
                future.failure(self._dead)
            elif not future.is_done:
                self.stored.append(number)
                future.success(None)


# What becomes of a record: "store", "fail" with KafkaError, "" for no answer, or fail with this.
Fate = str | BaseException


class Scripted:
    """A producer that does as told with each record."""

    def __init__(self, fate: Callable[[int], Fate], stored: list[int]) -> None:
        self._fate = fate
        self._stored = stored

    def send(self, topic: str, value: bytes, key: bytes, headers: object) -> Future:
        future = Future()
        number = json.loads(value)["sequence"]
        fate = self._fate(number)
        if fate == "store":
            self._stored.append(number)
            future.success(None)
        elif fate == "fail":
            future.failure(kafka.errors.KafkaError("Unexpected error in InitProducerIdResponse"))
        elif isinstance(fate, BaseException):
            future.failure(fate)
        return future

    def close(self, timeout: float) -> None:
        """Nothing to do."""


def calls(
    connect: Callable[[], Refusing | Scripted],
    find_topic: Callable[[], bool] = lambda: True,
    abandon: Callable[[], None] = lambda: None,
) -> BrokerCalls:
    """Let a publisher reach these instead of Kafka."""
    absent = TopicProblem("no_metadata", "no broker answers")
    return BrokerCalls(
        connect=lambda config: connect(),
        find_topic=lambda config: None if find_topic() else absent,
        abandon=lambda producer: abandon(),
    )


@contextlib.contextmanager
def scripted(
    path: Path,
    fates: list[Callable[[int], Fate]],
    find_topic: Callable[[], bool] = lambda: True,
    timings: PublisherTimings | None = None,
) -> Iterator[tuple[Outbox, list[int], Counter[str]]]:
    """Run a publisher whose first, second, ... producers do as told; the last one stays.

    Gives the outbox, the numbers of the records that were stored, and counts.
    """
    made = itertools.count()
    stored = list[int]()
    counts = Counter[str]()

    def connect() -> Scripted:
        return Scripted(fates[min(next(made), len(fates) - 1)], stored)

    outbox = Outbox(OutboxConfig(path=path))
    outbox.append([make_event(number) for number in range(1, 6)])
    publisher = Publisher(
        KafkaConfig(bootstrap=("h:1",)),
        outbox,
        on_dead_letter=lambda: counts.update(["rejected"]),
        timings=timings,
        calls=calls(connect, find_topic, abandon=lambda: counts.update(["replaced"])),
    )
    publisher.start()
    try:
        yield outbox, stored, counts
    finally:
        publisher.stop()
        publisher.join(5)
        outbox.close()
