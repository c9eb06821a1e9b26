"""The publisher against a real broker, read back with kafka-python's own consumer."""

import contextlib
import dataclasses
import itertools
import json
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import pytest

import stream.events.publisher
from configs import BrokerError, OutboxError
from stream.events.config import KafkaConfig, OutboxConfig
from stream.events.consumer import read_topic
from stream.events.kafka import kafka
from stream.events.outbox import Outbox, read_rejected
from stream.events.publisher import Publisher
from tests.support.broker import Proxy, certificate, free_port, running_broker
from tests.support.factory import make_event
from tests.support.sasl import SaslProxy
from tests.support.schema import check_event
from tests.support.waiting import until

KINDS = ("started", "updated", "ended")


def all_records(bootstrap: str, topic: str) -> list:  # type: ignore[type-arg]
    consumer = kafka.KafkaConsumer(
        bootstrap_servers=bootstrap, group_id=None, enable_auto_commit=False
    )
    try:
        assert until(lambda: bool(consumer.partitions_for_topic(topic)), 15)
        partitions = [
            kafka.TopicPartition(topic, number)
            for number in sorted(consumer.partitions_for_topic(topic))
        ]
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        records: list = []  # type: ignore[type-arg]
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            for batch in consumer.poll(timeout_ms=100).values():
                records += batch
            if all(
                consumer.highwater(p) is not None and consumer.position(p) >= consumer.highwater(p)
                for p in partitions
            ):
                break
        return records
    finally:
        consumer.close()


def test_events_arrive_with_key_headers_and_schema(tmp_path: Path) -> None:
    with running_broker() as bootstrap:
        outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"))
        published = Counter[str]()
        topic = f"t{free_port()}"
        outbox.append([make_event(number, camera=f"c{number % 3}") for number in range(1, 31)])
        config = KafkaConfig(bootstrap=(bootstrap,), topic=topic)
        publisher = Publisher(config, outbox, lambda count: published.update(n=count))
        outbox.append([make_event(31, camera="c0")])
        assert until(lambda: len(outbox) == 0, 20)
        assert publisher.close()
        assert published["n"] == 31
        records = all_records(bootstrap, topic)
        assert len(records) == 31
        for record in records:
            check_event(record.value)
        sample = next(record for record in records if record.key == b"c2")
        event = make_event(2, camera="c2")
        assert sample.value == event.to_json().encode()
        assert dict(sample.headers) == {
            "schema": b"action-event/1",
            "event_id": event.event_id.encode(),
        }
        read = list(read_topic(config, threading.Event(), follow=False))
        assert {event.sequence for event in read} == set(range(1, 32))
        outbox.close()


def test_a_broker_cut_off_for_20_seconds_gets_everything_once_and_in_order(tmp_path: Path) -> None:
    port = free_port()
    with running_broker(advertised_port=port) as bootstrap:
        proxy = Proxy(int(bootstrap.split(":")[1]), port)
        outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"))
        failures = Counter[str]()
        config = KafkaConfig(bootstrap=(f"127.0.0.1:{port}",), topic="cut")
        publisher = Publisher(config, outbox, on_failure=lambda error: failures.update([error]))
        expected: dict[str, list[int]] = {"a": [], "b": []}
        stop = threading.Event()

        def announce() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                for camera, sent in expected.items():
                    outbox.append(
                        [
                            make_event(
                                number, camera=camera, event=number // 3, kind=KINDS[number % 3]
                            )
                        ]
                    )
                    sent.append(number)
                time.sleep(0.05)

        announcer = threading.Thread(target=announce)
        announcer.start()
        assert until(lambda: len(expected["a"]) > 20 and len(outbox) < 10, 20)
        proxy.lose_replies()
        time.sleep(0.3)
        proxy.cut()
        time.sleep(20)
        waiting = len(outbox)
        proxy.restore()
        stop_after = len(expected["a"]) + 20
        assert until(lambda: len(expected["a"]) > stop_after, 20)
        stop.set()
        announcer.join()
        assert until(lambda: len(outbox) == 0, 30)
        assert publisher.close()
        records = all_records(f"127.0.0.1:{port}", "cut")
        proxy.cut()
        outbox.close()
    assert waiting > 100  # they really had to wait
    for camera, sent in expected.items():
        assert [
            make_sequence(record) for record in records if record.key == camera.encode()
        ] == sent
    kinds = Counter((record.value, record.key) for record in records)
    assert max(kinds.values()) == 1


def make_sequence(record) -> int:  # type: ignore[no-untyped-def]
    import json

    return int(json.loads(record.value)["sequence"])


