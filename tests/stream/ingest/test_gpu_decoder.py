"""The GPU's decoder (a fake) beside the software decoder: the same frames of the same packets."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs import MediaError
from model.media.conversion import FrameConverter
from stream.ingest import gpu_decoder as gpu_decoder_module
from stream.ingest.decodable import SoftwareReason
from stream.ingest.decode_failures import ReorderedError, SoftwareNeededError
from stream.ingest.decoder import Decoder
from stream.ingest.decoder_pool import DecoderPool
from stream.ingest.gpu_decoder import GpuDecoder
from stream.types import BreakReason, CodedPacket, DecodedFrame
from tests.support.coded_video import SUFFIXES, damaged, join_videos, write_video
from tests.support.fake_nvc import FakeNvc
from tests.support.fake_nvc_decoder import FakeDecoder
from tests.support.nvdec_cameras import coded_file

HOLE = CodedPacket(None, 200.0, 0.0, lost=BreakReason.DROPPED)
SIZE = (176, 144)


def gpu_decoder(pool: DecoderPool, **options: Any) -> GpuDecoder:
    return GpuDecoder(pool, **({"short_side": 100, "max_pixels": 10**6} | options))


def all_frames(decoder: Any, packets: Sequence[CodedPacket]) -> list[DecodedFrame]:
    frames = [frame for coded in packets for frame in decoder.decode(coded)]
    if isinstance(decoder, GpuDecoder):
        decoder.close()
    return frames


def assert_same(frames: list[DecodedFrame], expected: list[DecodedFrame]) -> None:
    """Times and sizes are equal, pictures are those of FFmpeg's own conversion."""
    convert = FrameConverter(100, is_exact=True)
    for frame, other in zip(frames, expected, strict=True):
        for name in ("pts_seconds", "arrived_monotonic", "wall_seconds", "width", "height"):
            assert getattr(frame, name) == getattr(other, name), name
        assert frame.turns == other.turns
        picture = convert(other.native).astype(int)
        assert np.abs(frame.native.picture() - picture).max() <= 1
        assert frame.native.surface is None


@pytest.mark.parametrize(
    ("codec", "suffix", "options", "latency"),
    [
        ("libx264", ".mp4", {"bf": "2"}, "NATIVE"),
        ("libx264", ".mp4", {"bf": "0"}, "LOW"),
        ("libx264", ".ts", {"bf": "3"}, "NATIVE"),
        ("libx264", ".mkv", {"bf": "0"}, "LOW"),
        ("libx265", ".mp4", {"x265-params": "log-level=none"}, "NATIVE"),
        ("libx265", ".ts", {"x265-params": "log-level=none:bframes=0"}, "LOW"),
        ("libvpx-vp9", ".webm", {}, "LOW"),
        ("libvpx", ".webm", {}, "LOW"),
        ("libsvtav1", ".mp4", {"svtav1-params": "lp=1"}, "LOW"),
    ],
)
def test_frames_and_times_are_those_of_the_software_decoder(
    tmp_path: Path,
    nvc: FakeNvc,
    pool: DecoderPool,
    codec: str,
    suffix: str,
    options: dict[str, str],
    latency: str,
) -> None:
    path = write_video(tmp_path / f"a{suffix}", codec, range(40), size=SIZE, gop=9, **options)
    expected = all_frames(Decoder(), coded_file(path))
    assert len(expected) == 40
    assert_same(all_frames(gpu_decoder(pool), coded_file(path)), expected)
    assert [given["latency"].name for given in nvc.arguments] == [latency]
    if latency == "LOW":  # each frame comes with its own packet
        decoder = gpu_decoder(pool)
        assert [len(decoder.decode(coded)) for coded in coded_file(path)] == [1] * 40 + [0]
        decoder.close()


@pytest.mark.parametrize("clock", ["arrival", "count"])
def test_frames_without_times_are_placed_like_in_software(
    tmp_path: Path, pool: DecoderPool, clock: Any
) -> None:
    path = write_video(tmp_path / "a.mkv", "libx264", range(30), size=SIZE, bf="0")
    expected = all_frames(Decoder(), coded_file(path, clock))
    frames = all_frames(gpu_decoder(pool), coded_file(path, clock))
    assert_same(frames, expected)
    steps = np.diff([frame.pts_seconds for frame in frames])
    assert np.allclose(steps, 0.1 if clock == "arrival" else 1 / 15)


