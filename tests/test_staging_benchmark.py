"""The comparison of memories, on fake devices; its times mean nothing here."""

from pathlib import Path

import pytest
import torch

from benchmarks import staging as benchmark
from benchmarks.staging import PageableMemory, as_markdown, compare, random_frames
from model.pycuda_memory import PyCudaMemory
from tests.support import fake_pycuda
from tests.support.fake_cuda import FakeCuda
from tests.support.fake_pycuda import FakeDriver, LogicError

GPU = torch.device("cuda", 0)
WAYS = ["pageable", "torch", "pycuda", "pycuda write-combined"]


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    return fake_pycuda.install(FakeCuda(monkeypatch), monkeypatch)


def target(size: int) -> torch.Tensor:
    return torch.zeros(size, dtype=torch.uint8)


def test_all_ways_are_checked_and_timed(driver: FakeDriver) -> None:
    ways, missing = benchmark.open_ways(GPU)
    assert (list(ways), missing) == (WAYS, {})
    lines = compare("2 x 4x3", random_frames(2, 3, 4), ways, GPU, 5, target)
    assert [(line.way, line.step) for line in lines] == [
        (way, step) for way in WAYS for step in ("fill", "copy")
    ]
    assert all(0 < line.p20 <= line.median <= line.p80 for line in lines)
    for line in lines:
        expected = 2 * 3 * 4 * 3 / (line.median * 1e-3) / 1e9
        assert line.gigabytes_per_second == pytest.approx(expected)
    assert not driver.live
    assert as_markdown(lines, "A device").count("\n") == 4 + 8


def test_wrong_bytes_are_an_error(driver: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PyCudaMemory, "copy", lambda memory, target, source: None)
    ways = {"pycuda": PyCudaMemory(0)}
    with pytest.raises(ValueError, match=r"pycuda memory brought wrong bytes .*\(2 x 4x3\)"):
        compare("2 x 4x3", random_frames(2, 3, 4), ways, GPU, 5, target)
    assert not driver.live


def test_ways_that_cannot_run_are_named(driver: FakeDriver) -> None:
    driver.failure["init"] = LogicError("cuInit failed: no device")
    ways, missing = benchmark.open_ways(GPU)
    assert list(ways) == WAYS[:2]
    assert missing == dict.fromkeys(WAYS[2:], "PyCUDA: cuInit failed: no device")


def test_without_a_gpu_it_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert benchmark.main(["--markdown", str(tmp_path / "table.md")]) == 2
    assert "no CUDA device" in capsys.readouterr().err
    assert not (tmp_path / "table.md").exists()


def test_pageable_memory_is_not_page_locked() -> None:
    assert not PageableMemory(GPU).allocate(8).is_pinned()
