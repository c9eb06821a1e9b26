"""Cameras decoded by NVDEC (a fake), against the same files in software; and their fallbacks."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stream.ingest import software_fallback
from stream.ingest.camera_frames import CameraFrames
from stream.ingest.config import ClipConfig, SourceConfig
from stream.metrics import Metrics
from tests.support.chaos import TcpCamera, streamed
from tests.support.coded_video import damaged, decoding_on_cpu, join_videos, write_video
from tests.support.fake_nvc import FakeNvc
from tests.support.live_cameras import QUICK, Seen, seen
from tests.support.nvdec_cameras import (
    NVDEC,
    assert_same,
    coded_file,
    fallbacks,
    pool_on_cpu,
    read_to_end,
)
from tests.support.rtsp import RtspServer, missing_rtsp
from tests.support.waiting import until

SIZE = (176, 144)


def by_nvdec(
    path: Path, nvc: FakeNvc | None = None, config: SourceConfig = NVDEC, **options: Any
) -> Seen:
    with pool_on_cpu(nvc, **options) as pool:
        return read_to_end(path, config, pool)


def h264(path: Path, frames: int = 70, **options: Any) -> Path:
    return write_video(path, "libx264", range(frames), size=SIZE, **({"gop": 12} | options))


@pytest.mark.parametrize(("suffix", "fps"), [(".mp4", 12), (".mp4", 25), (".ts", 15)])
def test_sampled_frames_are_those_of_the_software_decoder(
    tmp_path: Path, suffix: str, fps: int
) -> None:
    path = h264(tmp_path / f"a{suffix}", 3 * fps, fps=fps, bf="2")
    nvc = FakeNvc()
    nvdec, software = by_nvdec(path, nvc), read_to_end(path)
    assert len(software.frames) == pytest.approx(45, abs=1)
    assert_same(nvdec, software)
    assert nvc.decoded == 3 * fps
    assert not fallbacks(nvdec)
    assert nvdec.status.detail == software.status.detail == "end of file"


def test_gaps_and_repeated_frames_are_the_same(tmp_path: Path) -> None:
    ticks = [*range(20), *range(23, 40), *range(70, 100), *range(100, 140, 2)]
    path = h264(tmp_path / "a.mp4", len(ticks), ticks=ticks, bf="0")
    nvdec, software = by_nvdec(path), read_to_end(path)
    assert software.breaks == ["gap", "ended"]
    assert_same(nvdec, software)


@pytest.mark.parametrize("sizes", [[SIZE, (320, 240)], [(320, 240), SIZE]])
@pytest.mark.parametrize("codec", ["libx264", "libvpx-vp9"])
def test_a_new_size_breaks_the_clip_where_it_comes(
    tmp_path: Path, codec: str, sizes: list[tuple[int, int]]
) -> None:
    suffix = ".ts" if codec == "libx264" else ".mkv"
    options = {"bf": "0"} if codec == "libx264" else {}
    parts = [
        write_video(tmp_path / f"{index}{suffix}", codec, range(17), size=size, **options)
        for index, size in enumerate(sizes)
    ]
    path = join_videos(tmp_path / f"a{suffix}", parts, starts=[1.0, 1 + 17 / 15])
    nvc = FakeNvc()
    nvdec, software = by_nvdec(path, nvc), read_to_end(path)
    assert software.breaks == ["size", "ended"]
    assert_same(nvdec, software)
    assert nvc.created + nvc.resized == 2


def test_a_rotated_video_is_shown_upright(tmp_path: Path) -> None:
    import av

    flat = h264(tmp_path / "flat.mp4", 20, bf="0")
    path = tmp_path / "a.mp4"
    with av.open(str(flat)) as source, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        stream.set_display_rotation(90) if hasattr(stream, "set_display_rotation") else None
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    assert_same(by_nvdec(path), read_to_end(path))


@pytest.mark.parametrize("bad", [[14], [0], [14, 15, 33]])
def test_damaged_packets_cost_their_frames_only(tmp_path: Path, bad: list[int]) -> None:
    whole = write_video(tmp_path / "w.webm", "libvpx-vp9", range(60), size=SIZE)
    path = damaged(whole, tmp_path / "a.webm", packets=bad)
    nvdec, software = by_nvdec(path), read_to_end(path)
    assert_same(nvdec, software)
    # What comes before the first key frame is passed over, and not counted.
    assert nvdec.metrics.total(nvdec.metrics.corrupt) == len(set(bad) - {0})
    assert not fallbacks(nvdec)


def test_a_loop_restarts_the_clip_and_keeps_its_decoder(tmp_path: Path) -> None:
    path = h264(tmp_path / "a.mp4", 34, bf="2")
    nvc = FakeNvc()
    with (
        pool_on_cpu(nvc) as pool,
        seen(str(path), NVDEC, pool=pool, pace="fast", loop=True) as watched,
    ):
        assert until(lambda: len(watched.breaks) >= 3, 30)
        assert [type(item).__name__ for item in watched.items[:70]].count("SampledFrame") == 68
        assert nvc.created == 1


@pytest.mark.slow
@pytest.mark.rtsp
def test_a_camera_over_rtsp_gives_frames_at_once(tmp_path: Path) -> None:
    if problem := missing_rtsp():
        pytest.skip(problem)
    path = h264(tmp_path / "a.mp4", 60, gop=15, bf="0", tune="zerolatency")
    nvc = FakeNvc()
    with (
        pool_on_cpu(nvc) as pool,
        RtspServer({"/a": path}) as server,
        seen(server.url("/a"), NVDEC, pool=pool) as watched,
    ):
        assert until(lambda: len(watched.frames) > 40, 30), watched.states
        assert watched.status.fps() > 10
    assert not fallbacks(watched)
    assert [given["latency"].name for given in nvc.arguments] == ["LOW"]
    arrivals = [frame.arrived_monotonic for frame in watched.frames]
    assert np.max(np.diff(arrivals)) < 0.5
    assert nvc.open == 0


@pytest.mark.slow
def test_a_camera_that_comes_back_keeps_its_decoder(tmp_path: Path) -> None:
    data = h264(tmp_path / "a.ts", 45, bf="0").read_bytes()
    nvc = FakeNvc()
    with (
        pool_on_cpu(nvc) as pool,
        TcpCamera(streamed(data, seconds=2.0)) as camera,
        seen(camera.url, NVDEC, pool=pool) as watched,
    ):
        assert until(lambda: camera.connections >= 2 and len(watched.frames) > 60, 30)
    assert nvc.created == 1
    assert not fallbacks(watched)


# Fallbacks ----------------------------------------------------------------------------------------


def assert_all_once(nvdec: Seen, software: Seen, reason: str) -> None:
    """The camera went on in software without losing a frame or giving one twice."""
    assert_same(nvdec, software)
    assert fallbacks(nvdec) == {reason: 1}
    said = f'cidc_software_decoding{{camera="a",reason="{reason}"}} 1.0'
    assert said in nvdec.metrics.exposition().decode()


@pytest.mark.parametrize("at_first_packet", [False, True])
def test_a_decoder_that_cannot_be_created(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, at_first_packet: bool
) -> None:
    path = h264(tmp_path / "a.mp4", bf="2")
    nvc = FakeNvc()
    nvc.fail_to_create(at_first_packet=at_first_packet)
    with pool_on_cpu(nvc) as pool:
        watched = read_to_end(path, NVDEC, pool)
        nvc._failures.clear()  # their exceptions refer to the decoder
    assert_all_once(watched, read_to_end(path), "no_decoder")
    assert sum("not by NVDEC" in record.message for record in caplog.records) == 1
    assert any("decoded in software" in detail for _, detail in watched.states)


@pytest.mark.parametrize(
    ("tag", "frames_b"), [(0, "2"), (3, "2"), (12, "0"), (17, "2"), (30, "0"), (69, "2")]
)
def test_no_memory_in_the_middle(tmp_path: Path, tag: int, frames_b: str) -> None:
    path = h264(tmp_path / "a.mp4", bf=frames_b)
    nvc = FakeNvc()
    nvc.raise_in_decode(tag, RuntimeError("CUDA_ERROR_OUT_OF_MEMORY"))
    assert_all_once(by_nvdec(path, nvc), read_to_end(path), "memory")


def test_errors_in_several_groups(tmp_path: Path) -> None:
    path = h264(tmp_path / "a.mp4", 100, bf="0", gop=10, sc_threshold="0")
    nvc = FakeNvc()
    for tag in (15, 18, 21):  # after an error, the rest of the group gets no tag
        nvc.raise_in_decode(tag)
    nvdec, software = by_nvdec(path, nvc), read_to_end(path)
    assert fallbacks(nvdec) == {"errors": 1}
    times = [round(frame.pts_seconds * 15) for frame in nvdec.frames]
    assert times == sorted(set(times))
    assert len(nvdec.frames) >= len(software.frames) - 15
    assert nvdec.metrics.total(nvdec.metrics.corrupt) == 3


def test_a_hang_takes_the_camera_to_software_and_leaves_the_others(tmp_path: Path) -> None:
    path = h264(tmp_path / "a.mp4", bf="2")
    software = read_to_end(path)
    release = threading.Event()

    class Hanging(FakeNvc):
        def enter_decode(self, decoder: Any, packet: Any) -> None:
            if decoder.number == 1 and packet.pts == 20 and packet.bsl:
                release.wait()
            super().enter_decode(decoder, packet)

    nvc = Hanging()
    with pool_on_cpu(nvc, lanes=2, patience_seconds=0.5) as pool:
        first = read_to_end(path, NVDEC, pool)
        others = [read_to_end(path, NVDEC, pool) for _ in range(2)]
        assert pool.abandoned == 1
        started_at = time.monotonic()
        pool.close()
        assert time.monotonic() - started_at < 5
        release.set()
        assert until(lambda: nvc.open == 0, 10)
    assert_all_once(first, software, "hung")
    for other in others:
        assert_same(other, software)
        assert not fallbacks(other)


@pytest.mark.parametrize(
    ("name", "codec", "size", "reason"),
    [
        ("a.avi", "mjpeg", SIZE, "codec"),
        ("a.mp4", "mpeg4", SIZE, "codec"),
        ("a.webm", "libvpx-vp9", (96, 80), "size"),
    ],
)
@pytest.mark.parametrize("choice", ["auto", "nvdec"])
def test_video_that_nvdec_does_not_take(
    tmp_path: Path, name: str, codec: str, size: tuple[int, int], reason: str, choice: str
) -> None:
    path = write_video(tmp_path / name, codec, range(30), size=size)
    nvc = FakeNvc()
    watched = by_nvdec(path, nvc, QUICK.model_copy(update={"decoder": choice}))
    assert_all_once(watched, read_to_end(path), reason)
    assert nvc.created == 0
    is_said = any("decoded in software" in detail for _, detail in watched.states)
    assert is_said is (choice == "nvdec")


def test_a_camera_without_key_frames(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "w.webm", "libvpx-vp9", range(30), size=SIZE, gop=1000)
    path = damaged(whole, tmp_path / "a.webm", packets=[0])
    nvdec, software = by_nvdec(path), read_to_end(path)
    assert fallbacks(nvdec) == {"no_key_frames": 1}
    assert nvdec.frames == software.frames == []
    assert nvdec.status.detail == software.status.detail


def test_packets_that_both_decoders_find_damaged_are_counted_once(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "w.webm", "libvpx-vp9", range(60), size=SIZE, gop=10)
    path = damaged(whole, tmp_path / "a.webm", packets=[14, 24, 34, 37, 45])
    nvc = FakeNvc()
    nvc.raises_on_corrupt = True
    nvdec = by_nvdec(path, nvc)
    assert fallbacks(nvdec) == {"errors": 1}
    assert nvdec.metrics.total(nvdec.metrics.corrupt) == 5


@pytest.mark.parametrize("wait_seconds", [0.0, 300.0])
def test_nvdec_is_tried_again_on_a_new_connection_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wait_seconds: float
) -> None:
    monkeypatch.setattr(software_fallback, "_RETRY_SECONDS", wait_seconds)
    path = h264(tmp_path / "a.mp4", 34, bf="2")
    nvc = FakeNvc()
    nvc.raise_in_decode(20, RuntimeError("CUDA_ERROR_OUT_OF_MEMORY"))
    with (
        pool_on_cpu(nvc) as pool,
        seen(str(path), NVDEC, pool=pool, pace="fast", loop=True) as watched,
    ):
        assert until(lambda: len(watched.breaks) >= 4, 30)
        shown = watched.metrics.exposition().decode()
        has_recovered = wait_seconds == 0
        assert nvc.created == 1 + has_recovered
        assert [type(item).__name__ for item in watched.items[:105]].count("SampledFrame") == 102
        assert f"cidc_decoder_retries_total {float(has_recovered)}" in shown
        assert ('cidc_software_decoding{camera="a"' in shown) is not has_recovered
        assert ("decoded in software" in watched.status.detail) is not has_recovered
    assert fallbacks(watched) == {"memory": 1}


@pytest.mark.slow
def test_a_camera_that_failed_is_decoded_by_nvdec_when_it_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its packets are received while software still decodes those of the connection before."""
    monkeypatch.setattr(software_fallback, "_RETRY_SECONDS", 0.0)
    data = h264(tmp_path / "a.ts", 45, bf="0").read_bytes()
    nvc = FakeNvc()
    nvc.fail_to_create()
    with (
        pool_on_cpu(nvc) as pool,
        TcpCamera(streamed(data, seconds=2.0)) as camera,
        seen(camera.url, NVDEC, pool=pool) as watched,
    ):
        assert until(lambda: nvc.decoded > 40, 30)
        nvc._failures.clear()  # their exceptions refer to the decoder
        assert camera.connections >= 2
    assert fallbacks(watched) == {"no_decoder": 1}
    assert watched.metrics.total(watched.metrics.decoder_retries) == 1


