"""Which actions are open, by the records of the topic of open events."""

from __future__ import annotations

import dataclasses

from stream.events.event import ActionEvent
from stream.fleet.open_log import MARK_KEY, LogRecord, open_actions
from tests.support.factory import make_event

START, END = 10, 1_000


def record(offset: int, event: ActionEvent | None, epoch: int, key: str = "") -> LogRecord:
    value = None if event is None else event.to_json().encode()
    name = key or ("" if event is None else event.event_id)
    return LogRecord(offset, name.encode(), value, epoch)


def mark(offset: int, epoch: int) -> LogRecord:
    return LogRecord(offset, MARK_KEY, b"{}", epoch)


def event(number: int, kind: str = "started") -> ActionEvent:
    made = make_event(number, kind=kind, event=number)
    return dataclasses.replace(made, worker="w", epoch=3)


def test_an_action_is_open_until_its_tombstone_and_its_newest_event_counts() -> None:
    first, second = event(1), event(2)
    ended = event(2, "ended")
    records = [
        record(0, first, 3),
        record(1, second, 3),
        record(2, ended, 3),
        record(3, None, 3, key=first.event_id),
    ]
    found, void = open_actions(records, END)
    assert {name: action.event.kind for name, action in found.items()} == {second.event_id: "ended"}
    assert not void


def test_records_after_the_own_mark_do_not_count() -> None:
    found, _ = open_actions([record(0, event(1), 3), record(7, event(2), 3)], 5)
    assert list(found) == [event(1).event_id]


def test_what_a_worker_writes_after_it_lost_the_partition_is_void() -> None:
    early, late = event(1), event(2)
    records = [
        record(0, early, 3),
        mark(1, 9),
        record(2, late, 3),  # the worker of epoch 3 does not know of the mark
        record(3, None, 3, key=early.event_id),  # nor does its tombstone count
        record(4, event(4), 9),
    ]
    found, void = open_actions(records, END)
    assert set(found) == {early.event_id, event(4).event_id}
    assert void == {late.event_id}


def test_void_records_that_were_removed_are_not_removed_again() -> None:
    late = event(2)
    records = [mark(1, 9), record(2, late, 3), record(3, None, 9, key=late.event_id)]
    assert open_actions(records, END) == ({}, set())


def test_records_that_are_no_events_are_left_out() -> None:
    records = [LogRecord(0, b"x", b"{", 3), record(1, event(1), 3)]
    found, _ = open_actions(records, END)
    assert list(found) == [event(1).event_id]
