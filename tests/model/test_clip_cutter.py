"""Clips cut on a stride."""

from __future__ import annotations

import pytest

from configs import ConfigError
from model.media.clip_cutter import ClipCutter


@pytest.mark.parametrize("frames", [1, 2, 5])
@pytest.mark.parametrize("stride", [1, 3, 7])
@pytest.mark.parametrize("length", range(20))
def test_clips_are_those_of_the_definition(frames: int, stride: int, length: int) -> None:
    cutter: ClipCutter[int] = ClipCutter(frames, stride)
    clips = [clip for number in range(length) if (clip := cutter.push(number)) is not None]
    whole = [list(range(end - frames, end)) for end in range(frames, length + 1, stride)]
    assert clips == whole
    last = cutter.finish()
    if length == 0 or (whole and whole[-1][-1] == length - 1):
        assert last is None
    else:
        begin = max(0, length - frames)
        shown = list(range(begin, length))
        assert last == shown + [length - 1] * (frames - len(shown))


def test_after_a_restart_a_clip_holds_new_frames_only() -> None:
    cutter: ClipCutter[int] = ClipCutter(2, 1)
    assert cutter.push(1) is None
    cutter.restart()
    assert cutter.finish() is None
    assert cutter.push(2) is None
    assert cutter.push(3) == [2, 3]


def test_sizes_below_one_are_refused() -> None:
    with pytest.raises(ConfigError, match="got 0 and 4"):
        ClipCutter(0, 4)