def test_without_a_broker_nothing_hangs_and_nothing_is_lost(tmp_path: Path) -> None:
    outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"))
    failures = Counter[str]()
    outbox.append([make_event(1)])
    config = KafkaConfig(bootstrap=(f"127.0.0.1:{free_port()}",), flush_seconds=0.5)
    publisher = Publisher(config, outbox, on_failure=lambda error: failures.update([error]))
    assert until(lambda: failures["no_metadata"] > 0, 10)
    begun = time.monotonic()
    assert not publisher.close()
    assert time.monotonic() - begun < 10
    assert len(outbox) == 1
    outbox.close()


def test_a_reader_leaves_repetitions_out(tmp_path: Path) -> None:
    with running_broker() as bootstrap:
        config = KafkaConfig(bootstrap=(bootstrap,), topic=f"t{free_port()}")
        # the second outbox sends the same events again, as a process that died may
        for attempt in range(2):
            outbox = Outbox(OutboxConfig(path=tmp_path / f"{attempt}.db"))
            outbox.append([make_event(1), make_event(2, event=1, kind="ended")])
            publisher = Publisher(config, outbox)
            assert until(lambda box=outbox: len(box) == 0, 20)  # type: ignore[misc]
            publisher.close()
            outbox.close()
        assert len(all_records(bootstrap, config.topic)) == 4
        assert [
            event.sequence for event in read_topic(config, threading.Event(), follow=False)
        ] == [1, 2]


def test_a_topic_or_broker_that_is_not_there_is_named() -> None:
    with pytest.raises(BrokerError, match="cannot be reached"):
        list(
            read_topic(
                KafkaConfig(bootstrap=(f"127.0.0.1:{free_port()}",)),
                threading.Event(),
                follow=False,
                timeout_seconds=1.0,
            )
        )


def test_a_password_is_never_shown() -> None:
    login = {"sasl_mechanism": "PLAIN", "sasl_username": "u", "sasl_password": "hunter2"}
    config = KafkaConfig.model_validate({"security_protocol": "SASL_PLAINTEXT"} | login)
    assert "hunter2" not in repr(config)
    assert "hunter2" not in config.model_dump_json()
    assert config.connection()["sasl_plain_password"] == "hunter2"


def test_an_event_too_large_for_the_broker_is_set_aside_and_the_others_go_on(
    tmp_path: Path,
) -> None:
    with running_broker() as bootstrap:
        outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"))
        counts = Counter[str]()
        large = dataclasses.replace(make_event(2), model="m" * 2_000_000)
        outbox.append([make_event(1), large, make_event(3)])
        config = KafkaConfig(bootstrap=(bootstrap,), topic=f"t{free_port()}")
        publisher = Publisher(config, outbox, on_rejected=lambda: counts.update(["rejected"]))
        assert until(lambda: len(outbox) == 0, 20)
        assert publisher.close()
        outbox.close()
        assert counts == {"rejected": 1}
        assert [
            event.sequence for event in read_topic(config, threading.Event(), follow=False)
        ] == [1, 3]
        assert "MessageSizeTooLargeError" in read_rejected(tmp_path / "o.db")[0][1]


def test_a_topic_is_made_with_its_partitions_or_waited_for(tmp_path: Path) -> None:
    with running_broker() as bootstrap:
        topic = f"t{free_port()}"
        failures = Counter[str]()
        outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"))
        outbox.append([make_event(1)])
        strict = Publisher(
            KafkaConfig(bootstrap=(bootstrap,), topic=topic, create_topic=False, flush_seconds=0.1),
            outbox,
            on_failure=lambda error: failures.update([error]),
        )
        assert until(lambda: failures["no_topic"] > 0, 10)
        assert len(outbox) == 1
        strict.close()
        config = KafkaConfig(bootstrap=(bootstrap,), topic=topic, partitions=3, replication=1)
        publisher = Publisher(config, outbox)
        assert until(lambda: len(outbox) == 0, 20)
        publisher.close()
        outbox.close()
        consumer = kafka.KafkaConsumer(bootstrap_servers=bootstrap, group_id=None)
        assert until(lambda: len(consumer.partitions_for_topic(topic) or ()) == 3, 10)
        consumer.close()


def test_a_reader_skips_what_is_no_event_and_a_group_goes_on_where_it_left_off(
    tmp_path: Path,
) -> None:
    with running_broker() as bootstrap:
        config = KafkaConfig(bootstrap=(bootstrap,), topic=f"t{free_port()}")
        producer = kafka.KafkaProducer(bootstrap_servers=bootstrap)
        for value in (
            make_event(1).to_json().encode(),
            b"not an event",
            make_event(2).to_json().encode(),
        ):
            producer.send(config.topic, value, key=b"cam").get(10)
        assert [
            event.sequence
            for event in read_topic(config, threading.Event(), follow=False, group="g")
        ] == [1, 2]
        producer.send(config.topic, make_event(3).to_json().encode(), key=b"cam").get(10)
        producer.close()
        assert [
            event.sequence
            for event in read_topic(config, threading.Event(), follow=False, group="g")
        ] == [3]


