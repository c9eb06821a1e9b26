import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs import ConfigError
from model.media.sampling import TimeGrid


def sampled(
    times: list[float], fps: float = 15.0, gap: float = float("inf")
) -> list[tuple[float, float, bool]]:
    grid: TimeGrid[float] = TimeGrid(fps, gap)
    samples = [sample for time in times for sample in grid.push(time, time)[0]]
    samples += grid.finish()
    return [(sample.pts_seconds, sample.item, sample.repeated) for sample in samples]


@pytest.mark.parametrize("fps", [12, 15, 25, 29.97, 30, 60, 120])
def test_every_camera_gives_the_same_grid(fps: float) -> None:
    times = [3.2 + index / fps for index in range(int(fps * 4))]
    samples = sampled(times)
    np.testing.assert_allclose(np.diff([position for position, _, _ in samples]), 1 / 15, atol=1e-9)
    assert max(abs(position - item) for position, item, _ in samples) <= 0.5 / fps + 0.001


@given(
    st.lists(st.integers(1, 200_000), min_size=1, max_size=80), st.sampled_from([5.0, 15.0, 30.0])
)
def test_each_position_takes_the_nearest_frame(steps: list[int], fps: float) -> None:
    times = np.concatenate([[0], np.cumsum(steps)]) / 1e6
    samples = sampled([float(time) for time in times], fps)
    expected = np.arange(len(samples)) / fps
    assert (
        len(samples) == int(np.floor((times[-1] + 0.001) * fps)) + 1
        or abs((times[-1] + 0.001) * fps % 1) < 1e-6
    )
    for (position, item, _), wanted in zip(samples, expected, strict=True):
        assert abs(position - wanted) < 1e-9
        # A later frame may be nearer by no more than the tolerance for rounded time bases.
        assert abs(item - wanted) <= np.abs(times - wanted).min() + 0.001 + 1e-9


def test_a_slow_camera_repeats_and_says_so() -> None:
    repeated = [flag for _, _, flag in sampled([index / 5 for index in range(10)])]
    assert sum(repeated) == len(repeated) - 10


def test_gaps_and_steps_backwards_restart_the_grid() -> None:
    grid: TimeGrid[str] = TimeGrid(10, 1.0)
    steps = [grid.push(item, seconds) for item, seconds in [("a", 0.0), ("b", 1.5), ("c", 1.6)]]
    assert [reason for _, reason in steps] == [None, None, None]
    samples, reason = grid.push("d", 1.7)
    assert (reason, [sample.item for sample in samples]) == ("gap", ["b", "c", "d"])
    assert samples[0].pts_seconds == 1.5
    for item, seconds in [("e", 0.3), ("f", 0.4)]:
        assert grid.push(item, seconds) == ([], None)
    samples, reason = grid.push("g", 0.5)
    assert (reason, [sample.item for sample in samples]) == ("backwards", ["e", "f", "g"])
    assert grid.push("h", 0.5) == ([], None)


def test_a_grid_stays_exact_over_days() -> None:
    fps = 0.3  # 1 / 0.3 has no exact binary form: sums of it drift
    grid: TimeGrid[int] = TimeGrid(fps, 600.0)
    for second in range(0, 30 * 86_400 + 1, 300):
        samples, _ = grid.push(second, float(second))
    assert samples[-1].pts_seconds == 30 * 86_400.0
    # From Python 3.12 on, `sum` corrects its rounding; accumulate does not.
    *_, drifted = itertools.accumulate([1 / fps] * 777_600)
    assert drifted != 30 * 86_400.0


@pytest.mark.parametrize(("fps", "gap"), [(0, 1), (-1, 1), (float("nan"), 1), (15, 0)])
def test_rates_that_make_no_sense_are_refused(fps: float, gap: float) -> None:
    with pytest.raises(ConfigError):
        TimeGrid(fps, gap)
