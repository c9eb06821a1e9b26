"""The publisher against a real broker, read back with kafka-python's own consumer."""

from __future__ import annotations

import dataclasses
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from configs import OutboxError
from stream.events.config import KafkaConfig, OutboxConfig
from stream.events.consumer import read_topic
from stream.events.kafka import kafka
from stream.events.outbox import Outbox
from stream.events.outbox_reader import read_dead_letters
from stream.events.publisher import Publisher
from tests.support.broker import free_port, running_broker
from tests.support.factory import make_event
from tests.support.schema import check_event
from tests.support.topics import all_records
from tests.support.waiting import until

pytestmark = pytest.mark.broker


def test_events_arrive_with_key_headers_and_schema(tmp_path: Path) -> None:
    with running_broker() as bootstrap:
        outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"))
        published = Counter[str]()
        topic = f"t{free_port()}"
        outbox.append([make_event(number, camera=f"c{number % 3}") for number in range(1, 31)])
        config = KafkaConfig(bootstrap=(bootstrap,), topic=topic)
        publisher = Publisher(config, outbox, lambda count: published.update(n=count))
        publisher.start()
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


def test_an_event_too_large_for_the_broker_becomes_a_dead_letter_and_the_others_are_published(
    tmp_path: Path,
) -> None:
    with running_broker() as bootstrap:
        outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"))
        counts = Counter[str]()
        large = dataclasses.replace(make_event(2), model="m" * 2_000_000)
        outbox.append([make_event(1), large, make_event(3)])
        config = KafkaConfig(bootstrap=(bootstrap,), topic=f"t{free_port()}")
        publisher = Publisher(config, outbox, on_dead_letter=lambda: counts.update(["rejected"]))
        publisher.start()
        assert until(lambda: len(outbox) == 0, 20)
        assert publisher.close()
        outbox.close()
        assert counts == {"rejected": 1}
        assert [
            event.sequence for event in read_topic(config, threading.Event(), follow=False)
        ] == [1, 3]
        assert "MessageSizeTooLargeError" in read_dead_letters(tmp_path / "o.db")[0][1]


def test_a_missing_topic_is_created_with_its_partitions_or_waited_for(tmp_path: Path) -> None:
    with running_broker() as bootstrap:
        topic = f"t{free_port()}"
        failures = Counter[str]()
        outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"))
        outbox.append([make_event(1)])
        strict = Publisher(
            KafkaConfig(bootstrap=(bootstrap,), topic=topic, create_topic=False, drain_seconds=0.1),
            outbox,
            on_failure=lambda error: failures.update([error]),
        )
        strict.start()
        assert until(lambda: failures["no_topic"] > 0, 10)
        assert len(outbox) == 1
        strict.close()
        config = KafkaConfig(bootstrap=(bootstrap,), topic=topic, partitions=3, replication=1)
        publisher = Publisher(config, outbox)
        publisher.start()
        assert until(lambda: len(outbox) == 0, 20)
        publisher.close()
        outbox.close()
        consumer = kafka.KafkaConsumer(bootstrap_servers=bootstrap, group_id=None)
        assert until(lambda: len(consumer.partitions_for_topic(topic) or ()) == 3, 10)
        consumer.close()


def test_acknowledged_events_are_removed_once_the_outbox_can_be_written_again(
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
        publisher.start()
        assert until(lambda: len(outbox) == 0, 20)
        assert failed
        publisher.close()
        outbox.close()
