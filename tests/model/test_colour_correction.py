"""Colours of a BT.601 decoder, corrected, against the direct conversion by the tagged matrix."""

import numpy as np
import pytest
import torch

from model.media.colour_correction import correct_colours

# Rec. ITU-R BT.709, BT.2020, FCC 73.682 and SMPTE 240M: luma coefficients of red and blue.
COEFFICIENTS = {
    "BT.709": (0.2126, 0.0722),
    "BT.2020": (0.2627, 0.0593),
    "FCC": (0.30, 0.11),
    "SMPTE 240M": (0.212, 0.087),
}


def rgb(yuv_N3: np.ndarray, red: float, blue: float) -> np.ndarray:
    """Convert limited-range Y'CbCr by the formulas of the standards, unrounded."""
    luma = (yuv_N3[:, 0] - 16) * 255 / 219
    cb, cr = ((yuv_N3[:, index] - 128) * 255 / 224 for index in (1, 2))
    r = luma + 2 * (1 - red) * cr
    b = luma + 2 * (1 - blue) * cb
    return np.stack([r, (luma - red * r - blue * b) / (1 - red - blue), b], axis=1)


def matrix(red: float, blue: float) -> np.ndarray:
    """From the RGB of BT.601 to the RGB of these coefficients, found from three colours."""
    three = np.array([[128.0, 128, 128], [128, 140, 128], [128, 128, 140]])
    correct, wrong = rgb(three, red, blue), rgb(three, 0.299, 0.114)
    return np.asarray(np.linalg.solve(wrong, correct).T, np.float32)


@pytest.mark.parametrize("name", COEFFICIENTS)
def test_the_stated_errors_hold_for_every_colour(name: str) -> None:
    luma, cb, cr = np.meshgrid(
        np.arange(16, 236, 3), np.arange(16, 241, 2), np.arange(16, 241, 2), indexing="ij"
    )
    yuv = np.stack([luma, cb, cr], -1).reshape(-1, 3)
    exact = rgb(yuv, *COEFFICIENTS[name])
    is_colour = ((exact > -0.5) & (exact < 255.5)).all(1)
    decoded = rgb(yuv[is_colour], 0.299, 0.114)
    expected = np.clip(np.rint(exact[is_colour]), 0, 255)
    frames = torch.from_numpy(np.clip(np.rint(decoded), 0, 255).astype(np.uint8))
    frames_FHWC = frames.reshape(1, -1, 1, 3).clone()
    correct_colours(frames_FHWC, matrix(*COEFFICIENTS[name]))
    errors = np.abs(frames_FHWC.numpy().reshape(-1, 3) - expected)
    clipped = ((decoded < -0.5) | (decoded > 255.5)).any(1)
    assert errors[~clipped].max() <= 1
    assert (errors[clipped].max(0) <= (4, 37, 2)).all()
    if name == "BT.709":
        assert clipped.mean() == pytest.approx(0.15, abs=0.01)
        assert errors[~clipped].mean() == pytest.approx(0.25, abs=0.02)
        assert errors[clipped].mean() == pytest.approx(4.3, abs=0.2)
        assert np.abs(frames.numpy() - expected).mean() == pytest.approx(7.1, abs=0.2)


def test_a_clip_is_changed_in_place_and_its_neighbours_are_not() -> None:
    clips = torch.randint(0, 256, (3, 2, 4, 5, 3), dtype=torch.uint8)
    before = clips.clone()
    swapped = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]], np.float32)
    correct_colours(clips[1], swapped)
    assert torch.equal(clips[1], before[1].flip(-1))
    assert torch.equal(clips[[0, 2]], before[[0, 2]])
