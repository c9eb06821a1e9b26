"""What becomes of frames whose times are wrong, of jumps, and of slow cameras."""

import random

import pytest

from model.media.presentation_order import PresentationOrder
from model.media.time_line import TimeLine


def passed_on(times: list[float], gap: float = 1.0) -> tuple[list[float], list[str]]:
    """The times that a time line passes on, and its jumps."""
    line: TimeLine[None] = TimeLine(gap)
    kept: list[float] = []
    jumps: list[str] = []
    for time in times:
        frames, jump = line.push(None, time)
        kept += [frame.pts_seconds for frame in frames]
        jumps += [jump] if jump else []
    kept += [frame.pts_seconds for frame in line.finish()]
    assert len(kept) + line.skipped + line.duplicates == len(times)
    return kept, jumps


@pytest.mark.parametrize("offset", [3600.0, -3600.0, 5.0, -5.0, 0.5, -0.5, 0.3, 26.5 * 3600, 2**33])
@pytest.mark.parametrize("fps", [2, 12, 25, 60])
def test_a_lone_frame_with_a_wrong_time_is_left_out(offset: float, fps: float) -> None:
    every = max(3, round(2 * fps))
    times = [10_000 + index / fps for index in range(10 * every + 1)]
    stamped = [t + offset * (index % every == every - 1) for index, t in enumerate(times)]
    kept, jumps = passed_on(stamped)
    assert jumps == []
    wrong_step = abs(offset) > 3 / fps  # otherwise it is within the camera's own steps
    expected = [t for index, t in enumerate(times) if index % every != every - 1]
    if wrong_step:
        assert kept == expected
    assert set(expected) <= set(kept)


def test_two_frames_with_wrong_times_are_left_out() -> None:
    times = [index / 25 for index in range(250)]
    stamped = [time + 900 * (index % 50 in (20, 21)) for index, time in enumerate(times)]
    kept, jumps = passed_on(stamped)
    assert jumps == []
    assert kept == [time for index, time in enumerate(times) if index % 50 not in (20, 21)]


@pytest.mark.parametrize(
    ("start", "reason"), [(500.0, "gap"), (0.0, "backwards"), (8.9, "backwards"), (12.0, "gap")]
)
def test_a_new_time_line_is_accepted_once_it_persists(start: float, reason: str) -> None:
    before = [index / 25 for index in range(251)]  # up to 10.0
    after = [start + index / 25 for index in range(100)]
    kept, jumps = passed_on(before + after)
    assert (kept, jumps) == (before + after, [reason])


def test_the_frames_after_a_pause_below_the_gap_continue_the_time_line() -> None:
    before = [index / 25 for index in range(100)]
    after = [before[-1] + 0.9 + index / 25 for index in range(100)]
    assert passed_on(before + after) == (before + after, [])
    # A recording that ends after the pause keeps its last frames.
    assert passed_on(before + after[:2]) == (before + after[:2], [])


@pytest.mark.parametrize("interval", [0.5, 1.0, 2.0])
def test_a_slow_camera_with_jitter_keeps_its_time_line(interval: float) -> None:
    draw = random.Random(5)
    times = [index * interval + draw.uniform(-0.04, 0.04) for index in range(60)]
    kept, jumps = passed_on(times)
    assert len(jumps) <= 1  # at the start, before its frame interval is known
    assert kept[-50:] == times[-50:]


def test_a_slow_camera_may_lose_a_frame_now_and_then() -> None:
    times = [index + 0.03 * (index % 3) for index in range(100) if index % 10 != 9]
    kept, jumps = passed_on(times)
    assert jumps == []
    # One of the first frames is left out: the frame interval is not known yet.
    assert kept[1:] == times[2:]


def test_a_fast_camera_that_becomes_slow_jumps_once() -> None:
    fast = [index / 25 for index in range(100)]
    slow = [fast[-1] + 1.1 * (1 + index) for index in range(60)]
    kept, jumps = passed_on(fast + slow)
    assert len(jumps) <= 1
    assert kept[-40:] == slow[-40:]


def test_times_of_no_order_give_no_frames() -> None:
    draw = random.Random(3)
    kept, jumps = passed_on([draw.uniform(0, 1e6) for _ in range(300)])
    assert len(kept) < 5
    assert jumps == []


def test_repeated_times_are_counted() -> None:
    line: TimeLine[None] = TimeLine(1.0)
    for time in (0.0, 0.0, 0.04, 0.04, 9.0, 9.0):
        line.push(None, time)
    assert (line.duplicates, line.skipped) == (3, 0)


def test_frames_after_one_that_is_stamped_too_late_are_not_taken_for_late_ones() -> None:
    order: PresentationOrder[int] = PresentationOrder()
    times = [index / 25 for index in range(200)]
    out = []
    for index, time in enumerate(times):
        out += order.push(index, time + 0.8 * (index == 100))
    out += order.flush()
    missing = set(range(200)) - set(out)
    assert missing <= {101, 102, 103, 104}
    assert out == sorted(out)
