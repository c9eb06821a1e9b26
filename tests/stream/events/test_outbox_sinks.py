"""What an outbox does with several sinks: filters, bounds, changes, upgrades and damage."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import sqlite3
from pathlib import Path

import pytest

from configs import OutboxError
from stream.events.config import OutboxConfig
from stream.events.event import ActionEvent
from stream.events.migrations import MIGRATIONS
from stream.events.outbox import Outbox
from stream.events.outbox_backup import describe
from stream.events.outbox_reader import read_dead_letters
from stream.events.sink_registry import OutboxSink
from stream.events.sink_rows import waits
from stream.sinks.config import EventFilter
from tests.support.databases import damage_index, execute, fill_disk, free_disk, watched_connections
from tests.support.factory import make_event

KAFKA = OutboxSink("kafka")
HOOK = OutboxSink("hook")


def opened(path: Path, *sinks: OutboxSink, max_events: int = 1000) -> Outbox:
    return Outbox(OutboxConfig(path=path, max_events=max_events), sinks=sinks)


def numbers(outbox: Outbox, sink: str) -> list[int]:
    return [stored.event.sequence for stored in outbox.of(sink).oldest(1000)]


def version_1(path: Path, events: int) -> None:
    """Write an outbox as releases before sinks wrote it, with a dead letter and an open action."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        MIGRATIONS[0](database)
        for number in range(1, events + 1):
            event = make_event(number)
            row = (event.event_id, event.kind, event.camera_id, event.to_json())
            database.execute(
                "insert into events (event_id, kind, camera_id, payload, stored_at)"
                " values (?, ?, ?, ?, 1.0)",
                row,
            )
        database.execute("insert into open_events values (?, ?)", (event.event_id, event.to_json()))
        database.execute("insert into sequences values ('cam', ?)", (events,))
        database.execute("insert into rejected values (77, '{}', 'too large', 2.0)")
        database.execute("pragma user_version = 1")


@pytest.mark.parametrize("sinks", [(KAFKA,), (KAFKA, HOOK), ()])
def test_events_of_an_outbox_of_version_1_are_those_of_kafka(
    tmp_path: Path, sinks: tuple[OutboxSink, ...]
) -> None:
    path = tmp_path / "o.db"
    version_1(path, 5)
    assert (describe(path).waiting, describe(path).kept) == (5, 5)  # reading changes nothing
    assert read_dead_letters(path) == [("{}", "too large", None)]
    outbox = opened(path, *sinks)
    assert [item.id for item in outbox.oldest(10)] == [1, 2, 3, 4, 5]
    assert numbers(outbox, "kafka") == [1, 2, 3, 4, 5]
    assert outbox.waiting("hook") == 0
    (ended,) = outbox.close_open_events()
    assert (ended.sequence, ended.reason) == (6, "crash")
    assert outbox.waiting("hook") == (1 if HOOK in sinks else 0)
    outbox.move_to_dead_letters(1, "refused")
    outbox.close()
    letters = read_dead_letters(path)
    assert [(each.error, each.sink) for each in letters] == [
        ("too large", None),
        ("refused", "kafka"),
    ]


