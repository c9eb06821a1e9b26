"""The kernel that converts surfaces, against float64 and against its sibling in plain PyTorch."""

import numpy as np
import pytest
import torch

from model.media.nv12 import SurfaceConverter
from tests.support.surfaces import CASES, COLOURS, expected_rgb, noise, surface_of

BIG = ((1920, 1080, 448, 0), (1280, 720, 224, 1), (854, 480, None, 0))


@pytest.mark.parametrize("colours", COLOURS, ids=lambda colours: str(colours.coefficients))
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
@pytest.mark.parametrize("case", CASES + BIG, ids=str)
def test_the_kernel_gives_the_picture(case, dtype, colours) -> None:  # type: ignore[no-untyped-def]
    width, height, short_side, turns = case
    bits = 8 if dtype == torch.uint8 else 10
    planes = noise(width, height, max_level=2**bits - 1)
    # The padding is cut off after the copy, so the rows on the GPU lie apart, too.
    whole = surface_of(planes, dtype, padding=0)
    apart = torch.nn.functional.pad(whole.int(), (0, 6), value=255).to(dtype).cuda()
    samples = apart[:, : whole.shape[1]]
    found, plain = (
        SurfaceConverter(short_side=short_side, path=path)(  # type: ignore[arg-type]
            samples, width=width, height=height, colours=colours, turns=turns
        ).cpu()
        for path in ("cuda", "reference")
    )
    expected = expected_rgb(planes, colours, short_side=short_side, turns=turns, bits=bits)
    assert found.shape == expected.shape
    assert np.abs(found.numpy() - expected).max() <= 0.502
    assert (found.int() - plain.int()).abs().max() <= 1


def test_the_kernel_runs_on_the_current_stream() -> None:
    stream = torch.cuda.Stream()
    planes = noise(640, 360)
    with torch.cuda.stream(stream):
        samples = surface_of(planes).cuda(non_blocking=True)
        found = SurfaceConverter(short_side=112, path="cuda")(
            samples, width=640, height=360, colours=COLOURS[0]
        )
    stream.synchronize()
    expected = expected_rgb(planes, COLOURS[0], short_side=112)
    assert np.abs(found.cpu().numpy() - expected).max() <= 0.502
