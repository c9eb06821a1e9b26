"""What the records of one partition mean for a worker."""

from __future__ import annotations

import pytest

from stream.fleet.partitions import Partition, Phase
from stream.fleet.records import CLAIM_KEY, Place, Record, decode_record
from tests.support.fake_topic import FakeTopic


def read(topic: FakeTopic, number: int = 0) -> Partition:
    """A partition into which everything was read."""
    partition = Partition(number)
    for raw in topic.partitions.get(number, ()):
        partition.note(decoded(raw))
        partition.position = raw.offset + 1
    return partition


def decoded(raw) -> Record:  # type: ignore[no-untyped-def]
    return decode_record(raw.key, raw.value, Place(raw.partition, raw.offset))


@pytest.fixture
def topic() -> FakeTopic:
    made = FakeTopic()
    made.camera(0, "gone")
    made.camera(0, "kept", loop=False)
    made.claim(0, "earlier")
    made.camera(0, "bad")
    made.append(0, b"bad", b"{")
    made.append(0, b"gone", None)
    made.camera(0, "kept", loop=True)
    return made


@pytest.mark.parametrize("is_compacted", [False, True])
def test_the_newest_record_of_a_camera_counts_compacted_or_not(
    topic: FakeTopic, is_compacted: bool
) -> None:
    if is_compacted:
        topic.compact(0)
    partition = read(topic)
    assert partition.cameras.keys() == {"kept"}
    assert partition.cameras["kept"].camera.loop
    assert list(partition.unreadable) == ["bad"]
    assert partition.position == topic.end(0)


def test_a_good_record_after_a_bad_one_makes_the_camera_readable_again(topic: FakeTopic) -> None:
    topic.camera(0, "bad")
    partition = read(topic)
    assert "bad" in partition.cameras
    assert not partition.unreadable


def test_only_claims_after_the_own_one_are_those_of_rivals(topic: FakeTopic) -> None:
    mine = topic.claim(0, "me")
    partition = read(topic)
    partition.claimed(mine, 5.0)
    assert (partition.epoch, partition.rival) == (mine, None)
    assert partition.has_read_claim
    partition.note(decoded(topic.partitions[0][2]))  # the claim of the worker before
    assert partition.rival is None
    topic.claim(0, "other")
    partition.note(decoded(topic.partitions[0][-1]))
    assert partition.rival == "other"


def test_a_claim_that_cannot_be_read_is_one_all_the_same() -> None:
    partition = Partition(0)
    partition.claimed(4, 0.0)
    partition.note(decode_record(CLAIM_KEY, b'{"schema": "claim/9"}', Place(0, 7)))
    assert partition.rival is not None


def test_a_partition_is_sure_once_everything_up_to_the_asked_end_was_read() -> None:
    partition = Partition(0)
    partition.claimed(3, 10.0)
    partition.position = 4
    assert partition.sure_monotonic == 10.0
    partition.ask(6, 20.0)
    partition.settle()
    assert partition.sure_monotonic == 10.0  # offsets 4 and 5 may be claims
    partition.position = 6
    partition.settle()
    assert partition.sure_monotonic == 20.0


def test_a_partition_with_a_rival_is_not_sure_any_more() -> None:
    topic = FakeTopic()
    mine = topic.claim(0, "me")
    topic.claim(0, "other")
    partition = read(topic)
    partition.claimed(mine, 10.0)
    partition.ask(topic.end(0), 20.0)
    partition.settle()
    assert partition.sure_monotonic == 10.0


def test_waiting_gives_the_epoch_up() -> None:
    partition = Partition(0)
    partition.claimed(3, 10.0)
    partition.wait(11.0, 5.0)
    assert (partition.phase, partition.epoch) == (Phase.WAITING, None)
    partition.read_again()
    assert (partition.phase, partition.end) == (Phase.READING, None)
