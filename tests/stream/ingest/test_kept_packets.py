"""The packets that are kept for another decoder: whole groups, within bounds."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av

from stream.ingest.kept_packets import KeptPackets
from stream.types import CodedPacket


def packet(number: int, *, key: bool = False, size: int = 100, step: float = 0.1) -> CodedPacket:
    coded: Any = av.Packet(bytes(size))
    coded.pts = coded.dts = round(number * step * 1000)
    coded.time_base = Fraction(1, 1000)
    coded.is_keyframe = key
    return CodedPacket(coded, 5.0 + number, 0.0)


def kept(**bounds: float) -> KeptPackets:
    return KeptPackets(**({"max_bytes": 1e6} | bounds))


def times(packets: KeptPackets) -> list[int]:
    return [coded.packet.pts for coded in packets.rest()]


def test_a_group_is_kept_until_no_frame_of_it_is_due() -> None:
    packets = kept()
    for number in range(8):
        packets.add(packet(number, key=number % 3 == 0), number)
        packets.forget(max(0, number - 1))  # the decoder holds a frame
        expected = {3: [0, 1, 2, 3], 4: [3, 4], 6: [3, 4, 5, 6], 7: [6, 7]}
        if number in expected:
            assert times(packets) == [each * 100 for each in expected[number]]
    assert packets.packets_before == 6
    assert packets.packets == 8
    assert packets.started_monotonic == 5.0


def test_the_empty_packet_at_the_end_is_kept_but_not_counted() -> None:
    packets = kept()
    packets.add(packet(0, key=True), 0)
    packets.add(packet(1, size=0), 1)
    assert len(packets.rest()) == 2
    assert packets.packets == 1


def test_what_is_too_large_is_dropped_up_to_the_next_key_frame() -> None:
    packets = kept(max_bytes=450.0)
    for number in range(9):
        packets.add(packet(number, key=number in (0, 7)), number)
        assert packets.is_whole is (number not in (4, 5, 6))
    assert times(packets) == [700, 800]
    assert packets.packets_before == 7


def test_a_long_group_is_kept_up_to_a_number_of_packets() -> None:
    packets = kept()
    for number in range(2049):
        packets.add(packet(number, key=number == 0), number)
        assert packets.is_whole is (number < 2048)
    assert packets.rest() == ()


def test_groups_that_are_decoded_again_have_new_tags() -> None:
    packets = kept()
    for number in range(6):
        packets.add(packet(number, key=number % 3 == 0), number)
    packets.renumber(6)
    packets.forget(8)  # a frame of the first group is due
    assert len(packets.rest()) == 6
    packets.forget(9)
    assert times(packets) == [300, 400, 500]


def test_reported_packets_are_forgotten_with_their_group() -> None:
    packets = kept()
    coded = [packet(number, key=number % 3 == 0) for number in range(6)]
    for number, each in enumerate(coded):
        packets.add(each, number)
    for number in (1, 2, 5):
        packets.note_reported(coded[number])
    packets.note_reported(packet(1))  # another one
    assert packets.reported == 3
    packets.forget(3)
    assert packets.reported == 1


def test_a_new_connection_starts_from_nothing() -> None:
    packets = kept(max_bytes=150)
    packets.add(packet(0, key=True), 0)
    packets.add(packet(1), 1)
    assert not packets.is_whole
    packets.restart()
    assert packets.is_whole
    assert packets.started_monotonic is None
    packets.add(packet(7), 2)
    assert packets.packets_before == 0
    assert packets.started_monotonic == 12.0
