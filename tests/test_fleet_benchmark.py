"""The benchmark of a fleet: its arithmetic against times made by hand."""

from __future__ import annotations

import collections
import dataclasses

import pytest

from benchmarks.fleet import spread_ids
from benchmarks.fleet_times import (
    Change,
    Interval,
    change,
    describe,
    event_problems,
    parse_times,
    watched_by,
)
from stream.events.event import ActionEvent
from stream.events.kafka import partition_of_key

FOREVER = float("inf")
EVENT = ActionEvent(
    event_id="one",
    kind="started",
    camera_id="cam",
    action="fall",
    confidence=0.75,
    started_at="2026-01-02T03:04:05.000Z",
    pts_start_seconds=5.0,
    sequence=1,
    top_k=(("fall", 0.75),),
    model="tiny",
    produced_at="2026-01-02T03:04:06.000Z",
    worker="a",
    epoch=7,
)
ENDED = dataclasses.replace(
    EVENT,
    kind="ended",
    sequence=2,
    ended_at="2026-01-02T03:04:07.000Z",
    pts_end_seconds=7.0,
    reason="over",
)


def test_lines_of_a_process_become_intervals() -> None:
    text = "open x 1 10.0\nopen y 1 11.0\nopen x 2 14.5\nclose x 1 15.0\nclose y 1 99"
    running = parse_times("a", text, None)
    assert sorted(running, key=lambda each: each.opened) == [
        Interval("x", "a", 10.0, 15.0),
        Interval("y", "a", 11.0, FOREVER),  # its last line is not complete
        Interval("x", "a", 14.5, FOREVER),
    ]
    assert {each.closed for each in parse_times("a", text, 14.8)} == {14.8}


def test_who_runs_a_camera_at_a_moment() -> None:
    intervals = [Interval("x", "a", 0, 5), Interval("x", "b", 4, 9), Interval("y", "a", 8, 9)]
    assert watched_by(intervals, 4.5) == {"x": ["a", "b"]}
    assert watched_by(intervals, 5) == {"x": ["b"]}  # an end does not belong to its interval
    assert watched_by(intervals, 20) == {}


def test_a_change_by_hand() -> None:
    intervals = [
        # moved, with a second of nobody and no overlap
        Interval("gap", "a", 0, 102),
        Interval("gap", "b", 103, FOREVER),
        # moved, run twice for half a second
        Interval("twice", "a", 0, 104.5),
        Interval("twice", "c", 104, FOREVER),
        # stays, but stopped for a quarter of a second, and once before the change
        Interval("stopped", "b", 0, 50),
        Interval("stopped", "b", 60, 105),
        Interval("stopped", "b", 105.25, FOREVER),
        Interval("same", "c", 90, FOREVER),
    ]
    found = change(intervals, ["gap", "twice", "stopped", "same"], 100, 110)
    assert found.settled == 10
    assert found.unwatched == pytest.approx((1, 0, 0.25))
    assert found.double == pytest.approx((0, 0.5, 0, 0))
    assert found.interrupted == 1


def test_a_row_of_the_table() -> None:
    rounds = [
        Change(8.0, (1.0, 2.0, 3.0), (0.0, 0.5), 1),
        Change(10.0, (4.0, 5.0), (0.25, 0.0), 0),
    ]
    assert describe(rounds) == ("2", "2", "9.0", "3.00", "5.00", "5.00", "2", "0.50", "1")
    assert describe([Change(1.0, (), (), 0)])[3:6] == ("0.00", "0.00", "0.00")


def test_lost_events_are_found() -> None:
    again = dataclasses.replace(EVENT, event_id="two", epoch=8)
    assert event_problems([EVENT, ENDED, EVENT]) == []  # a repetition is the same text
    assert event_problems([EVENT]) == ["action one has 0 different 'ended' events"]
    other_end = dataclasses.replace(ENDED, reason="crash", worker="b")
    assert event_problems([EVENT, ENDED, other_end]) == [
        "action one has 2 different 'ended' events"
    ]
    late = dataclasses.replace(ENDED, event_id="two", epoch=8, sequence=4)
    assert event_problems([EVENT, ENDED, again, late]) == ["cam@8 has no events [2, 3]"]


@pytest.mark.parametrize(("count", "partitions"), [(200, 64), (5, 12), (24, 12)])
def test_cameras_are_spread_over_the_partitions(count: int, partitions: int) -> None:
    ids = spread_ids(count, partitions)
    assert len(set(ids)) == count
    found = collections.Counter(partition_of_key(each.encode(), partitions) for each in ids)
    assert max(found.values()) == -(-count // partitions)
