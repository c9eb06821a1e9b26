"""What the first bytes of packets say, against what PyAV's decoders say."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.media.key_frames import is_key_frame, is_shown, size_bytes
from tests.support.coded_video import SUFFIXES, coded_packets, write_video

NAMES = {"libvpx-vp9": "vp9", "libvpx": "vp8", "mjpeg": "mjpeg"}


@pytest.mark.parametrize("codec", ["libvpx-vp9", "libvpx"])
def test_key_frames_are_those_of_the_container(tmp_path: Path, codec: str) -> None:
    path = write_video(tmp_path / "a.webm", codec, range(30), gop=7)
    packets = coded_packets(path)
    said = [is_key_frame(NAMES[codec], bytes(packet)) for packet in packets]
    assert said == [packet.is_keyframe for packet in packets]
    assert sum(map(bool, said)) == 5
    assert not is_key_frame(NAMES[codec], bytes(1000))
    assert not is_key_frame(NAMES[codec], b"")


def test_other_formats_say_it_themselves() -> None:
    assert is_key_frame("h264", bytes(1000)) is None


@pytest.mark.parametrize("codec", NAMES)
def test_sizes_are_told_apart(tmp_path: Path, codec: str) -> None:
    sizes = [(160, 128), (160, 130), (162, 128), (176, 144)]
    found = set()
    for index, size in enumerate(sizes):
        path = write_video(
            tmp_path / f"{index}{SUFFIXES[codec]}", codec, range(22), size=size, gop=7
        )
        keys = {
            size_bytes(NAMES[codec], bytes(packet))
            for packet in coded_packets(path)
            if packet.is_keyframe
        }
        assert len(keys) == 1
        found |= keys
    assert len(found) == len(sizes)
    assert None not in found
    assert size_bytes("mjpeg", bytes(1000)) is None
    assert size_bytes("h264", bytes(1000)) is None


def test_vp8_packets_that_only_help_others_are_known() -> None:
    assert is_shown("vp8", b"\x11")
    assert not is_shown("vp8", b"\x01")
    assert is_shown("vp9", b"\x01")
