"""Cameras decoded by DALI on the CPU, against the same files decoded in software by PyAV."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import numpy as np
import pytest

from stream.ingest.config import SourceConfig
from stream.ingest.decode_stage import DecodeStage
from stream.types import SampledFrame, StreamBreak
from tests.support.coded_video import (
    SUFFIXES,
    damaged,
    decoding_on_cpu,
    join_videos,
    write_video,
)
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
        assert until(lambda: "ended" in watched.breaks, 60)
    return watched


def shapes(items: list[SampledFrame | StreamBreak]) -> list[object]:
    return [
        item.frame_HWC.shape if isinstance(item, SampledFrame) else item.reason for item in items
    ]


def assert_same(dali: Seen, software: Seen, *, besides: Sequence[int] = ()) -> None:
    """The same items in the same order; pictures differ by the rounding of the conversion only.

    The pictures are grey, so that the two ways to interpolate colour do not matter.

    Args:
        besides: indices of frames whose pictures are not compared.
    """
    assert [type(item) for item in dali.items] == [type(item) for item in software.items]
    assert dali.breaks == software.breaks
    for index, (one, other) in enumerate(zip(dali.frames, software.frames, strict=True)):
        assert one.pts_seconds == pytest.approx(other.pts_seconds, abs=1e-9)
        assert one.frame_HWC.shape == other.frame_HWC.shape
        difference = np.abs(one.frame_HWC.astype(int) - other.frame_HWC.astype(int))
        assert difference.max() <= 3 or index in besides
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


def test_gaps_and_repeated_frames_are_the_same(tmp_path: Path, decoding: DecodeStage) -> None:
    ticks = [*range(20), *range(23, 40), *range(70, 100), *range(100, 140, 2)]
    path = write_video(tmp_path / "a.webm", "libvpx-vp9", range(len(ticks)), ticks=ticks)
    software, dali = read_to_end(path), read_to_end(path, DALI, decoding)
    assert software.breaks == ["gap", "ended"]
    assert_same(dali, software)


@pytest.mark.parametrize(("codec", "container"), [("libvpx-vp9", "mkv"), ("mjpeg", "mkv")])
@pytest.mark.parametrize("sizes", [[(160, 128), (320, 240)], [(320, 240), (160, 128)]])
def test_a_new_size_breaks_the_clip_where_it_comes(
    tmp_path: Path,
    decoding: DecodeStage,
    codec: str,
    container: str,
    sizes: list[tuple[int, int]],
) -> None:
    parts = [
        write_video(tmp_path / f"{index}{SUFFIXES[codec]}", codec, range(17), size=size)
        for index, size in enumerate(sizes)
    ]
    path = join_videos(tmp_path / f"a.{container}", parts, starts=[0.0, 17 / 15])
    software, dali = read_to_end(path), read_to_end(path, DALI, decoding)
    assert software.breaks == ["size", "ended"]
    assert [each for each in shapes(dali.items) if isinstance(each, str)] == dali.breaks
    # Software scales the larger frames down while it converts them.
    assert [type(item) for item in dali.items] == [type(item) for item in software.items]
    assert shapes(dali.items)[0] == (sizes[0][1], sizes[0][0], 3)
    assert shapes(dali.items)[-2] == (sizes[1][1], sizes[1][0], 3)
    times = [[frame.pts_seconds for frame in watched.frames] for watched in (dali, software)]
    assert times[0] == pytest.approx(times[1])
    assert set(gops(dali)) == {"dali"}


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("bad", [[14], [20], [0], [14, 15, 21, 33]])
def test_a_damaged_group_is_decoded_in_software_like_before(
    tmp_path: Path, decoding: DecodeStage, codec: str, bad: list[int]
) -> None:
    whole = write_video(tmp_path / f"whole{SUFFIXES[codec]}", codec, range(60))
    path = damaged(whole, tmp_path / f"a{SUFFIXES[codec]}", packets=bad)
    software, dali = read_to_end(path), read_to_end(path, DALI, decoding)
    assert software.metrics.total(software.metrics.corrupt) >= len(bad)
    assert gops(dali)["software"] >= 1
    assert gops(dali)["dali"] >= 1
    # FFmpeg's VP8 decoder repairs the end of a damaged group in a way that depends on its past.
    damage = [index for index in range(60) if index // 10 in {each // 10 for each in bad}]
    assert_same(dali, software, besides=damage if codec == "libvpx" else ())
    assert dali.metrics.total(dali.metrics.corrupt) == software.metrics.total(
        software.metrics.corrupt
    )
    assert dali.status.detail == software.status.detail


def test_a_loop_restarts_the_clip_after_the_last_group(
    tmp_path: Path, decoding: DecodeStage
) -> None:
    path = write_video(tmp_path / "a.webm", "libvpx-vp9", range(34))
    with seen(str(path), DALI, decoding=decoding, pace="fast", loop=True) as dali:
        assert until(lambda: len(dali.breaks) >= 3, 30)
    first = [index for index, item in enumerate(dali.items) if isinstance(item, StreamBreak)][:2]
    assert first == [34, 69]
    assert dali.breaks[0] == "reconnect"


def test_what_dali_does_not_decode_on_the_cpu_is_decoded_in_software_and_said(
    scenes: Path, decoding: DecodeStage
) -> None:
    path = scenes / "clips/fall/0000.mp4"
    software = read_to_end(path)
    asked = read_to_end(path, DALI, decoding)
    assert len(software.frames) > 20
    for one, other in zip(asked.frames, software.frames, strict=True):
        assert np.array_equal(one.frame_HWC, other.frame_HWC)
    said = 'cidc_software_decoding{camera="a",reason="codec"} 1.0'
    assert said in asked.metrics.exposition().decode()


def test_colours_differ_from_software_at_edges_only(tmp_path: Path, decoding: DecodeStage) -> None:
    """Both interpolate the halved colour between its samples, in different ways."""
    rng = np.random.default_rng(3)
    path = tmp_path / "a.webm"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx-vp9", rate=15)
        stream.width, stream.height, stream.pix_fmt = 160, 128, "yuv420p"
        stream.options = {"deadline": "realtime", "cpu-used": "8", "crf": "4", "b": "0"}
        for _ in range(30):
            blocks = rng.integers(0, 256, (4, 5, 3), np.uint8).repeat(32, 0).repeat(32, 1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(blocks, format="rgb24")))
        container.mux(stream.encode())
    software = read_to_end(path)
    dali = read_to_end(path, DALI, decoding)
    assert gops(dali).get("dali", 0) > 0
    for one, other in zip(dali.frames, software.frames, strict=True):
        difference = np.abs(one.frame_HWC.astype(int) - other.frame_HWC.astype(int))
        inside = difference.reshape(4, 32, 5, 32, 3)[:, 4:28, :, 4:28]
        assert inside.max() <= 6  # at edges it is up to 40
