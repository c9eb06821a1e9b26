"""Surfaces to RGB in plain PyTorch: float64 matrices, FFmpeg's converter, and what is refused."""

from __future__ import annotations

import io
from typing import Any

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from configs import KernelError, ShapeError
from model.media.conversion import FrameConverter, quarter_turns
from model.media.nv12 import SurfaceColours, SurfaceConverter
from model.media.preprocess import PreprocessConfig, Preprocessor
from tests.model.test_conversion import COEFFICIENTS, NEAREST
from tests.support.surfaces import (
    CASES,
    COLOURS,
    expected_rgb,
    frame_of,
    noise,
    planes_of,
    surface_of,
)

BT709 = COLOURS[1]


@pytest.mark.parametrize("colours", COLOURS, ids=lambda colours: str(colours.coefficients))
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_picture_is_the_one_of_float64(
    case: tuple[int, int, int | None, int], dtype: torch.dtype, colours: SurfaceColours
) -> None:
    width, height, short_side, turns = case
    bits = 8 if dtype == torch.uint8 else 10
    planes = noise(width, height, max_level=2**bits - 1)
    samples = surface_of(planes, dtype, padding=2)
    before = samples.clone()
    found = SurfaceConverter(short_side=short_side)(
        samples, width=width, height=height, colours=colours, turns=turns
    )
    expected = expected_rgb(planes, colours, short_side=short_side, turns=turns, bits=bits)
    assert found.dtype == torch.uint8
    assert found.is_contiguous()
    assert found.shape == expected.shape
    # rounding, and a thousandth of a level for float32
    assert np.abs(found.numpy() - expected).max() <= 0.501
    assert torch.equal(samples, before)


