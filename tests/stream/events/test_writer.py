"""The writer: events wait in memory, in order and bounded, while the outbox takes none."""

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from configs import OutboxError
from stream.events.config import OutboxConfig
from stream.events.event import ActionEvent
from stream.events.outbox import Outbox, read_events
from stream.events.writer import EventWriter
from stream.metrics import Metrics
from tests.support.factory import make_event
from tests.support.waiting import until


class Disk:
    """An outbox that can be full."""

    def __init__(self) -> None:
        self.is_full = False
        self.stored = list[ActionEvent]()

    def append(self, events: Sequence[ActionEvent]) -> None:
        if self.is_full:
            raise OutboxError("the disk is full")
        self.stored += events

    def next_sequence(self, camera_id: str, epoch: int | None = None) -> int:
        assert epoch is None
        return (
            max(
                (event.sequence for event in self.stored if event.camera_id == camera_id), default=0
            )
            + 1
        )


@contextlib.contextmanager
def running(writer: EventWriter) -> Iterator[None]:
    thread = threading.Thread(target=writer.run)
    thread.start()
    try:
        yield
    finally:
        writer.close()
        thread.join(10)
        assert not thread.is_alive()


def test_events_wait_in_order_until_they_can_be_stored() -> None:
    disk = Disk()
    metrics = Metrics()
    writer = EventWriter(disk, metrics, retry_seconds=0.05)
    with running(writer):
        writer.put([make_event(1)])
        assert until(lambda: disk.stored == [make_event(1)], 5)
        disk.is_full = True
        writer.put([make_event(2)])
        assert until(lambda: writer.problem == "the disk is full", 5)
        writer.put([make_event(3), make_event(4)])
        assert writer.next_sequence("cam") == 5  # those that wait have their numbers, too
        assert writer.next_sequence("other") == 1
        assert until(lambda: metrics.total(metrics.outbox_failures) > 2, 5)
        assert disk.stored == [make_event(1)]
        assert writer.unsaved == 3
        disk.is_full = False
        assert until(lambda: writer.problem is None, 5)
        assert disk.stored == [make_event(number) for number in range(1, 5)]


def test_closing_tries_again_whenever_the_next_attempt_would_have_been() -> None:
    disk = Disk()
    disk.is_full = True
    writer = EventWriter(disk, Metrics(), retry_seconds=1000.0)
    with running(writer):
        writer.put([make_event(5)])
        assert until(lambda: writer.problem is not None, 5)
        threading.Timer(0.5, lambda: setattr(disk, "is_full", False)).start()
    assert disk.stored[-1] == make_event(5)


def test_closing_gives_up_on_a_full_disk_after_a_while() -> None:
    disk = Disk()
    disk.is_full = True
    writer = EventWriter(disk, Metrics(), flush_seconds=0.3)
    with running(writer):
        writer.put([make_event(1)])
    assert writer.unsaved == 1


def test_a_slow_disk_is_not_reported_as_a_standstill() -> None:
    seconds: list[float] = []

    class Slow(Disk):
        def append(self, events: Sequence[ActionEvent]) -> None:
            time.sleep(0.03)
            super().append(events)

    writer = EventWriter(Slow(), Metrics(), lambda latency, _: seconds.append(latency))
    with running(writer):
        for number in range(1, 101):
            writer.put([make_event(number)], [time.monotonic()])
            time.sleep(0.02)  # events come faster than the disk takes them
            if number == 50:
                middle = time.monotonic()
        assert writer.silent_seconds < time.monotonic() - middle
        assert len(seconds) > 50  # not only when there is a pause at last
    assert len(seconds) == 100


def test_waiting_events_are_bounded_and_updates_are_dropped_first(
    caplog: pytest.LogCaptureFixture,
) -> None:
    metrics = Metrics()
    writer = EventWriter(Disk(), metrics, max_unsaved=20)
    kinds = ["started", "updated", "updated", "ended"] * 5
    writer.put([make_event(number, kind=kind) for number, kind in enumerate(kinds, 1)])
    assert writer.unsaved == 20
    writer.put([make_event(21, kind="started")])
    assert writer.unsaved == 18  # a tenth of the room at once
    writer.put([make_event(number, kind="started") for number in range(22, 40)])
    assert writer.unsaved == 18
    dropped = {
        kind: metrics.outbox_dropped.labels(kind)._value.get()
        for kind in ("started", "updated", "ended")
    }
    assert dropped == {"started": 6, "updated": 10, "ended": 5}
    assert writer.lost == writer.unsaved + 21
    assert caplog.text.count("events wait in memory; dropping the oldest") == 1


def test_latency_is_measured_until_the_event_is_stored() -> None:
    seconds: list[float] = []
    disk = Disk()
    writer = EventWriter(
        disk, Metrics(), lambda latency, _: seconds.append(latency), retry_seconds=0.05
    )
    with running(writer):
        disk.is_full = True
        writer.put([make_event(1)], [time.monotonic(), time.monotonic() - 10])
        assert until(lambda: writer.problem is not None, 5)
        writer.put([], [time.monotonic() - 100])  # what gave no event waits for no disk
        assert [round(value) for value in seconds] == [100]
        time.sleep(0.5)  # nothing must happen meanwhile, and the event must be this late
        assert len(seconds) == 1
        disk.is_full = False
        assert until(lambda: len(seconds) == 3, 5)
    assert 0.5 < seconds[1] < 5
    assert 10.5 < seconds[2] < 15


def test_a_latency_has_the_trace_of_its_clip_and_the_traces_learn_of_the_storing() -> None:
    found: list[str | None] = []
    told: list[list[int]] = []
    disk = Disk()
    writer = EventWriter(
        disk,
        Metrics(),
        lambda _, trace_id: found.append(trace_id),
        lambda events: told.append([event.sequence for event in events]),
        retry_seconds=0.05,
    )
    with running(writer):
        disk.is_full = True
        writer.put([make_event(1), make_event(2)], [1.0, 2.0, 3.0], [None, "b", None])
        assert until(lambda: writer.problem is not None, 5)
        assert told == []
        disk.is_full = False
        assert until(lambda: len(found) == 3, 5)
        writer.put([make_event(3)], [4.0])
        assert until(lambda: len(found) == 4, 5)
    assert found == [None, "b", None, None]
    assert told == [[1, 2], [3]]


def test_a_locked_database_blocks_only_the_writer(tmp_path: Path) -> None:
    outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"), busy_seconds=30.0)
    writer = EventWriter(outbox, Metrics())
    with (
        contextlib.closing(sqlite3.connect(tmp_path / "o.db", isolation_level=None)) as foreign,
        running(writer),
    ):
        foreign.execute("begin immediate")
        slowest = 0.0
        for number in range(1, 41):
            started_at = time.monotonic()
            writer.put([make_event(number)])
            assert writer.next_sequence("cam") == number + 1
            slowest = max(slowest, time.monotonic() - started_at)
            time.sleep(0.02)  # the pace at which events come
        assert writer.unsaved == 40
        assert slowest < 10
        foreign.execute("rollback")
        assert until(lambda: writer.unsaved == 0, 5)
    assert [item.event.sequence for item in read_events(tmp_path / "o.db")] == list(range(1, 41))
    outbox.close()
