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

from configs import BrokerError
from stream.events.config import KafkaConfig, OutboxConfig
from stream.events.kafka import kafka
from stream.events.outbox import Outbox
from stream.events.outbox_reader import read_dead_letters
from stream.events.producer_watch import PublisherTimings
from stream.events.publisher import Publisher
from tests.support.factory import make_event
from tests.support.producers import Fate, Refusing, Scripted, calls, scripted
from tests.support.waiting import until

SOON = PublisherTimings(suspect_seconds=0.4, grace_seconds=0.2)


@pytest.mark.slow
def test_a_producer_that_cannot_be_created_is_created_later(tmp_path: Path) -> None:
    stored: list[int] = []
    made: list[bool] = []

    def gives_up(number: int) -> Fate:
        return "store" if number == 1 else ConnectionError("gave up")

    def connect() -> Scripted:
        made.append(True)
        if len(made) in (2, 3):
            raise OSError(24, "Too many open files")
        return Scripted(gives_up if len(made) == 1 else lambda number: "store", stored)

    outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"))
    failures = Counter[str]()
    outbox.append([make_event(1)])
    publisher = Publisher(
        KafkaConfig(bootstrap=("127.0.0.1:1",)),
        outbox,
        on_failure=lambda error: failures.update([error]),
        calls=calls(connect),
    )
    publisher.start()
    assert until(lambda: stored == [1] and len(outbox) == 0, 10)
    outbox.append([make_event(2)])
    assert until(lambda: stored == [1, 2] and len(outbox) == 0, 10)
    assert len(made) == 4
    assert failures == {"ConnectionError": 1, "unexpected": 2}
    assert publisher.close()
    outbox.close()


def test_a_publisher_connects_and_works_only_once_it_is_started(tmp_path: Path) -> None:
    outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"))
    outbox.append([make_event(1)])
    stored: list[int] = []
    made: list[Scripted] = []

    def connect() -> Scripted:
        made.append(Scripted(lambda number: "store", stored))
        return made[-1]

    config = KafkaConfig(bootstrap=("127.0.0.1:1",))
    idle = Publisher(config, outbox, calls=calls(connect))
    assert not idle.is_alive
    assert not idle.close()  # an event is left
    assert (made, stored, len(outbox)) == ([], [], 1)
    publisher = Publisher(config, outbox, calls=calls(connect))
    publisher.start()
    assert until(lambda: len(outbox) == 0, 10)
    assert publisher.silent_seconds < 5
    assert publisher.close()
    assert publisher.close()  # again
    assert not publisher.is_alive
    assert (len(made), stored) == (1, [1])
    outbox.close()


def test_settings_that_cannot_be_used_are_an_error_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret")
    config = KafkaConfig.model_validate(
        {
            "bootstrap": ["127.0.0.1:1"],
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": "PLAIN",
            "sasl_username": "u",
            "sasl_password_file": tmp_path / "password",
        }
    )
    (tmp_path / "password").unlink()
    outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"))
    publisher = Publisher(config, outbox)
    with pytest.raises(BrokerError, match=r"sasl_password_file .* cannot be read"):
        publisher.start()
    assert not publisher.is_alive
    assert publisher.close()
    outbox.close()


def test_closing_publishes_what_waits_even_if_the_outbox_was_locked(tmp_path: Path) -> None:
    Refusing.refused = set()
    Refusing.stored = []
    outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"))
    outbox.append([make_event(1)])
    with contextlib.closing(
        sqlite3.connect(tmp_path / "o.db", isolation_level=None, check_same_thread=False)
    ) as foreign:
        foreign.execute("begin immediate")
        config = KafkaConfig(bootstrap=("127.0.0.1:1",))
        publisher = Publisher(config, outbox, calls=calls(Refusing))
        publisher.start()
        threading.Timer(2.0, lambda: foreign.execute("rollback")).start()
        assert publisher.close()
    assert Refusing.stored == [1]
    outbox.close()


@pytest.mark.slow
def test_only_the_refused_record_becomes_a_dead_letter(tmp_path: Path) -> None:
    Refusing.refused = {7}
    Refusing.stored = []
    outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"))
    counts = Counter[str]()
    outbox.append([make_event(number) for number in range(1, 21)])
    publisher = Publisher(
        KafkaConfig(bootstrap=("h:1",)),
        outbox,
        on_dead_letter=lambda: counts.update(["rejected"]),
        calls=calls(Refusing),
    )
    publisher.start()
    assert until(lambda: len(outbox) == 0, 30)
    publisher.stop()
    assert publisher.join(5)
    outbox.close()
    assert counts == {"rejected": 1}
    dead_letters = read_dead_letters(tmp_path / "o.db")
    assert [json.loads(payload)["sequence"] for payload, _, _ in dead_letters] == [7]
    others = [number for number in range(1, 21) if number != 7]
    assert list(dict.fromkeys(Refusing.stored)) == others  # in order, repetitions aside


@pytest.mark.slow
def test_a_refused_producer_makes_no_dead_letters(tmp_path: Path) -> None:
    fates: list[Callable[[int], Fate]] = [lambda number: "fail"] * 3 + [lambda number: "store"]
    with scripted(tmp_path / "o.db", fates) as (outbox, stored, counts):
        assert until(lambda: len(outbox) == 0, 20)
        assert list(dict.fromkeys(stored)) == [1, 2, 3, 4, 5]
        assert counts == {"replaced": 3}


@pytest.mark.slow
def test_a_silent_producer_is_replaced_once_the_broker_answers_others(tmp_path: Path) -> None:
    is_back = threading.Event()
    asked: list[bool] = []

    def find_topic() -> bool:
        asked.append(is_back.is_set())
        return is_back.is_set() or len(asked) == 1

    fates: list[Callable[[int], Fate]] = [lambda number: "", lambda number: "store"]
    with scripted(tmp_path / "o.db", fates, find_topic, SOON) as (outbox, stored, counts):
        assert until(lambda: len(asked) > 3, 10)
        assert not counts  # nobody would get through
        is_back.set()
        assert until(lambda: len(outbox) == 0, 10)
        assert stored == [1, 2, 3, 4, 5]
        assert counts == {"replaced": 1}


def test_a_producer_that_accepts_no_record_is_replaced(tmp_path: Path) -> None:
    def refuse(number: int) -> Fate:
        raise kafka.errors.SaslAuthenticationFailedError("wrong password")

    fates: list[Callable[[int], Fate]] = [refuse, lambda number: "store"]
    with scripted(tmp_path / "o.db", fates, timings=SOON) as (outbox, stored, counts):
        assert until(lambda: len(outbox) == 0, 10)
        assert stored == [1, 2, 3, 4, 5]
        assert counts == {"replaced": 1}


def test_a_record_without_an_answer_does_not_block_the_others(tmp_path: Path) -> None:
    fates: list[Callable[[int], Fate]] = [lambda number: "" if number == 2 else "store"]
    with scripted(tmp_path / "o.db", fates) as (outbox, stored, counts):
        assert until(lambda: len(outbox) == 1, 10)
        assert [item.event.sequence for item in outbox.oldest(10)] == [2]
        assert stored == [1, 3, 4, 5]
        assert not counts