def test_an_outbox_of_version_1_without_kafka_keeps_its_events_for_it(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    version_1(path, 3)
    outbox = opened(path, HOOK)
    outbox.append([make_event(4)])
    assert numbers(outbox, "hook") == [4]  # a new sink starts with new events
    outbox.close()
    assert (describe(path).sinks, describe(path).kept) == ({"hook": 1}, 3)
    outbox = opened(path, HOOK, KAFKA)
    assert numbers(outbox, "kafka") == [1, 2, 3]
    outbox.close()


def test_one_event_is_refused_by_two_sinks_and_taken_by_a_third(tmp_path: Path) -> None:
    outbox = opened(tmp_path / "o.db", KAFKA, HOOK, OutboxSink("page"))
    outbox.append([make_event(1)])
    for sink in ("kafka", "hook"):
        outbox.of(sink).move_to_dead_letters(1, f"by {sink}")
    assert numbers(outbox, "page") == [1]
    outbox.of("page").remove([1])
    assert len(outbox) == 0
    outbox.close()
    assert {(each.sink, each.error) for each in read_dead_letters(tmp_path / "o.db")} == {
        ("kafka", "by kafka"),
        ("hook", "by hook"),
    }


def of_confidence(number: int, confidence: float, kind: str, event: int = 1) -> ActionEvent:
    made = make_event(number, kind=kind, event=event)
    return dataclasses.replace(made, confidence=confidence)


def test_an_action_that_a_sink_knows_ends_there_whatever_its_confidence(tmp_path: Path) -> None:
    sure = OutboxSink("page", EventFilter(min_confidence=0.8))
    outbox = opened(tmp_path / "o.db", sure, HOOK)
    outbox.append([of_confidence(1, 0.5, "started"), of_confidence(2, 0.9, "updated")])
    outbox.append([of_confidence(3, 0.5, "started", event=2)])
    outbox.close()
    outbox = opened(tmp_path / "o.db", sure, HOOK)
    outbox.append([of_confidence(4, 0.3, "ended"), of_confidence(5, 0.3, "ended", event=2)])
    assert numbers(outbox, "page") == [2, 4]
    assert numbers(outbox, "hook") == [1, 2, 3, 4, 5]
    outbox.close()


def test_events_that_no_sink_wants_are_not_stored_and_their_numbers_count(tmp_path: Path) -> None:
    only_a = OutboxSink("kafka", EventFilter(cameras=("a",)))
    outbox = opened(tmp_path / "o.db", only_a)
    outbox.append([make_event(1, camera="b"), make_event(1, camera="a")])
    assert len(outbox) == 1
    assert outbox.next_sequence("b") == 2
    outbox.close()
    outbox = opened(tmp_path / "o.db", only_a)
    assert outbox.next_sequence("b") == 2
    assert [event.camera_id for event in outbox.close_open_events()] == ["b", "a"]
    assert [item.event.camera_id for item in outbox.oldest(10)] == ["a", "a"]
    outbox.close()


def test_a_sink_that_is_taken_away_frees_its_events(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "o.db"
    outbox = opened(path, KAFKA, HOOK)
    outbox.append([make_event(number) for number in range(1, 6)])
    outbox.of("hook").remove([1, 2])
    outbox.of("kafka").remove([4, 5])
    outbox.close()
    outbox = opened(path, KAFKA)
    assert "sink hook is no longer configured; 3 events that waited for it were given up" in (
        caplog.text
    )
    assert len(outbox) == 3
    outbox.close()
    outbox = opened(path, KAFKA, OutboxSink("other"), HOOK)  # other has the bit that hook had
    assert [outbox.waiting(name) for name in ("kafka", "other", "hook")] == [3, 0, 0]
    outbox.close()


@pytest.mark.parametrize("others", [(), (HOOK,)])
def test_kafka_that_is_taken_away(
    tmp_path: Path, others: tuple[OutboxSink, ...], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "o.db"
    caplog.set_level(logging.INFO)
    outbox = opened(path, KAFKA, *others)
    outbox.append([make_event(1), make_event(2)])
    outbox.close()
    outbox = opened(path, *others)
    kept = 0 if others else 2
    assert outbox.waiting("kafka") == kept
    assert ("the outbox keeps its events" in caplog.text) == (not others)
    outbox.append([make_event(3)])
    outbox.close()
    outbox = opened(path, *others, KAFKA)
    assert numbers(outbox, "kafka") == ([] if others else [1, 2, 3])
    outbox.close()


def test_freeing_many_events_goes_on_after_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "o.db"
    monkeypatch.setattr("stream.events.sink_registry._AT_ONCE", 3)
    outbox = opened(path, KAFKA, HOOK)
    outbox.append([make_event(number) for number in range(1, 11)])
    outbox.of("kafka").remove(range(1, 11))
    outbox.close()
    frees = []
    from stream.events.sink_rows import Transaction

    free = Transaction.free

    def killed(change: Transaction, bit: int, max_events: int) -> list[str]:
        frees.append(bit)
        if len(frees) == 3:
            raise KeyboardInterrupt
        return free(change, bit, max_events)

    with monkeypatch.context() as patched:
        patched.setattr(Transaction, "free", killed)
        with pytest.raises(KeyboardInterrupt):
            opened(path, KAFKA)
    assert describe(path).sinks == {"kafka": 0, "hook": 4}
    outbox = opened(path, KAFKA)
    assert len(outbox) == 0
    outbox.close()


def test_an_ended_sink_gets_no_events_and_the_others_do(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    outbox = opened(path, HOOK)
    outbox.append([make_event(1), make_event(2, kind="updated")])
    assert outbox.of("hook").end() == {"started": 1, "updated": 1}
    outbox.append([make_event(3)])
    assert outbox.waiting("hook") == 0
    assert [item.event.sequence for item in outbox.oldest(10)] == [3]  # kept: there is no sink left
    outbox.close()
    outbox = opened(path, HOOK)
    outbox.append([make_event(4)])
    assert numbers(outbox, "hook") == [4]
    outbox.close()


def test_the_queries_of_a_sink_use_its_own_index(tmp_path: Path) -> None:
    outbox = opened(tmp_path / "o.db", KAFKA, HOOK)
    outbox.append([make_event(1)])
    outbox.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "o.db")) as database:
        for bit, index in ((0, "waiting_0"), (1, "waiting_1_hook")):
            query = f"select id from events where {waits(bit)} and id > 5 order by id limit 9"
            (plan,) = database.execute(f"explain query plan {query}").fetchall()
            assert plan[-1].endswith(f"INDEX {index} (id>?)")
            where = f"{waits(bit)} and kind = 'updated'"
            query = f"select id, kind from events where {where} order by id limit 9"
            (plan,) = database.execute(f"explain query plan {query}").fetchall()
            assert plan[-1].endswith(f"INDEX {index.replace('waiting', 'updated')}")


def test_a_full_disk_changes_nothing_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections = watched_connections(monkeypatch)
    outbox = opened(tmp_path / "o.db", KAFKA, HOOK, max_events=100)
    outbox.append([make_event(number) for number in range(1, 51)])
    fill_disk(connections[-1])
    with pytest.raises(OutboxError):
        outbox.append([make_event(number) for number in range(51, 151)])
    assert (outbox.waiting("kafka"), outbox.waiting("hook"), len(outbox)) == (50, 50, 50)
    outbox.of("kafka").remove(range(1, 41))  # needs no more room
    free_disk(connections[-1])
    outbox.append([make_event(number) for number in range(51, 151)])
    assert (outbox.waiting("kafka"), outbox.waiting("hook")) == (100, 100)
    outbox.close()


@pytest.mark.parametrize("loses_table", [False, True])
def test_a_damaged_outbox_keeps_who_waits_for_what(tmp_path: Path, loses_table: bool) -> None:
    """Also if the table of sinks cannot be read at the next start."""
    path = tmp_path / "o.db"
    outbox = opened(path, OutboxSink("page"), HOOK, KAFKA)
    events = [make_event(number, kind="updated") for number in range(1, 7)]
    outbox.append([dataclasses.replace(event, traceparent="00-a-b-01") for event in events])
    outbox.of("page").remove([1, 2, 3, 4, 5])
    outbox.of("hook").remove([2])
    outbox.of("kafka").remove([1, 2])
    outbox.close()
    if loses_table:
        execute(path, "delete from sinks")
    execute(path, "update events set waiting = 1 << 40 where id = 6")
    damage_index(path)
    outbox = opened(path, KAFKA, HOOK, OutboxSink("page"))
    with pytest.raises(OutboxError):
        outbox.append([make_event(7, kind="updated")])
    outbox.append([make_event(7, kind="updated")])
    assert numbers(outbox, "hook") == [1, 3, 4, 5, 6, 7]
    assert numbers(outbox, "kafka") == [3, 4, 5, 6, 7]
    assert numbers(outbox, "page") == [6, 7]
    assert {item.event.traceparent for item in outbox.oldest(4)} == {"00-a-b-01"}
    outbox.close()


def test_an_action_of_workers_that_share_cameras_ends_here_if_kafka_does_not_have_it(
    tmp_path: Path,
) -> None:
    """The next worker ends only what has reached Kafka."""
    path = tmp_path / "o.db"
    only_a = OutboxSink("kafka", EventFilter(cameras=("a",)))
    outbox = opened(path, only_a, HOOK)
    for camera in ("a", "b"):
        outbox.append([dataclasses.replace(make_event(1, camera=camera), worker="w", epoch=3)])
    outbox.of("kafka").remove([1])  # it has the start at camera a
    outbox.close()
    outbox = opened(path, only_a, HOOK)
    assert [(event.camera_id, event.reason) for event in outbox.close_open_events()] == [
        ("b", "crash")
    ]
    assert [item.event.camera_id for item in outbox.of("hook").oldest(9)] == ["a", "b", "b"]
    outbox.close()


def test_without_a_list_of_sinks_the_file_says_who_gets_events(tmp_path: Path) -> None:
    """As the command `outbox drain` opens it."""
    path = tmp_path / "o.db"
    outbox = opened(path, KAFKA, OutboxSink("hook", EventFilter(kinds=("ended",))))
    outbox.append([make_event(1)])
    outbox.close()
    outbox = Outbox(OutboxConfig(path=path))
    assert [event.kind for event in outbox.close_open_events()] == ["ended"]
    assert (numbers(outbox, "kafka"), numbers(outbox, "hook")) == ([1, 2], [2])
    outbox.close()