def test_parameters_that_only_the_container_has_reach_the_decoder(
    tmp_path: Path, pool: DecoderPool
) -> None:
    """RTSP gives them in Annex B, beside packets in Annex B that do not repeat them."""
    path = write_video(tmp_path / "a.ts", "libx264", range(30), size=SIZE, gop=10)
    packets = coded_file(path)
    headers = bytes(packets[0].packet.stream.codec_context.extradata)
    assert headers[:3] == b"\0\0\1" or headers[:4] == b"\0\0\0\1"
    expected = all_frames(Decoder(), packets)

    def without(coded: CodedPacket) -> CodedPacket:
        data = bytes(coded.packet)
        assert not coded.is_key or headers in data
        copy = type(coded.packet)(data.replace(headers, b""))
        for name in ("pts", "dts", "time_base", "is_keyframe", "stream"):
            setattr(copy, name, getattr(coded.packet, name))
        return dataclasses.replace(coded, packet=copy)

    bare = [without(coded) if coded.size else coded for coded in coded_file(path)]
    # After a hole, too, the decoder starts again.
    frames = all_frames(gpu_decoder(pool), [*bare[:12], HOLE, *bare[20:]])
    times = {frame.pts_seconds for frame in frames}
    assert {frame.pts_seconds for frame in expected[20:]} <= times


def test_nothing_before_a_hole_comes_after_it(
    tmp_path: Path, nvc: FakeNvc, pool: DecoderPool
) -> None:
    path = write_video(tmp_path / "a.mp4", "libx264", range(40), size=SIZE, gop=10, bf="2")
    packets = coded_file(path)
    decoder = gpu_decoder(pool)
    before = [frame for coded in packets[:15] for frame in decoder.decode(coded)]
    assert 5 < len(before) < 15  # the decoder holds the others
    assert decoder.decode(HOLE) == []
    after = all_frames(decoder, packets[16:])  # it waits for a key frame
    key = next(coded.packet for coded in packets[16:] if coded.is_key)
    expected = [frame.pts_seconds for frame in all_frames(Decoder(), coded_file(path))]
    first = float(key.pts * key.time_base)
    assert [frame.pts_seconds for frame in after] == [each for each in expected if each >= first]
    assert nvc.created == 1


def test_a_connection_may_end_before_its_first_packet(tmp_path: Path, pool: DecoderPool) -> None:
    path = write_video(tmp_path / "a.mp4", "libx264", range(10), size=SIZE)
    packets = coded_file(path)
    decoder = gpu_decoder(pool)
    assert decoder.decode(coded_file(path)[-1]) == []
    before = [frame for coded in packets for frame in decoder.decode(coded)]
    assert len(before) == 10
    assert decoder.decode(HOLE) == []
    assert decoder.decode(coded_file(path)[-1]) == []
    assert len(all_frames(decoder, coded_file(path))) == 10


@pytest.mark.parametrize("sizes", [[(176, 144), (320, 240)], [(320, 240), (176, 144)]])
@pytest.mark.parametrize(
    ("codec", "suffix", "options"),
    [("libx264", ".ts", {"bf": "0"}), ("libvpx-vp9", ".mkv", {})],
)
def test_a_new_size_takes_the_same_decoder_if_it_is_smaller(
    tmp_path: Path,
    nvc: FakeNvc,
    pool: DecoderPool,
    sizes: list[tuple[int, int]],
    codec: str,
    suffix: str,
    options: dict[str, str],
) -> None:
    parts = [
        write_video(tmp_path / f"{index}{suffix}", codec, range(15), size=size, **options)
        for index, size in enumerate(sizes)
    ]
    path = join_videos(tmp_path / f"a{suffix}", parts, starts=[1, 2])
    expected = all_frames(Decoder(), coded_file(path))
    assert len(expected) == 30
    assert_same(all_frames(gpu_decoder(pool), coded_file(path)), expected)
    is_smaller = sizes[1] < sizes[0]
    assert (nvc.created, nvc.resized) == ((1, 1) if is_smaller else (2, 0))


