"""Cameras decoded by DALI on the CPU, against the same files decoded in software by PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from stream.ingest.config import SourceConfig
from stream.ingest.decode_stage import DecodeStage
from stream.types import SampledFrame, StreamBreak
from tests.support.coded_video import SUFFIXES, decoding_on_cpu, write_video
from tests.support.live_cameras import QUICK, Seen, seen
from tests.support.waiting import until

DALI = QUICK.model_copy(update={"decoder": "dali"})
CODECS = ("libvpx-vp9", "libvpx", "mjpeg")


@pytest.fixture(scope="module")
def decoding() -> Iterator[DecodeStage]:
    with decoding_on_cpu() as stage:
        yield stage


def read_to_end(
    path: Path, config: SourceConfig = QUICK, decoding: DecodeStage | None = None, **camera: object
) -> Seen:
    with seen(str(path), config, decoding=decoding, **({"pace": "fast"} | camera)) as watched:
        assert until(lambda: watched.status.state == "ended", 60)
    return watched


def shapes(items: list[SampledFrame | StreamBreak]) -> list[object]:
    return [
        item.frame_HWC.shape if isinstance(item, SampledFrame) else item.reason for item in items
    ]


def assert_same(dali: Seen, software: Seen) -> None:
    """The same items in the same order; pictures differ by the rounding of the conversion only.

    The pictures are grey, so that the two ways to interpolate colour do not matter.
    """
    assert [type(item) for item in dali.items] == [type(item) for item in software.items]
    assert dali.breaks == software.breaks
    for one, other in zip(dali.frames, software.frames, strict=True):
        assert one.pts_seconds == pytest.approx(other.pts_seconds, abs=1e-9)
        assert one.frame_HWC.shape == other.frame_HWC.shape
        difference = np.abs(one.frame_HWC.astype(int) - other.frame_HWC.astype(int))
        assert difference.max() <= 3
    for name in ("repeated", "decoded", "sampled"):
        counts = [
            watched.metrics.total(getattr(watched.metrics, name)) for watched in (dali, software)
        ]
        assert counts[0] == counts[1], name


def gops(watched: Seen) -> dict[str, int]:
    return watched.metrics.by_label(watched.metrics.gops, "decoder")


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("fps", [12, 15, 30])
def test_frames_and_times_are_those_of_the_software_decoder(
    tmp_path: Path, decoding: DecodeStage, codec: str, fps: int
) -> None:
    path = write_video(tmp_path / f"a{SUFFIXES[codec]}", codec, range(3 * fps + 4), fps=fps)
    software = read_to_end(path)
    dali = read_to_end(path, DALI, decoding)
    assert len(dali.frames) > 40
    assert_same(dali, software)
    assert set(gops(dali)) == {"dali"}
    assert not gops(software)
    assert dali.status.detail == "end of file"
