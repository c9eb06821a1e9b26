"""Cameras that DALI decodes with a correction, after a break, or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from stream.ingest.decode_stage import DecodeStage
from stream.types import SampledFrame, StreamBreak
from tests.stream.ingest.test_dali_files import DALI, gops, read_to_end
from tests.support.chaos import TcpCamera, streamed
from tests.support.coded_video import decoding_on_cpu, write_video
from tests.support.live_cameras import QUICK, seen
from tests.support.waiting import until

BT709 = 1
COLOURS = [(200, 60, 60), (60, 160, 90), (70, 80, 190), (180, 170, 60), (120, 120, 120)]


@pytest.fixture(scope="module")
def decoding() -> Iterator[DecodeStage]:
    with decoding_on_cpu() as stage:
        yield stage


def write_colours(path: Path) -> Path:
    """Write 30 frames of flat colours, as BT.709, which the stream names."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx-vp9", rate=15)
        stream.width, stream.height, stream.pix_fmt = 160, 128, "yuv420p"
        stream.options = {"deadline": "realtime", "cpu-used": "8", "crf": "4", "b": "0"}
        stream.codec_context.colorspace = BT709
        rgb_HWC = np.repeat(np.array(COLOURS, np.uint8), 32, 0)[None].repeat(128, 0)
        for _ in range(30):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb_HWC), format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace=BT709)
            frame.colorspace = BT709
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_bt709_is_corrected_after_dali(tmp_path: Path, decoding: DecodeStage) -> None:
    path = write_colours(tmp_path / "a.webm")
    software = read_to_end(path)
    dali = read_to_end(path, DALI, decoding)
    assert set(gops(dali)) == {"dali"}
    for one, other in zip(dali.frames, software.frames, strict=True):
        for index, colour in enumerate(COLOURS):
            place = np.s_[64, 16 + 32 * index]
            assert np.abs(other.frame_HWC[place].astype(int) - colour).max() <= 4
            # Without the correction, they differ by up to 17 levels.
            difference = one.frame_HWC[place].astype(int) - other.frame_HWC[place]
            assert np.abs(difference).max() <= 4


def test_groups_that_are_too_long_go_to_software_once_and_lose_nothing(
    tmp_path: Path, decoding: DecodeStage
) -> None:
    path = write_video(tmp_path / "a.webm", "libvpx-vp9", range(60), gop=1000)
    software = read_to_end(path)
    short = DALI.model_copy(update={"max_gop_seconds": 1.0})
    dali = read_to_end(path, short, decoding)
    assert "dali" not in gops(dali)
    assert len(dali.frames) == len(software.frames) == 60
    for one, other in zip(dali.frames, software.frames, strict=True):
        assert one.pts_seconds == other.pts_seconds
        assert np.array_equal(one.frame_HWC, other.frame_HWC)
    said = 'cidc_software_decoding{camera="a",reason="gop_length"} 1.0'
    assert said in dali.metrics.exposition().decode()


def test_frames_beyond_the_limit_are_not_decoded_by_dali_either(
    tmp_path: Path, decoding: DecodeStage
) -> None:
    small = write_video(tmp_path / "a.webm", "libvpx-vp9", range(30), size=(160, 128))
    limited = DALI.model_copy(update={"max_pixels": 100 * 100})
    assert QUICK.max_pixels > 160 * 128
    watched = read_to_end(small, limited, decoding)
    assert watched.frames == []
    assert "160x128 have more than 10000 pixels" in watched.status.detail


def test_a_camera_that_comes_back_is_decoded_by_dali_again(
    tmp_path: Path, decoding: DecodeStage
) -> None:
    """Its time begins at zero again."""
    data = write_video(tmp_path / "a.webm", "libvpx-vp9", range(45), gop=8).read_bytes()
    with (
        TcpCamera(streamed(data, seconds=3.0)) as camera,
        seen(camera.url, DALI, decoding=decoding) as watched,
    ):
        assert until(lambda: camera.connections >= 2 and len(watched.frames) > 60, 30)
    first_break = next(
        index for index, item in enumerate(watched.items) if isinstance(item, StreamBreak)
    )
    before = [item.pts_seconds for item in watched.items[:first_break]]  # type: ignore[union-attr]
    after = [item for item in watched.items[first_break + 1 :] if isinstance(item, SampledFrame)]
    assert len(before) == 45  # up to the last group of the connection
    assert after[0].pts_seconds < before[-1]
    for frames in (before, [frame.pts_seconds for frame in after[:40]]):
        assert np.allclose(np.diff(frames), 1 / 15, atol=1e-3)
    assert set(gops(watched)) == {"dali"}