@pytest.mark.parametrize("fails", ["packet", "resize", "look"])
def test_frames_before_a_new_size_are_given_even_if_it_fails(
    tmp_path: Path,
    nvc: FakeNvc,
    pool: DecoderPool,
    monkeypatch: pytest.MonkeyPatch,
    fails: str,
) -> None:
    options = {"bf": "2", "sc_threshold": "0"}
    parts = [
        write_video(tmp_path / f"{index}.ts", "libx264", range(15), size=size, gop=5, **options)
        for index, size in enumerate([(320, 240), SIZE])
    ]
    path = join_videos(tmp_path / "a.ts", parts, starts=[1, 3])
    expected = all_frames(Decoder(), coded_file(path))
    first = 15
    if fails == "packet":
        nvc.raise_in_decode(first)
    elif fails == "resize":
        errors = [RuntimeError("no")]
        resize = FakeDecoder.setReconfigParams

        def refuse(self: FakeDecoder, **size: int) -> int:
            if errors:
                raise errors.pop()
            return resize(self, **size)

        monkeypatch.setattr(FakeDecoder, "setReconfigParams", refuse)
    packets = coded_file(path)
    if fails == "look":  # as if the key frame were damaged behind its parameters
        damaged_one = packets[first].packet
        find = gpu_decoder_module.StreamLook.of

        def look(packet: Any, **given: Any) -> Any:
            if packet is damaged_one:
                raise MediaError("a key frame cannot be decoded")
            return find(packet, **given)

        monkeypatch.setattr(gpu_decoder_module.StreamLook, "of", look)
    corrupt: list[int] = []
    decoder = gpu_decoder(pool, on_corrupt=lambda coded: corrupt.append(1))
    frames = all_frames(decoder, packets)
    assert_same(frames, [*expected[:15], *expected[20:]])
    assert corrupt == [1]
    assert nvc.unannounced == 0


@pytest.mark.parametrize("raises", [False, True])
def test_damaged_packets_are_counted_and_the_rest_is_decoded(
    tmp_path: Path, nvc: FakeNvc, pool: DecoderPool, raises: bool
) -> None:
    whole = write_video(tmp_path / f"a{SUFFIXES['libvpx-vp9']}", "libvpx-vp9", range(40), size=SIZE)
    path = damaged(whole, tmp_path / "b.webm", packets=[13, 14])
    nvc.raises_on_corrupt = raises
    corrupt: list[int] = []
    decoder = gpu_decoder(pool, on_corrupt=lambda coded: corrupt.append(1))
    frames = all_frames(decoder, coded_file(path))
    missing = set(range(40)) - {round(frame.pts_seconds * 15) for frame in frames}
    # After an exception, another decoder goes on with the next key frame.
    assert missing == (set(range(13, 20)) if raises else {13, 14})
    assert len(corrupt) == (1 if raises else 2)
    assert nvc.created == (2 if raises else 1)


def test_packets_of_an_order_that_nobody_announced_are_refused_before_they_harm(
    tmp_path: Path, pool: DecoderPool
) -> None:
    path = write_video(tmp_path / "a.mp4", "libx264", range(30), size=SIZE, gop=15, bf="2")
    packets = coded_file(path)
    for coded in packets[:-1]:
        coded.packet.dts = coded.packet.pts
        coded.packet.stream.codec_context.flush_buffers()
    decoder = gpu_decoder(pool)
    change = decoder._change
    decoder._change = lambda found: change(  # type: ignore[method-assign]
        dataclasses.replace(found, keeps_order=not decoder._reorders)
    )
    with pytest.raises(ReorderedError):
        all_frames(decoder, packets)
    decoder.reopen(packets[0].arrived_monotonic, 0)
    assert_same(all_frames(decoder, packets), all_frames(Decoder(), coded_file(path)))


@pytest.mark.parametrize(
    ("codec", "suffix", "pixels", "reason"),
    [
        ("mjpeg", ".avi", "yuvj420p", SoftwareReason.CODEC),
        ("libx264", ".mp4", "yuv444p", SoftwareReason.CHROMA),
        ("libx264", ".mp4", "yuv420p10le", SoftwareReason.CODEC),
    ],
)
def test_videos_that_the_gpu_does_not_decode_need_no_seat(
    tmp_path: Path,
    nvc: FakeNvc,
    pool: DecoderPool,
    monkeypatch: pytest.MonkeyPatch,
    codec: str,
    suffix: str,
    pixels: str,
    reason: SoftwareReason,
) -> None:
    monkeypatch.setitem(_formats(), codec, pixels)
    path = write_video(tmp_path / f"a{suffix}", codec, range(5), size=SIZE)
    with pytest.raises(SoftwareNeededError) as raised:
        all_frames(gpu_decoder(pool), coded_file(path))
    assert raised.value.reason is reason
    assert nvc.created == 0


def test_ten_bits_are_decoded_where_the_gpu_can(
    tmp_path: Path, pool: DecoderPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(_formats(), "libx265", "yuv420p10le")
    options = {"x265-params": "log-level=none"}
    path = write_video(tmp_path / "a.mp4", "libx265", range(20), size=SIZE, **options)
    expected = all_frames(Decoder(), coded_file(path))
    assert expected[0].native.format.name == "yuv420p10le"
    assert_same(all_frames(gpu_decoder(pool), coded_file(path)), expected)


def _formats() -> dict[str, str]:
    from tests.support import coded_video

    return coded_video.PIXEL_FORMATS
