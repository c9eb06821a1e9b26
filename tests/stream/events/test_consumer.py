"""Reading events back from a topic of a real broker."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from configs import BrokerError
from stream.events.config import KafkaConfig, OutboxConfig
from stream.events.consumer import read_topic
from stream.events.kafka import kafka
from stream.events.outbox import Outbox
from stream.events.publisher import Publisher
from tests.support.broker import free_port, running_broker
from tests.support.factory import make_event
from tests.support.topics import all_records
from tests.support.waiting import until


@pytest.mark.broker
def test_a_reader_skips_repeated_events(tmp_path: Path) -> None:
    with running_broker() as bootstrap:
        config = KafkaConfig(bootstrap=(bootstrap,), topic=f"t{free_port()}")
        # the second outbox sends the same events again, as a process that died may
        for attempt in range(2):
            outbox = Outbox(OutboxConfig(path=tmp_path / f"{attempt}.db"))
            outbox.append([make_event(1), make_event(2, event=1, kind="ended")])
            publisher = Publisher(config, outbox)
            publisher.start()
            assert until(lambda box=outbox: len(box) == 0, 20)  # type: ignore[misc]
            publisher.close()
            outbox.close()
        assert len(all_records(bootstrap, config.topic)) == 4
        assert [
            event.sequence for event in read_topic(config, threading.Event(), follow=False)
        ] == [1, 2]


def test_an_absent_broker_is_a_clear_error() -> None:
    with pytest.raises(BrokerError, match="cannot be reached"):
        list(
            read_topic(
                KafkaConfig(bootstrap=(f"127.0.0.1:{free_port()}",)),
                threading.Event(),
                follow=False,
                timeout_seconds=1.0,
            )
        )


@pytest.mark.slow
@pytest.mark.broker
def test_a_reader_skips_other_records_and_a_group_continues_where_it_stopped(
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


@pytest.mark.slow
@pytest.mark.broker
def test_a_reader_that_stops_within_a_poll_commits_only_what_it_handled(
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
