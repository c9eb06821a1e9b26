"""The kernel that converts surfaces, run on the CPU, against float64 matrices in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.media.nv12 import SurfaceColours, SurfaceConverter, surface_kernels
from tests.support.shim import ORDERS, Shim
from tests.support.surfaces import CASES, COLOURS, expected_rgb, noise, surface_of


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Shim:
    built = Shim(tmp_path_factory.mktemp("shim"))
    built.build(list(surface_kernels()))
    return built


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_kernels_source_gives_the_picture(
    shim: Shim, case: tuple[int, int, int | None, int], dtype: torch.dtype
) -> None:
    width, height, short_side, turns = case
    bits = 8 if dtype == torch.uint8 else 10
    planes = noise(width, height, max_level=2**bits - 1)
    colours = COLOURS[(width + bits) % len(COLOURS)]
    samples = surface_of(planes, dtype, padding=6)
    found = SurfaceConverter(short_side=short_side).by_kernel(
        shim.run, samples, width=width, height=height, colours=colours, turns=turns
    )
    expected = expected_rgb(planes, colours, short_side=short_side, turns=turns, bits=bits)
    assert found.is_contiguous()
    assert found.shape == expected.shape
    # rounding, and a thousandth of a level for float32
    assert np.abs(found.numpy() - expected).max() <= 0.501


@pytest.mark.parametrize("short_side", [None, 13])
def test_what_is_not_shown_is_not_read(shim: Shim, short_side: int | None) -> None:
    """Decoders make 1088 rows of 1080, for example."""
    planes = noise(50, 30)
    samples = surface_of(planes, margin=8)
    assert samples.shape == (57, 58)
    convert = SurfaceConverter(short_side=short_side)
    expected = expected_rgb(planes, COLOURS[0], short_side=short_side)
    for found in (
        convert.by_kernel(shim.run, samples, width=50, height=30, colours=COLOURS[0]),
        convert(samples, width=50, height=30, colours=COLOURS[0]),
    ):
        assert np.abs(found.numpy() - expected).max() <= 0.501


def test_threads_in_any_order_give_the_same_bytes(shim: Shim) -> None:
    samples = surface_of(noise(70, 50))
    found = []
    for order in ORDERS:
        shim.order = order
        convert = SurfaceConverter(short_side=33)
        found.append(
            convert.by_kernel(shim.run, samples, width=70, height=50, colours=SurfaceColours())
        )
    shim.order = "forwards"
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_one_launch_makes_the_picture(shim: Shim) -> None:
    before = len(shim.launched)
    SurfaceConverter(short_side=5).by_kernel(
        shim.run, surface_of(noise(9, 8)), width=9, height=8, colours=SurfaceColours(), turns=1
    )
    assert len(shim.launched) == before + 1
