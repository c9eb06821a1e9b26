"""The clip gather's kernel against its twin on the CPU."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from model.clip_gather import ClipGather

STATISTICS: Any = SimpleNamespace(mean_rgb=(120.0, 110.0, 90.0), std_rgb=(60.0, 55.0, 50.0))


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("size", [(112, 112), (224, 224), (3, 7)])
def test_the_kernel_gives_what_the_cpu_gives(size: tuple[int, int], dtype: torch.dtype) -> None:
    ring = torch.randint(0, 256, (5, 32, *size, 3), dtype=torch.uint8)
    clips = [(4, 0), (0, 31), (2, 7), (2, 8)]
    on_cpu = ClipGather(STATISTICS, dtype=torch.float32, device=torch.device("cpu"))(ring, clips)
    on_gpu = ClipGather(STATISTICS, dtype=dtype, device=torch.device("cuda"), path="cuda")(
        ring.cuda(), clips
    )
    assert on_gpu.is_contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(on_gpu.cpu().float(), on_cpu, rtol=torch.finfo(dtype).eps, atol=4e-7)
    plain = ClipGather(STATISTICS, dtype=dtype, device=torch.device("cuda"), path="reference")(
        ring.cuda(), clips
    )
    torch.testing.assert_close(on_gpu, plain, rtol=torch.finfo(dtype).eps, atol=4e-7)
