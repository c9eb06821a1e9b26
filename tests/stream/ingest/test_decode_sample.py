"""Decoder and sampler on real files, against frames and times read with PyAV alone."""

import threading
from pathlib import Path

import av
import numpy as np
import pytest

from model.media.conversion import rgb_frame
from stream.cameras.config import CameraConfig
from stream.ingest.config import ClipConfig, SourceConfig
from stream.ingest.decoder import Decoder
from stream.ingest.sampler import Sampler
from stream.ingest.source import Source
from stream.types import DecodedFrame, SampledFrame, StreamBreak


def run(path: Path, **clip: float) -> tuple[list[SampledFrame], list[StreamBreak], dict[str, int]]:
    counts = {"converted": 0, "repeated": 0, "decoded": 0}

    def convert(native: object) -> np.ndarray:
        counts["converted"] += 1
        return rgb_frame(native)

    def repeat() -> None:
        counts["repeated"] += 1

    sampler = Sampler("a", ClipConfig(**clip), convert, on_repeat=repeat)  # type: ignore[arg-type]
    source = Source(
        CameraConfig(id="a", url=str(path), pace="fast"),
        SourceConfig(),
        threading.Event(),
        on_state=lambda state, why: None,
        on_end=lambda reason, why: None,
    )
    decoder = Decoder()
    frames = []
    breaks = []
    for coded in source.packets():
        for frame in decoder.decode(coded):
            counts["decoded"] += 1
            for item in sampler.push(frame):
                (frames if isinstance(item, SampledFrame) else breaks).append(item)
    return frames, breaks, counts  # type: ignore[return-value]


@pytest.mark.parametrize(
    "name", ["nasa_vfr.mp4", "nasa_copy.ts", "nasa_h264_opengop_bframes.mp4", "nasa_mjpeg.avi"]
)
def test_each_grid_position_holds_the_nearest_frame_of_the_file(
    shared_data: Path, name: str
) -> None:
    path = shared_data / "robust/derived" / name
    with av.open(str(path)) as container:
        native = sorted(
            (frame.time, frame.to_ndarray(format="rgb24"))
            for frame in container.decode(video=0)
            if frame.time is not None
        )
    times = np.array([time for time, _ in native])
    frames, breaks, counts = run(path)
    assert not breaks
    assert counts["decoded"] == len(native)
    np.testing.assert_allclose(np.diff([frame.pts_seconds for frame in frames]), 1 / 15, atol=1e-9)
    for frame in frames:
        distances = np.abs(times - frame.pts_seconds)
        near = [native[index][1] for index in np.flatnonzero(distances <= distances.min() + 0.0011)]
        assert any(np.array_equal(frame.frame_HWC, picture) for picture in near)


def test_only_frames_that_are_used_are_converted(shared_data: Path) -> None:
    frames, _, counts = run(shared_data / "robust/derived/nasa_copy.mkv")
    assert counts["converted"] == len(frames) - counts["repeated"]
    assert counts["converted"] < 0.52 * counts["decoded"]


def test_a_new_size_and_a_jump_back_in_time_break_the_clip(shared_data: Path) -> None:
    _, breaks, _ = run(shared_data / "robust/derived/nasa_concat_pts_reset_and_size_change.ts")
    assert [item.reason for item in breaks] == ["size"]


def test_a_gap_breaks_the_clip_only_beyond_the_limit(shared_data: Path) -> None:
    path = shared_data / "robust/derived/nasa_vfr.mp4"
    with av.open(str(path)) as container:
        longest = max(np.diff([frame.time for frame in container.decode(video=0)]))
    assert not run(path, max_gap_seconds=longest + 0.01)[1]
    assert {item.reason for item in run(path, max_gap_seconds=longest - 0.01)[1]} == {"gap"}


def test_a_frame_that_cannot_be_converted_breaks_the_clip_and_nothing_else(
    shared_data: Path,
) -> None:
    broken: list[int] = []
    reasons: list[str] = []

    def convert(native: object) -> np.ndarray:
        broken.append(1)
        if len(broken) == 10:
            raise ValueError("bad colours")
        return rgb_frame(native)

    sampler = Sampler("a", ClipConfig(), convert, on_unconverted=reasons.append)
    items = []
    with av.open(str(shared_data / "robust/derived/nasa_copy.mkv")) as container:
        for frame in container.decode(video=0):
            items += sampler.push(
                DecodedFrame(frame, frame.time, 0.0, 0.0, frame.width, frame.height)
            )
    assert reasons == ["bad colours"]
    assert [item.reason for item in items if isinstance(item, StreamBreak)] == ["gap"]
    assert sum(isinstance(item, SampledFrame) for item in items) > 150


def test_frames_out_of_order_are_analysed_too(shared_data: Path) -> None:
    frames, breaks, counts = run(shared_data / "robust/mmaction2/test.avi")
    assert not breaks
    assert counts["decoded"] >= 163
    assert len(frames) == pytest.approx(6.56 * 15, abs=2)
