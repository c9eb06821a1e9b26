"""What gives way when a decoder is behind: whole groups of pictures, the oldest first."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from stream.ingest.packet_queue import PacketQueue
from stream.types import CodedPacket


@dataclasses.dataclass
class Coded:
    """A packet as PyAV shows it, as far as the queue looks."""

    number: int
    is_keyframe: bool
    size: int = 100


def coded(number: int, *, key: bool, at: float) -> CodedPacket:
    return CodedPacket(Coded(number, key), at, at)


def drained(queue: PacketQueue) -> list[CodedPacket]:
    return [
        queue.take(0) or CodedPacket(SimpleNamespace(number=-1), 0, 0) for _ in range(len(queue))
    ]


def test_the_oldest_groups_are_dropped_and_leave_a_mark() -> None:
    dropped: list[int] = []
    queue = PacketQueue(max_seconds=2.0, max_bytes=1e9, on_dropped=dropped.append)
    for number in range(35):  # a key frame every second, ten packets a second
        queue.put(coded(number, key=number % 10 == 0, at=number / 10))
    waiting = drained(queue)
    assert waiting[0].packet is None
    assert waiting[0].lost == "dropped"
    assert [each.packet.number for each in waiting[1:]] == list(range(20, 35))
    assert sum(dropped) == 20


def test_a_group_that_is_too_long_is_dropped_as_a_whole() -> None:
    dropped: list[int] = []
    queue = PacketQueue(max_seconds=1.0, max_bytes=1e9, on_dropped=dropped.append)
    for number in range(30):
        queue.put(coded(number, key=number in (0, 25), at=number / 10))
    waiting = drained(queue)
    assert [each.packet.number for each in waiting if each.packet] == [25, 26, 27, 28, 29]
    assert sum(dropped) == 25


def test_bytes_are_bounded_too() -> None:
    queue = PacketQueue(max_seconds=1e9, max_bytes=1000.0)
    for number in range(100):
        queue.put(coded(number, key=number % 5 == 0, at=0.0))
        assert sum(each.size for each in queue._waiting) <= 1000
    assert drained(queue)[-1].packet.number == 99


def test_the_end_is_reported_once_everything_is_taken() -> None:
    queue = PacketQueue(max_seconds=1.0, max_bytes=1e9)
    queue.put(coded(0, key=True, at=0.0))
    queue.close()
    assert not queue.is_over
    assert queue.take(0) is not None
    assert queue.is_over
    assert queue.take(10.0) is None  # and it does not wait


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 8), st.integers(0, 3)), max_size=200))
def test_the_packets_that_stay_can_always_be_decoded(steps: list[tuple[bool, int, int]]) -> None:
    """After a mark comes a key frame; without one, packets follow each other without a gap."""
    dropped: list[int] = []
    queue = PacketQueue(max_seconds=1.0, max_bytes=1500.0, on_dropped=dropped.append)
    taken = []
    at = 0.0
    for number, (key, tenths, takes) in enumerate(steps):
        at += tenths / 10
        queue.put(coded(number, key=key or number == 0, at=at))
        taken += [each for each in (queue.take(0) for _ in range(takes)) if each is not None]
    taken += drained(queue)
    expected = 0
    for each in taken:
        if each.packet is None:
            expected = -1
        elif expected == -1:
            assert each.packet.is_keyframe
            expected = each.packet.number + 1
        else:
            assert each.packet.number == expected
            expected += 1
    assert sum(dropped) + sum(each.packet is not None for each in taken) == len(steps)