def scenery(width: int, height: int) -> list[Tensor]:
    """Return planes with slopes, sharp edges and saturated colours."""
    y, x = np.mgrid[0:height, 0:width]
    luma = 126 + 60 * np.sin(x / 9) * np.cos(y / 7) + 40 * ((x // 23 + y // 17) % 2)
    down, across = np.mgrid[0 : -(-height // 2), 0 : -(-width // 2)]
    cb = 128 + 100 * ((across // 19) % 2) - 50 * np.sin(down / 5)
    cr = 128 - 100 * ((down // 13) % 2) + 50 * np.cos(across / 6)
    return [torch.from_numpy(plane.clip(16, 235).astype(np.int64)) for plane in (luma, cb, cr)]


def converted(frame: Any, short_side: int | None, codec: str) -> NDArray[np.uint8]:
    dtype = torch.uint16 if frame.format.name.endswith("10le") else torch.uint8
    rgb: NDArray[np.uint8] = SurfaceConverter(short_side=short_side)(
        surface_of(planes_of(frame), dtype),
        width=frame.width,
        height=frame.height,
        colours=SurfaceColours.of(frame, codec),
        turns=quarter_turns(frame),
    ).numpy()
    return rgb


SIZES = [
    ((1280, 720), 448),
    ((320, 180), 100),
    ((180, 320), 101),
    ((321, 241), 120),
    ((322, 240), None),
    ((321, 240), None),
    ((320, 241), None),
]


@pytest.mark.parametrize("colour_range", [1, 2], ids=["limited", "full"])
@pytest.mark.parametrize(("size", "short_side"), SIZES, ids=str)
def test_it_agrees_with_the_converter_of_software_frames(
    size: tuple[int, int], short_side: int | None, colour_range: int
) -> None:
    frame = frame_of(scenery(*size), colour_range)
    software = FrameConverter(short_side, is_exact=True)(frame)
    difference = np.abs(converted(frame, short_side, "vp9").astype(int) - software)
    assert (difference > 1).mean() < 2e-4  # FFmpeg's fixed-point numbers, at sharp edges
    assert difference.max() <= 4
    assert difference.mean() < 0.03
    if size == (322, 240):
        assert difference.max() <= 1  # nothing is filtered


@pytest.mark.parametrize("colour_range", [1, 2], ids=["limited", "full"])
@pytest.mark.parametrize("scaled", [False, True], ids=["same size", "scaled"])
def test_every_level_of_every_plane_agrees(scaled: bool, colour_range: int) -> None:
    """16 x 16 x 16 colours, in flat squares of 4 pixels.

    FFmpeg's filters overflow at colours far outside the limited range; they are left out.
    """
    levels = torch.arange(0, 256, 17)
    if scaled and colour_range == 1:
        levels = levels.clamp(16, 235)
    colours = torch.cartesian_prod(levels, levels, levels).view(64, 64, 3)
    planes = [
        colours[..., plane].repeat_interleave(side, 0).repeat_interleave(side, 1)
        for plane, side in ((0, 4), (1, 2), (2, 2))
    ]
    frame = frame_of(planes, colour_range)
    short_side = 128 if scaled else None
    software = FrameConverter(short_side, is_exact=True)(frame)
    difference = converted(frame, short_side, "vp9").astype(int) - software
    assert np.abs(difference).max() <= (3 if scaled else 1)
    assert np.abs(difference).mean() < 0.03


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv420p10le"])
def test_it_agrees_on_decoded_frames_after_the_graph(pixel_format: str) -> None:
    """The chroma of H.264 lies at the left; the network's picture differs by one grey level."""
    preprocess = Preprocessor(PreprocessConfig(short_side=64, height=64, width=64), max_batch=1)
    for frame in coded(pixel_format):
        for short_side in (128, 97):
            ours = converted(frame, short_side, "h264")
            software = FrameConverter(short_side, is_exact=True)(frame)
            seen = [
                preprocess([np.ascontiguousarray(rgb)[None]])[0, 0].clone().int()
                for rgb in (ours, software)
            ]
            assert (seen[0] - seen[1]).abs().max() <= 1
            assert (seen[0] - seen[1]).abs().float().mean() < 0.05


def coded(pixel_format: str) -> list[Any]:
    """Return frames that went through an H.264 encoder and decoder."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream: Any = container.add_stream("libx264", rate=5, options={"crf": "12"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, pixel_format
        for _ in range(2):
            frame = frame_of(scenery(320, 240)).reformat(format=pixel_format)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    file.seek(0)
    with av.open(file) as container:
        return list(container.decode(video=0))


@pytest.mark.parametrize("number", NEAREST)
def test_colours_follow_the_choice_of_the_converter(number: int) -> None:
    frame = frame_of(noise(64, 48), matrix=number)
    colours = SurfaceColours.of(frame)
    assert colours.coefficients == COEFFICIENTS[NEAREST[number]]
    assert colours.is_left_sited


@pytest.mark.parametrize(("number", "is_full"), [(0, False), (1, False), (2, True), (3, False)])
def test_the_range_follows_the_choice_of_the_converter(number: int, is_full: bool) -> None:
    assert SurfaceColours.of(frame_of(noise(8, 8), number)).has_full_range is is_full


@pytest.mark.parametrize("number", [0, 1, 2])
def test_frames_that_say_their_range_by_their_format_have_full_range(number: int) -> None:
    frame = av.VideoFrame(16, 16, "yuvj420p")
    for plane, level in zip(frame.planes, (30, 110, 140), strict=True):
        plane.update(bytes([level]) * plane.buffer_size)
    frame.color_range = number
    assert SurfaceColours.of(frame).has_full_range
    difference = np.abs(converted(frame, None, "mjpeg").astype(int) - FrameConverter(None)(frame))
    assert difference.max() <= 1


@pytest.mark.parametrize(
    ("codec", "is_left"),
    [("h264", True), ("hevc", True), ("vp8", False), ("vp9", False), ("av1", False)],
)
def test_the_codec_says_where_chroma_lies(codec: str, is_left: bool) -> None:
    assert SurfaceColours.of(frame_of(noise(8, 8)), codec).is_left_sited is is_left


def test_the_picture_has_memory_of_its_own() -> None:
    samples = surface_of(noise(16, 8))
    convert = SurfaceConverter(short_side=None)
    first = convert(samples, width=16, height=8, colours=BT709)
    kept = first.clone()
    samples.fill_(0)
    convert(samples, width=16, height=8, colours=BT709)
    assert torch.equal(first, kept)


WRONG = {
    "a row is missing": torch.zeros(11, 8, dtype=torch.uint8),
    "an odd width": torch.zeros(12, 7, dtype=torch.uint8),
    "float": torch.zeros(12, 8),
    "not a plane": torch.zeros(12, 8, 1, dtype=torch.uint8),
    "gaps in the rows": torch.zeros(12, 16, dtype=torch.uint8)[:, ::2],
}


@pytest.mark.parametrize("samples", WRONG.values(), ids=WRONG)
def test_what_is_not_a_surface_is_refused(samples: Tensor) -> None:
    with pytest.raises(ShapeError, match="a surface must be uint8 or uint16"):
        SurfaceConverter(short_side=None)(samples, width=8, height=8, colours=BT709)


@pytest.mark.parametrize("size", [(9, 8), (8, 9), (0, 8), (8, 0)])
def test_a_size_that_does_not_fit_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ShapeError, match=rf"8x8 pixels cannot show {size[0]}x{size[1]}"):
        SurfaceConverter(short_side=None)(
            surface_of(noise(8, 8)), width=size[0], height=size[1], colours=BT709
        )


def test_the_kernel_is_never_replaced_where_it_was_asked_for() -> None:
    with pytest.raises(KernelError, match="runs on the CPU"):
        SurfaceConverter(short_side=None, path="cuda")(
            surface_of(noise(8, 8)), width=8, height=8, colours=BT709
        )
