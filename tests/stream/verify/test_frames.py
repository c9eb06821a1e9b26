"""The frames that are sent: which ones, and that they are what the network saw."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from model.media.preprocess import PreprocessConfig, normalise_clips
from stream.verify.frames import chosen_frames, encode_frames, frame_places

CONFIG = PreprocessConfig(short_side=48, height=48, width=80)


def test_frames_are_spread_evenly_and_end_with_the_newest() -> None:
    assert frame_places(32, 1) == [31]
    assert frame_places(32, 2) == [0, 31]
    assert frame_places(32, 4) == [0, 10, 21, 31]
    assert frame_places(4, 8) == [0, 1, 2, 3]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pictures_decode_to_the_frames_of_the_clip(dtype: torch.dtype) -> None:
    ramp_HW = np.add.outer(np.arange(48), np.arange(80))
    clip_THWC = np.stack(
        [
            np.stack([ramp_HW + 2 * time, 220 - ramp_HW, np.full_like(ramp_HW, 7 * time)], axis=2)
            for time in range(32)
        ]
    ).astype(np.uint8)
    clips_BCTHW = normalise_clips(torch.from_numpy(clip_THWC)[None], CONFIG).to(dtype)
    before = clips_BCTHW.clone()
    frames_CNHW = chosen_frames(clips_BCTHW[0], 4)
    clips_BCTHW += 1  # the batch may be used again before the pictures are encoded
    coded = encode_frames(frames_CNHW, CONFIG, width=None, quality=95)
    assert torch.equal(frames_CNHW, before[0][:, [0, 10, 21, 31]])
    for data, place in zip(coded, [0, 10, 21, 31], strict=True):
        bgr_HWC = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert bgr_HWC is not None
        error = np.abs(bgr_HWC[..., ::-1].astype(int) - clip_THWC[place])
        assert error.mean() < 2
        assert error.max() < 16


@pytest.mark.parametrize(("width", "shape"), [(160, (96, 160)), (40, (24, 40)), (80, (48, 80))])
def test_pictures_are_scaled_to_the_width(width: int, shape: tuple[int, int]) -> None:
    frames_CNHW = torch.zeros(3, 2, 48, 80)
    for data in encode_frames(frames_CNHW, CONFIG, width=width, quality=90):
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None
        assert picture.shape[:2] == shape
