"""Every record of a topic, read with kafka-python's own consumer."""

from __future__ import annotations

import json
import time

from stream.events.kafka import kafka
from tests.support.waiting import until


def all_records(bootstrap: str, topic: str) -> list:  # type: ignore[type-arg]
    """Every record that the topic holds now, partition by partition."""
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


def make_sequence(record) -> int:  # type: ignore[no-untyped-def]
    """The sequence number of the event in a record."""
    return int(json.loads(record.value)["sequence"])
