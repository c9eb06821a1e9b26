"""Cameras written to and read from a topic of a real broker."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

import pytest

from configs import BrokerError, ConfigError
from stream.events.config import KafkaConfig
from stream.events.kafka import kafka
from stream.fleet.records import CLAIM_KEY, encode_claim
from stream.fleet.registry import CameraTopic, read_records, read_table
from stream.fleet.table import CameraTable, table_of
from stream.fleet.topic import find_compacted_topic
from tests.support.broker import free_port
from tests.support.topics import all_records

EMPTY = table_of([])


def camera(number: int, hop: int = 4) -> dict[str, Any]:
    return {"id": f"cam{number}", "url": f"rtsp://u:${{secret:s}}@10.0.0.1/{number}", "hop": hop}


@pytest.fixture
def config(bootstrap: str) -> KafkaConfig:
    made = KafkaConfig(bootstrap=(bootstrap,), topic=f"t{free_port()}", partitions=8)
    find_compacted_topic(made)
    return made


def hops(table: CameraTable) -> dict[str, int | None]:
    return {key: record.camera.hop for key, record in table.cameras.items()}


@pytest.mark.broker
def test_cameras_are_added_changed_and_removed(config: KafkaConfig) -> None:
    with contextlib.closing(CameraTopic(config)) as topic:
        topic.put([camera(1), camera(2), camera(3)], EMPTY)
        table = read_table(config)
        assert hops(table) == {"cam1": 4, "cam2": 4, "cam3": 4}
        home = table.home("cam2")
        topic.put([camera(2, hop=7)], table)
        topic.remove(["cam3", "unknown"], table)
        table = read_table(config)
        assert hops(table) == {"cam1": 4, "cam2": 7}
        assert table.home("cam2") == home
    # The topic may be compacted or not: what it still holds is in the order of writing.
    stored = {(each.key, each.value) for each in all_records(config.bootstrap[0], config.topic)}
    assert (b"cam3", None) in stored
    newest = json.dumps({"schema": "camera/1", "camera": camera(2, hop=7)}, separators=(",", ":"))
    assert (b"cam2", newest.encode()) in stored


@pytest.mark.broker
def test_the_partition_is_that_of_every_kafka_client(config: KafkaConfig) -> None:
    """Java's clients, and kafka-python's own producer, choose the partition by murmur2."""
    with contextlib.closing(CameraTopic(config)) as topic:
        topic.put([camera(number) for number in range(20)], EMPTY)
    own = read_table(config).places
    other = config.model_copy(update={"topic": config.topic + "b"})
    find_compacted_topic(other)
    producer = kafka.KafkaProducer(bootstrap_servers=config.bootstrap[0])
    for key in own:
        sent = producer.send(other.topic, b"x", key=key.encode()).get(20)
        assert own[key] == {sent.partition}
    producer.close()


@pytest.mark.broker
def test_two_thousand_cameras_are_read_in_seconds(config: KafkaConfig) -> None:
    with contextlib.closing(CameraTopic(config)) as topic:
        for hop in (4, 5):  # every camera twice, as before a compaction
            topic.put([camera(number, hop) for number in range(2000)], read_table(config))
    started = time.monotonic()
    table = read_table(config)
    assert time.monotonic() - started < 10
    assert hops(table) == {f"cam{number}": 5 for number in range(2000)}


@pytest.mark.broker
def test_bad_records_and_claims_beside_good_ones(config: KafkaConfig) -> None:
    producer = kafka.KafkaProducer(bootstrap_servers=config.bootstrap[0])

    def send(key: bytes | None, value: bytes, partition: int = 0) -> None:
        producer.send(config.topic, value, key=key, partition=partition).get(20)

    send(b"bad", b"not JSON")
    send(None, b"{}")
    send(CLAIM_KEY, encode_claim("w1", "t"), 3)
    send(CLAIM_KEY, encode_claim("w2", "t"), 3)
    good = json.dumps({"schema": "camera/1", "camera": camera(1)}).encode()
    send(b"cam1", good, 5)
    send(b"cam2", good, 5)  # under the key of another camera
    producer.close()
    table = read_table(config)
    assert hops(table) == {"cam1": 4}
    assert {each.camera_id: each.place.partition for each in table.unreadable} == {
        "bad": 0,
        "without key": 0,
        "cam2": 5,
    }
    assert table.claims[3].worker == "w2"
    with contextlib.closing(CameraTopic(config)) as topic:
        topic.remove(["bad", "cam2"], table)
        topic.put([camera(2)], table)
    table = read_table(config)
    assert hops(table).keys() == {"cam1", "cam2"}
    assert [each.camera_id for each in table.unreadable] == ["without key"]


@pytest.mark.broker
def test_an_id_in_two_partitions_ends_up_in_one(config: KafkaConfig) -> None:
    producer = kafka.KafkaProducer(bootstrap_servers=config.bootstrap[0])
    for partition, hop in ((2, 1), (6, 2)):
        value = json.dumps({"schema": "camera/1", "camera": camera(1, hop)}).encode()
        producer.send(
            config.topic, value, key=b"cam1", partition=partition, timestamp_ms=1000 * hop
        ).get(20)
    producer.close()
    table = read_table(config)
    assert hops(table) == {"cam1": 2}
    assert table.places["cam1"] == {2, 6}
    with contextlib.closing(CameraTopic(config)) as topic:
        topic.put([camera(1, hop=9)], table)
    table = read_table(config)
    assert hops(table) == {"cam1": 9}
    assert table.places["cam1"] == {6}


@pytest.mark.broker
def test_a_plain_secret_never_enters_the_topic(config: KafkaConfig) -> None:
    bad = {"id": "leak", "url": "rtsp://u:hush@h/1"}
    with contextlib.closing(CameraTopic(config)) as topic:
        with pytest.raises(ConfigError, match="camera leak"):
            topic.put([camera(1), bad], EMPTY)
        topic.put([camera(2)], EMPTY)
    assert hops(read_table(config)).keys() == {"cam2"}
    assert b"hush" not in b"".join(
        each.value for each in all_records(config.bootstrap[0], config.topic)
    )


@pytest.mark.broker
def test_a_missing_topic_is_named(bootstrap: str) -> None:
    config = KafkaConfig(bootstrap=(bootstrap,), topic=f"missing{free_port()}")
    with pytest.raises(BrokerError, match=f"'{config.topic}' does not exist"):
        read_records(config)


def test_an_absent_broker_ends_reading_and_writing_in_time() -> None:
    config = KafkaConfig(bootstrap=(f"127.0.0.1:{free_port()}",), topic="cams")
    started = time.monotonic()
    with pytest.raises(BrokerError, match="cannot be reached"):
        read_table(config, timeout_seconds=1.0)
    with (
        contextlib.closing(CameraTopic(config, timeout_seconds=1.0)) as topic,
        pytest.raises(BrokerError, match="cannot be reached"),
    ):
        topic.put([camera(1)], EMPTY)
    assert time.monotonic() - started < 20
