"""Packets as elementary streams, against FFmpeg's decoders, which get nothing but the bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import pytest

from configs import MediaError
from model.media.elementary import ElementaryStream, parameter_bytes
from model.media.remux import stream_template
from tests.support.coded_video import write_video

SIZE = (176, 144)
QUIET = {"libx265": {"x265-params": "log-level=none"}, "libsvtav1": {"svtav1-params": "lp=1"}}


def packets_of(path: Path) -> tuple[str, Any, list[Any]]:
    """Return the codec, a template and the packets of a file."""
    container = av.open(str(path))
    stream = container.streams.video[0]
    codec = stream.codec_context.codec.canonical_name
    return codec, stream_template(stream), [each for each in container.demux(stream) if each.size]


def written(path: Path, codec: str, **options: str) -> Path:
    return write_video(
        path, codec, range(30), size=SIZE, gop=10, **(QUIET.get(codec, {}) | options)
    )


def decoded(codec: str, data: list[bytes]) -> tuple[int, tuple[int, int]]:
    """Decode bytes without any parameters beside them; return the number of frames, their size."""
    context: Any = av.CodecContext.create({"av1": "libdav1d"}.get(codec, codec), "r")
    frames = [frame for each in data for frame in context.decode(av.Packet(each))]
    frames += context.decode(None)
    return len(frames), (frames[0].width, frames[0].height)


@pytest.mark.parametrize(
    ("codec", "suffix"),
    [
        ("libx264", ".mp4"),
        ("libx264", ".mkv"),
        ("libx264", ".ts"),
        ("libx265", ".mp4"),
        ("libx265", ".ts"),
        ("libsvtav1", ".mp4"),
        ("libvpx-vp9", ".webm"),
        ("libvpx", ".webm"),
    ],
)
def test_the_bytes_alone_can_be_decoded(tmp_path: Path, codec: str, suffix: str) -> None:
    name, template, packets = packets_of(written(tmp_path / f"a{suffix}", codec))
    stream = ElementaryStream(name, template)
    before = [bytes(packet) for packet in packets]
    data = [stream.convert(packet, starts=index == 0) for index, packet in enumerate(packets)]
    assert decoded(name, data) == (30, SIZE)
    assert [bytes(packet) for packet in packets] == before


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_parameters_beside_an_annex_b_stream_are_put_before_its_start_only(
    tmp_path: Path, codec: str
) -> None:
    name, template, packets = packets_of(written(tmp_path / "a.ts", codec))
    headers = bytes(template.codec_context.extradata)
    bare = [av.Packet(bytes(packet).replace(headers, b"")) for packet in packets]
    assert not parameter_bytes(name, bytes(bare[0]))
    stream = ElementaryStream(name, template)
    data = [stream.convert(packet, starts=index == 0) for index, packet in enumerate(bare)]
    assert data[0] == headers + bytes(bare[0])
    assert data[1:] == [bytes(packet) for packet in bare[1:]]
    assert decoded(name, data) == (30, SIZE)


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libvpx-vp9", "libvpx", "libsvtav1"])
def test_parameters_tell_sizes_apart_and_nothing_else(tmp_path: Path, codec: str) -> None:
    suffix = ".webm" if codec.startswith("libvpx") else ".mp4"
    found: dict[tuple[int, int], set[bytes]] = {}
    for size in (SIZE, (192, 160)):
        path = tmp_path / f"{size[0]}{suffix}"
        write_video(path, codec, range(30), size=size, gop=6, **QUIET.get(codec, {}))
        name, template, packets = packets_of(path)
        stream = ElementaryStream(name, template)
        keys = [packet for packet in packets if packet.is_keyframe]
        assert len(keys) >= 3
        found[size] = {parameter_bytes(name, stream.convert(key)) for key in keys}
    assert [len(each) for each in found.values()] == [1, 1]
    assert found[SIZE].isdisjoint(found[192, 160])
    assert b"" not in found[SIZE]


def test_damaged_packets_are_refused_and_the_next_is_fine(tmp_path: Path) -> None:
    name, template, packets = packets_of(written(tmp_path / "a.mp4", "libx264", bf="0"))
    stream = ElementaryStream(name, template)
    first = stream.convert(packets[0], starts=True)
    with pytest.raises(MediaError, match="damaged"):
        stream.convert(av.Packet(b"\xff\xff\xff\xf0" + bytes(40)))
    rest = [stream.convert(packet) for packet in packets[1:]]
    assert decoded(name, [first, *rest])[0] == 30


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1", "vp9", "vp8"])
def test_bytes_without_sense_do_no_harm(codec: str) -> None:
    for data in (b"", b"\0", b"\0\0\1", bytes(3), bytes(range(3)), b"\xff" * 5, b"\x0a\xff\xff"):
        assert len(parameter_bytes(codec, data)) <= len(data)
    assert parameter_bytes("h264", b"\0\0\1\x65" + bytes(9)) == b""