def test_a_group_of_any_length_is_kept(tmp_path: Path) -> None:
    path = h264(tmp_path / "a.mp4", 120, gop=60, bf="0", sc_threshold="0")
    short = NVDEC.model_copy(update={"max_gop_seconds": 1.0})
    nvc = FakeNvc()
    nvc.raise_in_decode(40, RuntimeError("CUDA_ERROR_OUT_OF_MEMORY"))
    assert_all_once(by_nvdec(path, nvc, short), read_to_end(path), "memory")


@pytest.mark.parametrize("stops", [False, True])
def test_a_long_group_in_software_shows_life_and_can_be_stopped(
    tmp_path: Path, stops: bool
) -> None:
    packets = coded_file(h264(tmp_path / "a.mp4", 60, gop=60, bf="0", sc_threshold="0"))
    nvc = FakeNvc()
    nvc.raise_in_decode(50, RuntimeError("CUDA_ERROR_OUT_OF_MEMORY"))
    stop = threading.Event()
    signs: list[int] = []

    def sign() -> None:
        signs.append(1)
        if stops and len(signs) == 10:
            stop.set()

    with pool_on_cpu(nvc) as pool:
        frames = CameraFrames(
            "a",
            generation=1,
            is_live=True,
            source=NVDEC,
            clip=ClipConfig(),
            metrics=Metrics(),
            short_side=144,
            pool=pool,
            stage=None,
            stop=stop,
            on_frame=lambda frame, converts: None,
            on_wait=sign,
        )
        for coded in packets[:50]:
            list(frames.take(coded))
        signs.clear()
        list(frames.take(packets[50]))
        frames.close()
    assert len(signs) == 10 if stops else len(signs) > 50


