"""Claims on a real broker: their offsets grow, and others see them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from stream.events.config import KafkaConfig
from stream.fleet.claims import Claims, ClaimWatch
from stream.fleet.registry import CameraTopic
from stream.fleet.table import table_of
from stream.fleet.topic import find_compacted_topic
from tests.support.broker import running_broker

pytestmark = pytest.mark.broker
PARTITION = 2


@pytest.fixture(scope="module")
def config() -> Iterator[KafkaConfig]:
    with running_broker() as broker:
        made = KafkaConfig.model_validate(
            {"bootstrap": broker, "topic": "claimed", "partitions": 4}
        )
        find_compacted_topic(made)
        yield made


def claimed(config: KafkaConfig, worker: str) -> int:
    claims = Claims(config, worker)
    offset = claims.send(PARTITION).get(20).offset
    claims.close()
    return int(offset)


def test_a_claim_is_the_newest_until_another_one_follows(config: KafkaConfig) -> None:
    first = claimed(config, "a")
    watch = ClaimWatch(config)
    assert watch.partitions() == 4
    assert watch.claimed_after({(PARTITION, first)}) == set()
    topic = CameraTopic(config)
    topic.put([{"id": f"cam-{n}", "url": "rtsp://10.0.0.1/x"} for n in range(8)], table_of([]))
    topic.close()
    assert watch.claimed_after({(PARTITION, first)}) == set()  # cameras are no claims
    second = claimed(config, "b")
    assert second > first
    assert watch.claimed_after({(PARTITION, first), (PARTITION, second)}) == {(PARTITION, first)}
    late = ClaimWatch(config)
    assert late.claimed_after({(PARTITION, second)}) == set()
    assert late.claimed_after({(PARTITION, first)}) == {(PARTITION, first)}
    watch.close()
    late.close()


def test_a_claim_of_a_topic_that_was_made_again_does_not_count(config: KafkaConfig) -> None:
    watch = ClaimWatch(config)
    assert watch.claimed_after({(3, 1000)}) == {(3, 1000)}
    watch.close()
