"""What DALI decodes on the GPU against software: both colour matrices, and 1080 rows."""

from pathlib import Path

import pytest
import torch

pytest.importorskip("pydantic")
pytest.importorskip("nvidia.dali", reason="DALI is not installed")
pytest.importorskip("av", reason="PyAV is not installed")
from tests.support.dali_parity import BT601, BT709, decoded_both_ways, write_tagged


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize("size", [(640, 360), (1920, 1080)])
@pytest.mark.parametrize("matrix", [BT601, BT709])
def test_the_gpu_decodes_what_software_decodes(
    tmp_path: Path, codec: str, size: tuple[int, int], matrix: int
) -> None:
    path = write_tagged(tmp_path / "a.mp4", codec, size, matrix)
    by_dali, by_software = decoded_both_ways(path, torch.device("cuda"))
    difference = (by_dali.int() - by_software.int()).abs().float()
    print(
        f"{codec} {size} matrix {matrix}: mean {difference.mean():.2f}, max {difference.max():.0f}"
    )
    assert difference.mean() < 2
    # a cast of one colour, or wrong rows at the bottom, would not show in the mean of all
    assert difference.mean(dim=(1, 2, 3)).max() < 3
    assert difference[2, :, -4:].mean() < 5
