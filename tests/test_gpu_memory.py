"""Memory on paper: against sums made by hand, and the table in the docs."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from model.complexity import measure
from model.media.preprocess import PreprocessConfig
from model.network import ModelConfig
from scripts.gpu_memory import (
    Row,
    _LivingBytes,
    decoder_memory,
    dpb_frames,
    main,
    network_memory,
    pipeline_memory,
    table,
)
from stream.analysis.config import BatchConfig
from tests import ROOT

SMALL = ModelConfig.model_validate({"backbone": "r2d", "depth": 18, "frames": 16, "width": 8})


@pytest.mark.parametrize(
    ("codec", "level", "size", "frames"),
    [
        # 120 x 68 macroblocks: 32768 // 8160, 110400 // 8160
        ("h264", 4.1, (1920, 1080), 4),
        ("h264", 5.0, (1920, 1080), 13),
        # 80 x 45: 18000 // 3600
        ("h264", 3.1, (1280, 720), 5),
        # 40 x 30: 27, and 16 are permitted
        ("h264", 4.0, (640, 480), 16),
        # 240 x 135: 110400 // 32400
        ("h264", 5.0, (3840, 2160), 3),
        # 93 % of the level's samples, then 41 %, 14 %, 23 % and 75 % and a bit
        ("hevc", 4.1, (1920, 1080), 6),
        ("hevc", 4.1, (1280, 720), 12),
        ("hevc", 4.1, (640, 480), 16),
        ("hevc", 5.1, (1920, 1080), 16),
        ("hevc", 3.1, (1024, 768), 6),
        ("hevc", 3.1, (960, 720), 8),
    ],
)
def test_frames_that_a_decoder_keeps(
    codec: str, level: float, size: tuple[int, int], frames: int
) -> None:
    assert dpb_frames(codec, level, *size) == frames  # type: ignore[arg-type]


def test_a_1080p_decoder_by_hand() -> None:
    # a pitch of 2048, 1088 rows of luma and 544 of chroma: 3,342,336 bytes a surface
    memory = decoder_memory(1920, 1080)
    assert memory.decode_surfaces == (4 + 4) * 3_342_336
    assert memory.output_surfaces == 2 * 3_342_336
    assert memory.copies == 2 * 3_110_400
    assert memory.total == 26_738_688 + 6_684_672 + 6_220_800
    deep = decoder_memory(1920, 1080, codec="hevc", bit_depth=10, copies=1)
    # 3840 bytes are a multiple of 256; 3840 x 1632 rows
    assert deep.decode_surfaces == (6 + 4) * 3840 * 1632
    assert deep.copies == 6_220_800


def test_living_results_are_counted_until_they_die() -> None:
    layers = nn.Sequential(nn.ReLU(), nn.ReLU(), nn.Flatten(), nn.ReLU(inplace=True))
    given = torch.empty(10, 100, device="meta")
    with torch.no_grad(), _LivingBytes() as living:
        kept = layers(given)
    # the input is the caller's; two results of 4000 bytes live while the second is made
    assert living.peak_bytes == 8000
    assert kept.shape == (10, 100)


def test_weights_of_a_network_are_its_parameters() -> None:
    plain = SMALL.model_copy(update={"cidc": None})
    weights, results = network_memory(plain, batch=2, height=64, width=64, dtype=torch.bfloat16)
    parameters = measure(plain).parameters
    # two bytes each, four in the last layer (64 channels, 400 classes); folding changes little
    assert weights == pytest.approx(2 * parameters + 2 * (64 * 400 + 400), rel=0.01)
    # the stem's result: 8 channels, half the frames, half the side
    stem = 2 * 8 * 8 * 32 * 32 * 2
    assert stem <= results <= 4 * stem
    _, twice = network_memory(plain, batch=4, height=64, width=64, dtype=torch.bfloat16)
    assert twice == pytest.approx(2 * results, rel=0.01)


def test_a_pipeline_by_hand() -> None:
    rows = pipeline_memory(
        1920,
        1080,
        cameras=100,
        model=SMALL,
        preprocess=PreprocessConfig(short_side=128, height=112, width=112),
        batch=BatchConfig(max_batch=4, frames_at_once=10, camera_queue=5, ready_batches=3),
    )
    found = {row.name: (row.usual, row.at_most) for row in rows}
    frame = 455 * 256 * 3  # twice the short side
    clip = 16 * 112 * 112 * 3
    assert found["decoders: frames that they refer to"] == (100 * 8 * 3_342_336,) * 2
    assert found["RGB frames on their way to the ring"] == (200 * frame, 600 * frame)
    assert found["frames in one run of the preprocessing"][0] == 10 * (frame + 112 * 112 * 3)
    assert found["ring of clips"] == (100 * clip, 100 * clip)
    assert found["batches of clips"] == (2 * 4 * clip * 2, 4 * 4 * clip * 2)
    few = pipeline_memory(640, 360, cameras=2, model=SMALL, preprocess=PreprocessConfig())
    by_name = {row.name: row.usual for row in few}
    assert by_name["ring of clips"] == 64 * 16 * 256 * 256 * 3
    # frames that are smaller than twice the short side keep their size
    assert by_name["RGB frames on their way to the ring"] == 2 * 2 * 640 * 360 * 3


def test_the_table_ends_with_the_sum() -> None:
    assert table([Row("a", 1 << 20, 3 << 30), Row("b", 2 << 20, 0)]) == (
        "| part | usually, MiB | at most, MiB |\n|---|---|---|\n"
        "| a | 1 | 3,072 |\n| b | 2 | 0 |\n| **sum** | 3 | 3,072 |\n"
    )


def test_the_table_in_the_docs_is_the_one_that_is_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([]) == 0
    page = (ROOT / "docs/how-to/gpu.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out in page, "run: python -m scripts.gpu_memory"
