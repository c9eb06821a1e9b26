"""Regions of frames in NumPy and of frames that lie on a device."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stream.analysis.crop import crop, is_flat
from stream.cameras.config import RegionConfig

FRAME_HWC = np.random.default_rng(5).integers(0, 256, (90, 160, 3), np.uint8)


@pytest.mark.parametrize(
    "region",
    [
        None,
        RegionConfig(id="a", left=0.25, right=0.75),
        RegionConfig(id="a", top=0.5, bottom=0.6),
        RegionConfig(id="a", left=0.1, right=0.2),
    ],
)
def test_a_tensor_is_cut_like_an_array(region: RegionConfig | None) -> None:
    array = crop(FRAME_HWC, region)
    tensor = crop(torch.from_numpy(FRAME_HWC), region)
    assert isinstance(tensor, torch.Tensor)
    assert tensor.is_contiguous()
    assert np.array_equal(tensor.numpy(), array)
    assert is_flat(tensor) == is_flat(array)


def test_of_a_strip_the_middle_is_kept() -> None:
    strip = crop(FRAME_HWC, RegionConfig(id="a", top=0.5, bottom=0.6))
    assert strip.shape == (9, 72, 3)
    assert np.array_equal(strip, FRAME_HWC[45:54, 44:116])
