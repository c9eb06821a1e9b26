"""The private parts of kafka-python that are used: still there, and still needed."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from stream.events.config import KafkaConfig
from stream.events.kafka import (
    abandon_producer,
    connect_admin,
    connect_member,
    connect_producer,
    kafka,
    last_heartbeat,
    partition_of_key,
)
from tests.support.broker import Proxy, free_port, running_broker
from tests.support.waiting import until

# Each private part that `stream/events/kafka.py` uses, from a producer or an admin client on.
PRODUCER_PARTS = (
    "_unregister_cleanup",
    "_sender",
    "_sender.force_close",
    "_sender.join",
    "_closed",
)
ADMIN_PARTS = ("_net",)
MEMBER_PARTS = ("_coordinator.heartbeat.last_receive",)
CLOSE_PARAMETERS = ["self", "timeout", "null_logger"]


def missing(thing: Any, parts: tuple[str, ...]) -> list[str]:
    """Return the parts that this object does not have."""
    absent = object()
    found = []
    for part in parts:
        at = thing
        for name in part.split("."):
            at = getattr(at, name, absent)
        if at is absent:
            found.append(part)
    return found


def closes(producer: Any, timeout_seconds: float) -> bool:
    try:
        producer.close(timeout=timeout_seconds)
    except kafka.errors.KafkaTimeoutError:
        return False
    return True


def absent_broker() -> KafkaConfig:
    return KafkaConfig(bootstrap=(f"127.0.0.1:{free_port()}",))


@pytest.fixture
def producer() -> Iterator[Any]:
    """A producer whose broker is away."""
    made = connect_producer(absent_broker())
    yield made
    made.close(timeout=1)


def test_a_producer_has_the_private_parts_that_abandon_it(producer: Any) -> None:
    gone = missing(producer, PRODUCER_PARTS)
    assert not gone, (
        f"kafka-python {kafka.__version__}: KafkaProducer has no {gone} any more; look for another"
        " way in abandon_producer (stream/events/kafka.py), or exclude this release"
    )


def test_a_producer_still_has_no_public_way_to_be_abandoned() -> None:
    parameters = list(inspect.signature(kafka.KafkaProducer.close).parameters)
    names = {"abort", "abandon", "purge", "force_close"} & set(dir(kafka.KafkaProducer))
    assert (parameters, names) == (CLOSE_PARAMETERS, set()), (
        f"kafka-python {kafka.__version__}: KafkaProducer.close takes {parameters}, and there is"
        f" {names or 'nothing new'}; if that gives up records, use it in abandon_producer"
        " (stream/events/kafka.py)"
    )


def test_an_abandoned_producer_leaves_no_thread_behind() -> None:
    before = set(threading.enumerate())
    producer = connect_producer(absent_broker())
    assert set(threading.enumerate()) > before
    abandon_producer(producer)
    assert until(lambda: set(threading.enumerate()) <= before, 5)
    producer.close()  # as its destructor does: must not wait


@pytest.mark.broker
def test_only_abandoning_ends_a_producer_whose_record_has_no_answer() -> None:
    port = free_port()
    with running_broker(advertised_port=port) as bootstrap:
        proxy = Proxy(int(bootstrap.split(":")[1]), port)
        before = set(threading.enumerate())
        producer = connect_producer(KafkaConfig(bootstrap=(f"127.0.0.1:{port}",)))
        producer.send("t", b"first").get(20)
        proxy.lose_replies()
        waiting = producer.send("t", b"second")
        mine = {thread for thread in set(threading.enumerate()) - before if "kafka" in thread.name}
        assert mine
        for seconds in (0, 1):
            assert not closes(producer, seconds), (
                f"kafka-python {kafka.__version__}: close() gives up records now; use it in"
                " abandon_producer (stream/events/kafka.py)"
            )
        assert all(thread.is_alive() for thread in mine)
        abandon_producer(producer)
        assert until(lambda: not any(thread.is_alive() for thread in mine), 5)
        assert waiting.failed()
        proxy.cut()


@pytest.mark.slow
def test_looking_for_an_absent_broker_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    for _ in range(3):
        with pytest.raises(kafka.errors.KafkaError):
            connect_admin(absent_broker())
    assert until(lambda: threading.active_count() <= before, 5)


def test_an_admin_client_that_cannot_connect_still_leaves_its_thread_behind() -> None:
    before = set(threading.enumerate())
    admin = kafka.KafkaAdminClient.__new__(kafka.KafkaAdminClient)
    with pytest.raises(kafka.errors.KafkaError):
        kafka.KafkaAdminClient.__init__(
            admin, **absent_broker().connection(), bootstrap_timeout_ms=500
        )
    gone = missing(admin, ADMIN_PARTS)
    left = set(threading.enumerate()) - before
    if not gone:
        admin._closed = False
        admin.close()
    assert not gone, (
        f"kafka-python {kafka.__version__}: KafkaAdminClient has no {gone} any more; look for"
        " another way in connect_admin (stream/events/kafka.py), or exclude this release"
    )
    assert left, (
        f"kafka-python {kafka.__version__}: KafkaAdminClient cleans up after itself; call it"
        " directly in connect_admin (stream/events/kafka.py)"
    )


def test_a_member_tells_when_its_last_heartbeat_was_answered() -> None:
    member = connect_member(absent_broker(), group="g", session_seconds=10, instance=None)
    try:
        assert not missing(member, MEMBER_PARTS)
        assert last_heartbeat(member) == float("-inf")
    finally:
        member.close(timeout_ms=100)


def test_a_key_belongs_where_other_producers_put_it() -> None:
    # computed by Kafka's own client for Java: Utils.toPositive(Utils.murmur2(key)) % 64
    assert [
        partition_of_key(key, 2**31) for key in (b"21", b"foobar", b"a-little-bit-long-string")
    ] == [
        -973932308 & 0x7FFFFFFF,
        -790332482 & 0x7FFFFFFF,
        -985981536 & 0x7FFFFFFF,
    ]