def test_a_group_that_is_too_large_to_keep_is_lost_up_to_the_next_key_frame(tmp_path: Path) -> None:
    path = h264(tmp_path / "a.mp4", 120, gop=60, bf="0", sc_threshold="0")
    small = NVDEC.model_copy(update={"max_queue_megabytes": 0.002})
    nvc = FakeNvc()
    nvc.raise_in_decode(40, RuntimeError("CUDA_ERROR_OUT_OF_MEMORY"))
    nvdec = by_nvdec(path, nvc, small)
    assert fallbacks(nvdec) == {"memory": 1}
    shown = [round(frame.pts_seconds * 15) for frame in nvdec.frames]
    assert shown == [*range(40), *range(60, 120)]
    assert nvdec.breaks == ["gap", "ended"]


def test_auto_prefers_nvdec_then_dali_then_software(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.webm", "libvpx-vp9", range(30), size=SIZE)
    nvc = FakeNvc()
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(pool_on_cpu(nvc))
        dali = stack.enter_context(decoding_on_cpu())
        used: dict[str, tuple[int, bool]] = {}
        for choice in ("auto", "nvdec", "dali", "software"):
            config = QUICK.model_copy(update={"decoder": choice})
            before = nvc.created
            with seen(str(path), config, pool=pool, decoding=dali, pace="fast") as watched:
                assert until(lambda seen=watched: "ended" in seen.breaks, 30)
            by_dali = watched.metrics.by_label(watched.metrics.gops, "decoder")
            used[choice] = nvc.created - before, "dali" in by_dali
    assert used == {
        "auto": (1, False),
        "nvdec": (1, False),
        "dali": (0, True),
        "software": (0, False),
    }
