"""The publisher and producers that fail, refuse a record or never answer."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

import stream.events.publisher
from stream.events.config import KafkaConfig, OutboxConfig
from stream.events.kafka import kafka
from stream.events.outbox import Outbox, read_rejected
from stream.events.publisher import Publisher
from tests.support.factory import make_event
from tests.support.producers import Refusing, scripted
from tests.support.waiting import until


@pytest.mark.slow
def test_a_producer_that_cannot_be_created_is_created_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Refusing.refused = set()
    Refusing.stored = []
    made: list[bool] = []

    def connect(self: Publisher) -> Refusing:
        made.append(True)
        if len(made) in (2, 3):
            raise OSError(24, "Too many open files")
        return Refusing()

    monkeypatch.setattr(Publisher, "_connect", connect)
    monkeypatch.setattr(Publisher, "_find_topic", lambda self: True)
    monkeypatch.setattr(Publisher, "_abandon", lambda self: None)
    outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"))
    failures = Counter[str]()
    outbox.append([make_event(1)])
    publisher = Publisher(
        KafkaConfig(bootstrap=("127.0.0.1:1",)),
        outbox,
        on_failure=lambda error: failures.update([error]),
    )
    assert until(lambda: Refusing.stored == [1] and len(outbox) == 0, 10)
    publisher._fail(1, ConnectionError("gave up"))
    outbox.append([make_event(2)])
    assert until(lambda: Refusing.stored == [1, 2] and len(outbox) == 0, 10)
    assert len(made) == 4
    assert failures == {"ConnectionError": 1, "unexpected": 2}
    assert publisher.close()
    outbox.close()


def test_closing_publishes_what_waits_even_if_the_outbox_was_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Refusing.refused = set()
    Refusing.stored = []
    monkeypatch.setattr(Publisher, "_connect", lambda self: Refusing())
    monkeypatch.setattr(Publisher, "_find_topic", lambda self: True)
    outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"))
    outbox.append([make_event(1)])
    with contextlib.closing(
        sqlite3.connect(tmp_path / "o.db", isolation_level=None, check_same_thread=False)
    ) as foreign:
        foreign.execute("begin immediate")
        publisher = Publisher(KafkaConfig(bootstrap=("127.0.0.1:1",)), outbox)
        threading.Timer(2.0, lambda: foreign.execute("rollback")).start()
        assert publisher.close()
    assert Refusing.stored == [1]
    outbox.close()


@pytest.mark.slow
def test_only_the_refused_record_becomes_a_dead_letter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Refusing.refused = {7}
    Refusing.stored = []
    monkeypatch.setattr(Publisher, "_connect", lambda self: Refusing())
    monkeypatch.setattr(Publisher, "_find_topic", lambda self: True)
    monkeypatch.setattr(Publisher, "_abandon", lambda self: None)
    outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"))
    counts = Counter[str]()
    outbox.append([make_event(number) for number in range(1, 21)])
    publisher = Publisher(
        KafkaConfig(bootstrap=("h:1",)), outbox, on_rejected=lambda: counts.update(["rejected"])
    )
    assert until(lambda: len(outbox) == 0, 30)
    publisher._stop.set()
    publisher._thread.join(5)
    outbox.close()
    assert counts == {"rejected": 1}
    assert [json.loads(payload)["sequence"] for payload, _ in read_rejected(tmp_path / "o.db")] == [
        7
    ]
    # in order, repetitions aside
    assert list(dict.fromkeys(Refusing.stored)) == [
        number for number in range(1, 21) if number != 7
    ]


@pytest.mark.slow
def test_a_refused_producer_makes_no_dead_letters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fates: list[Callable[[int], str]] = [lambda number: "fail"] * 3 + [lambda number: "store"]
    with scripted(monkeypatch, tmp_path / "o.db", fates) as (outbox, stored, counts):
        assert until(lambda: len(outbox) == 0, 20)
        assert list(dict.fromkeys(stored)) == [1, 2, 3, 4, 5]
        assert counts == {"replaced": 3}


@pytest.mark.slow
def test_a_silent_producer_is_replaced_once_the_broker_answers_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream.events.publisher, "_SUSPECT_SECONDS", 0.4)
    monkeypatch.setattr(stream.events.publisher, "_GRACE_SECONDS", 0.2)
    is_back = threading.Event()
    asked: list[bool] = []

    def find_topic() -> bool:
        asked.append(is_back.is_set())
        return is_back.is_set() or len(asked) == 1

    with scripted(
        monkeypatch, tmp_path / "o.db", [lambda number: "", lambda number: "store"], find_topic
    ) as (outbox, stored, counts):
        assert until(lambda: len(asked) > 3, 10)
        assert not counts  # nobody would get through
        is_back.set()
        assert until(lambda: len(outbox) == 0, 10)
        assert stored == [1, 2, 3, 4, 5]
        assert counts == {"replaced": 1}


def test_a_producer_that_accepts_no_record_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream.events.publisher, "_SUSPECT_SECONDS", 0.4)
    monkeypatch.setattr(stream.events.publisher, "_GRACE_SECONDS", 0.2)

    def refuse(number: int) -> str:
        raise kafka.errors.SaslAuthenticationFailedError("wrong password")

    with scripted(monkeypatch, tmp_path / "o.db", [refuse, lambda number: "store"]) as (
        outbox,
        stored,
        counts,
    ):
        assert until(lambda: len(outbox) == 0, 10)
        assert stored == [1, 2, 3, 4, 5]
        assert counts == {"replaced": 1}


def test_a_record_without_an_answer_does_not_block_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with scripted(
        monkeypatch, tmp_path / "o.db", [lambda number: "" if number == 2 else "store"]
    ) as (outbox, stored, counts):
        assert until(lambda: len(outbox) == 1, 10)
        assert [item.event.sequence for item in outbox.oldest(10)] == [2]
        assert stored == [1, 3, 4, 5]
        assert not counts
