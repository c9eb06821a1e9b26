"""Parts of the GPU check about cameras: a sweep of decoders, fleets of cameras."""

from pathlib import Path

import pytest
import torch

from scripts.gpu_decoders import read_video, run_sweep
from scripts.gpu_live import run_fleets
from scripts.gpu_targets import figures_in
from stream.ingest.decoder_pool import DecoderPool
from tests.support.coded_video import write_video
from tests.support.fake_nvc import FakeNvc


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(tmp_path / "camera.mp4", "libx264", range(12), size=(160, 96), bf="0")


def test_every_decoder_decodes_and_every_frame_is_counted(video: Path) -> None:
    nvc = FakeNvc()
    pool = DecoderPool(nvc, torch.device("cpu"), lanes=2)
    try:
        row = run_sweep(pool, read_video(video), decoders=5, seconds=0.3)
    finally:
        pool.close()
    assert row.decoders == nvc.created == nvc.closed == 5
    assert row.frames_per_second > 0
    assert 0 < row.p50_ms <= row.p95_ms
    # Five first packets are decoded before the clock runs.
    assert nvc.decoded - 5 == pytest.approx(row.frames_per_second * 0.3, rel=0.9)


def test_a_decoder_that_cannot_be_created_fails_the_sweep_by_its_message(video: Path) -> None:
    nvc = FakeNvc()
    nvc.fail_to_create(2, codec="h264")
    pool = DecoderPool(nvc, torch.device("cpu"), lanes=2)
    try:
        with pytest.raises(AssertionError, match=r"2 decoders cannot be opened: MediaError: "):
            run_sweep(pool, read_video(video), decoders=2, seconds=0.1)
    finally:
        pool.close()


def test_the_packets_of_a_file_come_as_annex_b_with_their_parameters(video: Path) -> None:
    coded = read_video(video)
    assert coded.codec == "h264"
    assert coded.size == (160, 96)
    assert coded.keeps_order
    assert len(coded.packets) == 12
    assert coded.packets[0].startswith(b"\0\0\0\1")
    assert coded.bytes_per_frame == sum(map(len, coded.packets)) / 12


@pytest.mark.slow
def test_a_fleet_runs_on_the_cpu_and_is_compared_with_the_memory_on_paper(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_fleets(fleets=(1,), seconds=6.0, device="cpu", size=(160, 96), depth=18, side=32, width=8)
    printed = capsys.readouterr().out
    assert "**1 cameras of 160x96**" in printed
    assert "of what the cameras sent" in printed
    assert "memory on paper: usually" in printed
    assert figures_in(printed.splitlines())["camera_to_event_p95_seconds_1"] > 0
