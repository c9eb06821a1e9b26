"""What is decoded by NVDEC, by DALI and in software: every rule."""

from __future__ import annotations

import dataclasses

import pytest

from model.media.nvdec import DecoderCaps, decoder_caps
from stream.ingest.decodable import (
    DecoderDevice,
    SoftwareReason,
    VideoFacts,
    nvdec_reason,
    software_reason,
)
from tests.support.fake_nvc import FakeNvc

CPU = DecoderDevice("cpu")
AMPERE = DecoderDevice("gpu", (8, 0))
ADA = DecoderDevice("gpu", (8, 9))
HOPPER = DecoderDevice("gpu", (9, 0))
BLACKWELL = DecoderDevice("gpu", (10, 0))
FACTS = VideoFacts(
    codec="h264",
    profile="High",
    pixel_format="yuv420p",
    width=1920,
    height=1080,
    coded_size=(1920, 1088),
    turns=0,
    is_interlaced=False,
    has_full_range=False,
    colour_message=None,
)


@pytest.mark.parametrize("device", [AMPERE, ADA, HOPPER, BLACKWELL])
@pytest.mark.parametrize("codec", ["h264", "hevc", "vp8", "vp9"])
def test_usual_cameras_are_decoded_on_a_gpu(device: DecoderDevice, codec: str) -> None:
    assert software_reason(dataclasses.replace(FACTS, codec=codec), device) is None


@pytest.mark.parametrize("codec", ["vp8", "vp9", "mjpeg"])
def test_three_codecs_are_decoded_on_the_cpu(codec: str) -> None:
    assert software_reason(dataclasses.replace(FACTS, codec=codec), CPU) is None


@pytest.mark.parametrize(
    ("device", "changes", "reason"),
    [
        (CPU, {"codec": "h264"}, SoftwareReason.CODEC),
        (CPU, {"codec": "hevc"}, SoftwareReason.CODEC),
        (HOPPER, {"codec": "av1"}, SoftwareReason.CODEC),
        (AMPERE, {"codec": "av1"}, SoftwareReason.CODEC),
        (HOPPER, {"codec": "mjpeg"}, SoftwareReason.CODEC),
        (HOPPER, {"codec": "prores"}, SoftwareReason.CODEC),
        (HOPPER, {"pixel_format": "yuv420p10le"}, SoftwareReason.CHROMA),
        (HOPPER, {"pixel_format": "yuv422p"}, SoftwareReason.CHROMA),
        (HOPPER, {"codec": "hevc", "pixel_format": "yuv422p10le"}, SoftwareReason.CHROMA),
        (HOPPER, {"has_full_range": True}, SoftwareReason.COLOURS),
        (HOPPER, {"colour_message": "an exotic matrix"}, SoftwareReason.COLOURS),
        (HOPPER, {"turns": 1}, SoftwareReason.ROTATION),
        (HOPPER, {"is_interlaced": True}, SoftwareReason.INTERLACED),
        (HOPPER, {"coded_size": (32, 32)}, SoftwareReason.SIZE),
        (HOPPER, {"coded_size": (4112, 2160)}, SoftwareReason.SIZE),
        (CPU, {"codec": "vp9", "has_full_range": True}, SoftwareReason.COLOURS),
    ],
)
def test_what_dali_cannot_show_rightly_goes_to_software(
    device: DecoderDevice, changes: dict[str, object], reason: SoftwareReason
) -> None:
    found = software_reason(dataclasses.replace(FACTS, **changes), device)  # type: ignore[arg-type]
    assert found is not None
    assert found[0] is reason
    assert found[1]


def test_some_devices_decode_av1_and_the_cpu_decodes_jpegs_of_full_range() -> None:
    assert software_reason(dataclasses.replace(FACTS, codec="av1"), ADA) is None
    assert software_reason(dataclasses.replace(FACTS, codec="av1"), BLACKWELL) is None
    jpeg = dataclasses.replace(
        FACTS, codec="mjpeg", pixel_format="yuvj422p", has_full_range=True, coded_size=(1920, 1080)
    )
    assert software_reason(jpeg, CPU) is None


def caps(codec: str, bit_depth: int) -> DecoderCaps:
    """What an H100 says."""
    return decoder_caps(FakeNvc(), gpu=0, codec=codec, bit_depth=bit_depth)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"codec": "hevc", "pixel_format": "yuv420p10le"},
        {"codec": "vp8"},
        {"codec": "vp9"},
        {"codec": "av1"},
        {"pixel_format": "yuvj420p", "has_full_range": True},
        {"colour_message": "an exotic matrix"},
        {"turns": 1},
    ],
)
def test_nvdec_takes_what_the_gpu_and_our_conversion_take(changes: dict[str, object]) -> None:
    assert nvdec_reason(dataclasses.replace(FACTS, **changes), caps) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"codec": "mjpeg"}, SoftwareReason.CODEC),
        ({"codec": "mpeg4"}, SoftwareReason.CODEC),
        ({"pixel_format": "yuv420p10le"}, SoftwareReason.CODEC),  # H.264 High 10
        ({"pixel_format": "yuv422p"}, SoftwareReason.CHROMA),
        ({"pixel_format": "gray"}, SoftwareReason.CHROMA),
        ({"codec": "hevc", "pixel_format": "yuv420p12le"}, SoftwareReason.CHROMA),
        ({"is_interlaced": True}, SoftwareReason.INTERLACED),
        ({"coded_size": (32, 32)}, SoftwareReason.SIZE),
        ({"coded_size": (4112, 2160)}, SoftwareReason.SIZE),
    ],
)
def test_what_nvdec_does_not_take_goes_to_software(
    changes: dict[str, object], reason: SoftwareReason
) -> None:
    found = nvdec_reason(dataclasses.replace(FACTS, **changes), caps)  # type: ignore[arg-type]
    assert found is not None
    assert found[0] is reason
    assert found[1]
