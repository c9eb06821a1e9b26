"""One camera on its way through NVDEC (a fake): what is kept, and when it is given up."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import Any

import pytest

from stream.ingest.config import SourceConfig
from stream.ingest.decodable import SoftwareReason
from stream.ingest.decoder import Decoder
from stream.ingest.decoder_pool import DecoderPool
from stream.ingest.packet_path import PacketPath
from stream.ingest.stream_look import StreamLook
from stream.types import BreakReason, CodedPacket, DecodedFrame
from tests.support.coded_video import write_video
from tests.support.fake_nvc import FakeNvc
from tests.support.nvdec_cameras import coded_file

HOLE = CodedPacket(None, 200.0, 0.0, lost=BreakReason.DROPPED)


@pytest.fixture
def packets(tmp_path: Path) -> list[CodedPacket]:
    options = {"bf": "2", "sc_threshold": "0"}
    path = write_video(tmp_path / "a.mp4", "libx264", range(48), size=(176, 144), gop=12, **options)
    return coded_file(path)


def path_through(pool: DecoderPool, **options: Any) -> PacketPath:
    return PacketPath(
        pool,
        SourceConfig(),
        short_side=144,
        **({"is_stopped": lambda: False} | options),
    )


def seconds(frames: list[DecodedFrame]) -> list[float]:
    return [frame.pts_seconds for frame in frames]


def test_groups_are_kept_while_their_frames_are_due(
    pool: DecoderPool, packets: list[CodedPacket]
) -> None:
    path = path_through(pool)
    given: list[float] = []
    keys = [index for index, coded in enumerate(packets) if coded.is_key]
    assert len(keys) == 4
    for index, coded in enumerate(packets[:-1]):
        given += seconds(path.push(coded))
        due = {
            float(each.packet.pts * each.packet.time_base) for each in packets[: index + 1]
        } - set(given)
        kept = path.kept.rest()
        assert due <= {float(each.packet.pts * each.packet.time_base) for each in kept}
        latest_key = max(key for key in keys if key <= index)
        assert kept[-1] is coded
        assert len(kept) <= index + 1 - latest_key + 12
    assert path.problem is None
    path.close()


def test_a_decoder_that_must_sort_after_all_is_opened_again(
    pool: DecoderPool,
    nvc: FakeNvc,
    packets: list[CodedPacket],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """FFmpeg usually knows it, but streams need not say it."""
    read = StreamLook.of.__func__  # type: ignore[attr-defined]

    def unaware(cls: type[StreamLook], packet: Any, *, reorders: bool, **given: Any) -> StreamLook:
        look = read(cls, packet, reorders=reorders, **given)
        return dataclasses.replace(look, keeps_order=not reorders)

    monkeypatch.setattr(StreamLook, "of", classmethod(unaware))
    corrupt: list[int] = []
    path = path_through(pool, on_corrupt=lambda: corrupt.append(1))
    times = [time for coded in packets for time in seconds(path.push(coded))]
    decoder = Decoder()
    expected = [time for coded in packets for time in seconds(decoder.decode(coded))]
    assert times == sorted(set(times))
    assert set(times) <= set(expected)
    assert len(times) >= len(expected) - 3
    assert [given["latency"].name for given in nvc.arguments] == ["LOW", "NATIVE"]
    assert not corrupt
    path.close()


def test_a_hole_is_the_end_of_what_is_kept(pool: DecoderPool, packets: list[CodedPacket]) -> None:
    path = path_through(pool)
    for coded in packets[:20]:
        path.push(coded)
    assert path.last_seconds is not None
    assert path.push(HOLE) == []
    assert path.kept.rest() == ()
    assert path.last_seconds is None
    path.close()


def test_packets_that_wait_for_a_key_frame_are_counted(
    pool: DecoderPool, nvc: FakeNvc, packets: list[CodedPacket]
) -> None:
    counted: list[int] = []
    corrupt: list[int] = []
    path = path_through(pool, on_passed_over=counted.append, on_corrupt=lambda: corrupt.append(1))
    for coded in packets[5:12]:  # the connection begins in the middle of a group
        path.push(coded)
    assert counted == []  # software might still get them
    path.push(packets[12])
    assert counted == [7]
    nvc.raise_in_decode(3)
    for coded in packets[13:25]:
        path.push(coded)
    assert counted == [7, 8]
    for coded in (*packets[25:30], HOLE, *packets[31:36], HOLE):
        path.push(coded)
    assert counted == [7, 8, 5]
    assert corrupt == [1]
    path.close()


def test_a_camera_that_is_stopped_gives_nothing(
    pool: DecoderPool, nvc: FakeNvc, packets: list[CodedPacket]
) -> None:
    release, stopped = threading.Event(), threading.Event()
    path = path_through(pool, is_stopped=stopped.is_set)
    path.push(packets[0])
    nvc.hang_in_decode(release)
    stopped.set()
    assert path.push(packets[1]) == []
    assert path.problem is None
    release.set()
    path.close()


def test_a_live_camera_without_key_frames_is_given_up_after_a_while(
    pool: DecoderPool, packets: list[CodedPacket]
) -> None:
    path = path_through(pool)
    coded = packets[1]
    assert not coded.is_key
    waited = 0
    while path.problem is None and waited < 1000:
        packet = type(coded.packet)(bytes(coded.packet))
        packet.stream = coded.packet.stream
        packet.time_base = coded.packet.time_base
        packet.dts = packet.pts = round(waited / 15 / coded.packet.time_base)
        path.push(dataclasses.replace(coded, packet=packet, arrived_monotonic=waited / 15))
        waited += 1
    assert path.problem is not None
    assert path.problem[0] is SoftwareReason.NO_KEY_FRAMES
    assert 10 < waited / 15 < 11
    path.close()