def test_a_reader_that_stops_within_a_poll_has_read_what_it_was_given_before(
    tmp_path: Path,
) -> None:
    with running_broker() as bootstrap:
        config = KafkaConfig(bootstrap=(bootstrap,), topic=f"t{free_port()}")
        producer = kafka.KafkaProducer(bootstrap_servers=bootstrap)
        for number in range(1, 7):
            producer.send(config.topic, make_event(number).to_json().encode(), key=b"cam").get(10)
        producer.close()
        reading = read_topic(config, threading.Event(), follow=False, group="g")
        assert [next(reading).sequence for _ in range(4)] == [1, 2, 3, 4]
        reading.close()  # type: ignore[attr-defined]
        # Nobody asked for what follows the fourth: it may not have been dealt with.
        assert [
            event.sequence
            for event in read_topic(config, threading.Event(), follow=False, group="g")
        ] == [4, 5, 6]


def test_events_over_tls_and_only_to_a_broker_that_can_be_trusted(tmp_path: Path) -> None:
    made = certificate(tmp_path)
    if made is None:
        pytest.skip("no openssl: apt-get install openssl")
    context, authority = made
    port = free_port()
    with running_broker(advertised_port=port) as bootstrap:
        proxy = Proxy(int(bootstrap.split(":")[1]), port, tls=context)
        outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"))
        failures = Counter[str]()
        outbox.append([make_event(1)])
        address = (f"127.0.0.1:{port}",)
        doubtful = Publisher(
            KafkaConfig(bootstrap=address, security_protocol="SSL", flush_seconds=0.1),
            outbox,
            on_failure=lambda error: failures.update([error]),
        )
        assert until(lambda: bool(failures), 20)
        doubtful.close()
        assert len(outbox) == 1
        config = KafkaConfig(bootstrap=address, security_protocol="SSL", ssl_cafile=str(authority))
        publisher = Publisher(config, outbox)
        assert until(lambda: len(outbox) == 0, 20)
        publisher.close()
        outbox.close()
        assert [
            event.sequence for event in read_topic(config, threading.Event(), follow=False)
        ] == [1]
        proxy.cut()


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_events_of_whoever_logs_in_and_of_nobody_else(
    mechanism: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = certificate(tmp_path)
    if made is None:
        pytest.skip("no openssl: apt-get install openssl")
    context, authority = made
    port = free_port()
    with running_broker(advertised_port=port) as bootstrap:
        proxy = SaslProxy(
            int(bootstrap.split(":")[1]),
            port,
            users={"cidc": "right"},
            mechanism=mechanism,
            tls=context,
        )
        outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"))
        failures = Counter[str]()
        outbox.append([make_event(1)])

        for password in ("right", "wrong"):
            (tmp_path / password).write_text(password + "\n")

        def settings(password: str) -> KafkaConfig:
            return KafkaConfig.model_validate(
                {
                    "bootstrap": [f"127.0.0.1:{port}"],
                    "security_protocol": "SASL_SSL",
                    "ssl_cafile": str(authority),
                    "sasl_mechanism": mechanism,
                    "sasl_username": "cidc",
                    "sasl_password_file": tmp_path / password,
                    "flush_seconds": 0.1,
                }
            )

        wrong = Publisher(
            settings("wrong"), outbox, on_failure=lambda error: failures.update([error])
        )
        assert until(lambda: proxy.logins["refused"] > 1 and bool(failures), 30)
        wrong.close()
        assert len(outbox) == 1
        assert not proxy.logins["let in"]
        publisher = Publisher(settings("right"), outbox)
        assert until(lambda: len(outbox) == 0, 30)
        publisher.close()
        outbox.close()
        assert proxy.logins["let in"]
        assert [
            event.sequence
            for event in read_topic(settings("right"), threading.Event(), follow=False)
        ] == [1]
        with pytest.raises(BrokerError):
            list(read_topic(settings("wrong"), threading.Event(), follow=False, timeout_seconds=3))
        assert proxy.logins["without login"] == 0
        proxy.cut()
    assert "wrong" not in caplog.text
    assert "right" not in caplog.text


def test_a_producer_that_cannot_be_made_is_made_later(
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


def test_closing_flushes_through_a_locked_outbox(
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


Future = kafka.future.Future


class Refusing:
    """A producer that fails as kafka-python's does: one refused record takes all that are held,
    and all that follow, with it.
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


def test_one_refused_record_is_set_aside_and_no_other(
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


class Scripted:
    """A producer that does with each record what it is told: store it, fail with KafkaError, or
    never say anything.
    """

    def __init__(self, fate: Callable[[int], str], stored: list[int]) -> None:
        self._fate = fate
        self._stored = stored

    def send(self, topic: str, value: bytes, key: bytes, headers: object) -> Future:
        future = Future()
        number = json.loads(value)["sequence"]
        if self._fate(number) == "store":
            self._stored.append(number)
            future.success(None)
        elif self._fate(number) == "fail":
            future.failure(kafka.errors.KafkaError("Unexpected error in InitProducerIdResponse"))
        return future

    def close(self, timeout: float) -> None:
        """Nothing to do."""


@contextlib.contextmanager
def scripted(
    monkeypatch: pytest.MonkeyPatch,
    path: Path,
    fates: list[Callable[[int], str]],
    find_topic: Callable[[], bool] = lambda: True,
) -> Iterator[tuple[Outbox, list[int], Counter[str]]]:
    """A publisher whose first, second, ... producers do as told, the last for ever; gives its
    outbox, what was stored, and counts.
    """
    made = itertools.count()
    stored = list[int]()
    counts = Counter[str]()
    monkeypatch.setattr(
        Publisher, "_connect", lambda self: Scripted(fates[min(next(made), len(fates) - 1)], stored)
    )
    monkeypatch.setattr(Publisher, "_find_topic", lambda self: find_topic())
    monkeypatch.setattr(Publisher, "_abandon", lambda self: counts.update(["replaced"]))
    outbox = Outbox(OutboxConfig(path=path))
    outbox.append([make_event(number) for number in range(1, 6)])
    publisher = Publisher(
        KafkaConfig(bootstrap=("h:1",)), outbox, on_rejected=lambda: counts.update(["rejected"])
    )
    try:
        yield outbox, stored, counts
    finally:
        publisher._stop.set()
        publisher._thread.join(5)
        outbox.close()


def test_a_broker_that_refuses_the_producer_is_no_reason_to_set_events_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fates: list[Callable[[int], str]] = [lambda number: "fail"] * 3 + [lambda number: "store"]
    with scripted(monkeypatch, tmp_path / "o.db", fates) as (outbox, stored, counts):
        assert until(lambda: len(outbox) == 0, 20)
        assert list(dict.fromkeys(stored)) == [1, 2, 3, 4, 5]
        assert counts == {"replaced": 3}


def test_a_producer_that_gets_nothing_through_is_replaced_when_others_would(
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


def test_a_producer_that_never_took_a_record_is_replaced_too(
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


def test_a_record_that_gets_no_answer_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with scripted(
        monkeypatch, tmp_path / "o.db", [lambda number: "" if number == 2 else "store"]
    ) as (outbox, stored, counts):
        assert until(lambda: len(outbox) == 1, 10)
        assert [item.event.sequence for item in outbox.oldest(10)] == [2]
        assert stored == [1, 3, 4, 5]
        assert not counts


def test_a_broker_that_comes_back_elsewhere_and_empty_gets_the_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream.events.publisher, "_SUSPECT_SECONDS", 2.0)
    monkeypatch.setattr(stream.events.publisher, "_GRACE_SECONDS", 1.0)
    port = free_port()
    config = KafkaConfig(
        bootstrap=(f"127.0.0.1:{port}",), topic=f"t{port}", request_timeout_seconds=1
    )
    outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"))
    with running_broker() as bootstrap:
        proxy = Proxy(int(bootstrap.split(":")[1]), port)  # the address that does not change
        outbox.append([make_event(1)])
        publisher = Publisher(config, outbox)
        assert until(lambda: len(outbox) == 0, 20)
    outbox.append([make_event(2), make_event(3)])
    with running_broker() as bootstrap:
        proxy._upstream = int(bootstrap.split(":")[1])
        assert until(lambda: len(outbox) == 0, 40)
        publisher.close()
        assert [
            event.sequence for event in read_topic(config, threading.Event(), follow=False)
        ] == [2, 3]
        proxy.cut()
    outbox.close()


def test_acknowledgements_survive_an_outbox_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_broker() as bootstrap:
        outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"))
        outbox.append([make_event(1), make_event(2)])
        remove = outbox.remove
        failed = []

        def fails_once(ids: Sequence[int]) -> None:
            if not failed:
                failed.append(ids)
                raise OutboxError("disk full")
            remove(ids)

        monkeypatch.setattr(outbox, "remove", fails_once)
        publisher = Publisher(KafkaConfig(bootstrap=(bootstrap,), topic=f"t{free_port()}"), outbox)
        assert until(lambda: len(outbox) == 0, 20)
        assert failed
        publisher.close()
        outbox.close()


def test_looking_for_a_broker_that_is_away_leaves_no_thread_behind() -> None:
    from stream.events.publisher import _admin

    before = threading.active_count()
    for _ in range(3):
        with pytest.raises(kafka.errors.KafkaError):
            _admin(KafkaConfig(bootstrap=(f"127.0.0.1:{free_port()}",)))
    assert until(lambda: threading.active_count() <= before, 5)
