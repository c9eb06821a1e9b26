"""The thread of a sink: order, failures, refusals, the end of a run, and errors of others."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from configs import OutboxError
from stream.events.config import OutboxConfig
from stream.events.event import ActionEvent, StoredEvent
from stream.events.outbox import Outbox
from stream.events.outbox_reader import read_dead_letters
from stream.events.sink_registry import OutboxSink
from stream.metrics import Metrics
from stream.sinks.config import SinkConfig
from stream.sinks.delivery import Gone, Refused, Undelivered
from stream.sinks.worker import SinkTimings, SinkWorker
from tests.support.factory import make_event
from tests.support.waiting import until

FAST = SinkTimings(
    backoff_initial_seconds=0.01,
    backoff_max_seconds=0.05,
    look_seconds=0.02,
    grace_seconds=0.3,
    closing_pause_seconds=0.02,
    slow_seconds=0.2,
)


class Receiver:
    """A delivery that keeps what it takes; `answer` may raise before it takes a batch."""

    def __init__(self, answer: Callable[[list[int]], None] = lambda numbers: None) -> None:
        self.name = "hook"
        self.address = "https://receiver.example"
        self.max_batch = 4
        self.answer = answer
        self.batches: list[list[int]] = []
        self.closed = 0

    def deliver(self, events: Sequence[StoredEvent], stopping: threading.Event) -> None:
        numbers = [stored.event.sequence for stored in events]
        try:
            self.answer(numbers)
        except Undelivered as error:
            if error.delivered:
                self.batches.append(numbers[: error.delivered])
            raise
        self.batches.append(numbers)

    def close(self) -> None:
        self.closed += 1

    @property
    def taken(self) -> list[int]:
        return [number for batch in self.batches for number in batch]


class Sink:
    """An outbox with the sink `hook` beside Kafka, and the thread of that sink."""

    def __init__(self, path: Path, receiver: Receiver, **options: object) -> None:
        self.metrics = Metrics()
        self.outbox = Outbox(
            OutboxConfig(path=path), sinks=[OutboxSink("kafka"), OutboxSink("hook")]
        )
        self.receiver = receiver
        self.acknowledged: list[tuple[str, int]] = []
        settings = SinkConfig(name="hook", drain_seconds=options.pop("drain_seconds", 5.0))  # type: ignore[arg-type]
        self.worker = SinkWorker(
            settings,
            receiver,
            self.outbox.of("hook"),
            self.metrics.sinks.of("hook"),
            on_acknowledged=self._note,
            timings=FAST,
        )

    def _note(self, sink: str, events: Sequence[ActionEvent]) -> None:
        self.acknowledged += [(sink, event.sequence) for event in events]

    def append(self, first: int, last: int) -> None:
        self.outbox.append([make_event(number) for number in range(first, last + 1)])

    def count(self, name: str, **labels: str) -> int:
        return self.metrics.total(getattr(self.metrics.sinks, name), sink="hook", **labels)

    def end(self) -> bool:
        is_empty = self.worker.close()
        self.outbox.close()
        return is_empty


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[Callable[..., Sink]]:
    made: list[Sink] = []

    def make(answer: Callable[[list[int]], None] = lambda numbers: None, **options: object) -> Sink:
        made.append(Sink(tmp_path / "o.db", Receiver(answer), **options))
        return made[-1]

    yield make
    for each in made:
        each.end()


def test_events_arrive_in_order_in_batches_and_are_noted(sink: Callable[..., Sink]) -> None:
    it = sink()
    it.append(1, 10)
    it.worker.start()
    until(lambda: it.outbox.waiting("hook") == 0)
    it.append(11, 12)
    assert it.worker.close()
    assert it.receiver.taken == list(range(1, 13))
    assert [len(batch) for batch in it.receiver.batches[:3]] == [4, 4, 2]
    assert it.acknowledged == [("hook", number) for number in range(1, 13)]
    assert it.count("events") == 12
    assert it.outbox.waiting("kafka") == 12
    assert it.receiver.closed == 1


def test_a_receiver_that_is_away_gets_everything_later_once(
    sink: Callable[..., Sink], caplog: pytest.LogCaptureFixture
) -> None:
    away = threading.Event()
    away.set()

    def answer(numbers: list[int]) -> None:
        if away.is_set():
            raise Undelivered("timeout", "no answer within 10 s")

    it = sink(answer)
    it.worker.start()
    it.append(1, 6)
    until(lambda: it.count("failures", reason="timeout") >= 3)
    assert it.worker.problem == "no answer within 10 s"
    assert it.receiver.taken == []
    away.clear()
    until(lambda: it.outbox.waiting("hook") == 0)
    assert it.receiver.taken == [1, 2, 3, 4, 5, 6]
    assert it.worker.problem is None
    told = [line for line in caplog.messages if "sink hook" in line]
    assert len(told) == 2  # once that it is away, once that it is back
    assert "its events wait in the outbox" in told[0]


def test_what_a_receiver_took_of_a_batch_is_not_sent_again(sink: Callable[..., Sink]) -> None:
    seen: list[list[int]] = []

    def answer(numbers: list[int]) -> None:
        seen.append(numbers)
        if len(seen) == 1:
            raise Undelivered("status", "503", delivered=3)

    it = sink(answer)
    it.append(1, 5)
    it.worker.start()
    until(lambda: it.outbox.waiting("hook") == 0)
    assert seen[:2] == [[1, 2, 3, 4], [4, 5]]
    assert it.receiver.taken == [1, 2, 3, 4, 5]


def test_a_refused_event_is_found_and_the_others_arrive_in_order(
    sink: Callable[..., Sink], tmp_path: Path
) -> None:
    def answer(numbers: list[int]) -> None:
        if 3 in numbers:
            raise Refused("status_413", "413 too large")

    it = sink(answer)
    it.append(1, 6)
    it.worker.start()
    until(lambda: it.outbox.waiting("hook") == 0)
    assert it.receiver.taken == [1, 2, 4, 5, 6]
    assert it.receiver.batches[:3] == [[1], [2], [4]]  # one by one where the refused batch was
    assert it.count("dead_letters") == 1
    (letter,) = read_dead_letters(tmp_path / "o.db")
    assert (letter.payload, letter.error, letter.sink) == (
        make_event(3).to_json(),
        "status_413: 413 too large",
        "hook",
    )
    assert it.outbox.waiting("kafka") == 6
    assert it.worker.problem is None


def test_a_receiver_that_is_gone_gets_nothing_until_the_next_start(
    sink: Callable[..., Sink], caplog: pytest.LogCaptureFixture
) -> None:
    def answer(numbers: list[int]) -> None:
        if 4 in numbers:
            raise Gone("status_410", "410 gone", delivered=1)

    it = sink(answer)
    it.append(3, 8)
    it.worker.start()
    until(lambda: not it.worker.is_alive)
    assert it.receiver.taken == [3]
    assert it.count("lost", kind="started") == 5
    it.append(9, 10)
    assert it.outbox.waiting("hook") == 0
    assert it.outbox.waiting("kafka") == 8
    assert it.worker.problem is not None
    assert "410 gone" in it.worker.problem
    assert "wants no more events" in caplog.text


def test_a_pause_that_the_receiver_asks_for_is_kept(sink: Callable[..., Sink]) -> None:
    asked: list[float] = []

    def answer(numbers: list[int]) -> None:
        asked.append(time.monotonic())
        if len(asked) == 1:
            raise Undelivered("status_429", "429", retry_after_seconds=0.4)

    it = sink(answer)
    it.append(1, 1)
    it.worker.start()
    until(lambda: it.outbox.waiting("hook") == 0)
    assert asked[1] - asked[0] >= 0.4


def test_any_error_of_a_delivery_is_survived(
    sink: Callable[..., Sink], caplog: pytest.LogCaptureFixture
) -> None:
    errors: list[Exception] = [ZeroDivisionError("bug"), OSError("reset"), RuntimeError()]

    def answer(numbers: list[int]) -> None:
        if errors:
            raise errors.pop()

    it = sink(answer)
    it.append(1, 2)
    it.worker.start()
    until(lambda: it.outbox.waiting("hook") == 0)
    assert it.receiver.taken == [1, 2]
    assert it.count("failures", reason="unexpected") == 3
    assert "ZeroDivisionError" in caplog.text


def test_an_outbox_that_cannot_be_written_repeats_no_delivery(
    sink: Callable[..., Sink], monkeypatch: pytest.MonkeyPatch
) -> None:
    it = sink()
    it.append(1, 3)
    remove = it.outbox.remove
    failures = [OutboxError("disk full")] * 3

    def failing(ids: Sequence[int], sink: str = "kafka") -> None:
        if failures:
            raise failures.pop()
        remove(ids, sink)

    monkeypatch.setattr(it.outbox, "remove", failing)
    it.worker.start()
    until(lambda: it.outbox.waiting("hook") == 0)
    assert it.receiver.batches == [[1, 2, 3]]
    assert it.count("failures", reason="outbox") == 3
    assert it.count("events") == 3


def test_an_error_of_the_hook_delays_nothing(sink: Callable[..., Sink]) -> None:
    it = sink()
    it.acknowledged = None  # type: ignore[assignment]
    it.append(1, 3)
    it.worker.start()
    until(lambda: it.outbox.waiting("hook") == 0)
    assert it.count("failures") == 0


def test_the_end_of_a_run_cuts_a_long_pause_short_and_keeps_what_is_left(
    sink: Callable[..., Sink],
) -> None:
    tries: list[float] = []

    def answer(numbers: list[int]) -> None:
        tries.append(time.monotonic())
        if len(tries) == 1:
            raise Undelivered("status", "503", retry_after_seconds=60)
        if len(tries) == 2:
            raise Undelivered("status", "503")

    it = sink(answer)
    it.append(1, 3)
    it.worker.start()
    until(lambda: bool(tries))
    started_at = time.monotonic()
    assert it.worker.close()
    assert time.monotonic() - started_at < 2
    assert it.receiver.taken == [1, 2, 3]


def test_a_delivery_that_hangs_is_named_and_left_behind_at_the_end(
    sink: Callable[..., Sink], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    release = threading.Event()

    def answer(numbers: list[int]) -> None:
        release.wait(30)

    it = sink(answer, drain_seconds=0.2)
    it.append(1, 1)
    it.worker.start()
    until(lambda: it.worker.problem is not None)
    assert it.worker.problem is not None
    assert it.worker.problem.startswith("a delivery has taken")
    started_at = time.monotonic()
    assert not it.worker.close()
    assert time.monotonic() - started_at < 5
    assert "sink hook hangs" in caplog.text
    assert it.receiver.closed == 0
    release.set()
    it.worker.join(5)


def pages(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as database:
        return int(database.execute("pragma page_count").fetchone()[0])


def test_one_sink_does_not_hold_another(tmp_path: Path) -> None:
    """A receiver that never returns: the other gets everything, and the outbox stays bounded."""
    sinks = [OutboxSink("stuck", max_lag_events=50), OutboxSink("fine")]
    lost: list[tuple[str, str]] = []
    outbox = Outbox(
        OutboxConfig(path=tmp_path / "o.db"),
        sinks=sinks,
        on_lost=lambda sink, kind: lost.append((sink, kind)),
    )
    metrics = Metrics()

    def never(numbers: list[int]) -> None:
        raise Undelivered("refused", "connection refused")

    workers = {
        name: SinkWorker(
            SinkConfig(name=name, drain_seconds=0.1),
            Receiver(answer),
            outbox.of(name),
            metrics.sinks.of(name),
            timings=FAST,
        )
        for name, answer in (("stuck", never), ("fine", lambda numbers: None))
    }
    for worker in workers.values():
        worker.start()
    size = 0
    for round_ in range(20):
        numbers = range(round_ * 50 + 1, round_ * 50 + 51)
        outbox.append([make_event(number, kind="updated", event=1) for number in numbers])
        until(lambda: outbox.waiting("fine") == 0)
        if round_ == 4:
            size = pages(tmp_path / "o.db")
    assert len(outbox) == outbox.waiting("stuck") == 50
    assert lost == [("stuck", "updated")] * 950
    assert [item.event.sequence for item in outbox.of("stuck").oldest(1)] == [951]
    assert pages(tmp_path / "o.db") <= size + 8
    for worker in workers.values():
        worker.close()
    outbox.close()
