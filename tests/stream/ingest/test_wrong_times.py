"""Live cameras whose timestamps are wrong now and then, or always."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest

from stream.ingest.config import ClipConfig
from stream.ingest.sampler import Sampler
from stream.types import DecodedFrame, SampledFrame, StreamBreak


class Sampled:
    """What a live camera with these timestamps gives; its frames arrive 25 times a second."""

    def __init__(self, times: Sequence[float], *, is_live: bool = True, fps: float = 25) -> None:
        self.skipped: dict[str, int] = {}
        sampler = Sampler(
            "a",
            ClipConfig(),
            lambda native: np.zeros((4, 4, 3), np.uint8),
            on_skip=self._count,
            is_live=is_live,
        )
        self.items: list[SampledFrame | StreamBreak] = []
        for index, seconds in enumerate(times):
            arrived = 500 + index / fps
            self.items += sampler.push(DecodedFrame(index, seconds, arrived, arrived, 640, 480))
        self.items += sampler.finish()

    def _count(self, frames: int, reason: str) -> None:
        self.skipped[reason] = self.skipped.get(reason, 0) + frames

    @property
    def breaks(self) -> list[str]:
        return [item.reason for item in self.items if isinstance(item, StreamBreak)]

    @property
    def longest_run(self) -> int:
        """Positions between two breaks; a clip needs 32."""
        runs = [0]
        for item in self.items:
            runs = [*runs, 0] if isinstance(item, StreamBreak) else [*runs[:-1], runs[-1] + 1]
        return max(runs)


@pytest.mark.parametrize("offset", [3600.0, -3600.0, 0.6, -0.6])
def test_a_frame_stamped_far_away_every_two_seconds_costs_only_itself(offset: float) -> None:
    times = [index / 25 + offset * (index % 50 == 49) for index in range(751)]
    sampled = Sampled(times)
    assert sampled.breaks == []
    assert sampled.longest_run == 30 * 15 + 1
    assert sampled.skipped == {"wrong_time": 15}


def test_one_frame_a_second_with_jitter_gives_clips() -> None:
    draw = random.Random(1)
    sampled = Sampled([index + draw.uniform(-0.04, 0.04) for index in range(60)], fps=1)
    assert sampled.longest_run > 50 * 15
    assert len(sampled.breaks) <= 1


@pytest.mark.parametrize("kind", ["random", "restarts", "two clocks"])
def test_timestamps_without_order_are_replaced_by_arrival_times(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    draw = random.Random(1)
    times = {
        "random": [draw.uniform(0, 1e5) for _ in range(500)],
        "restarts": [index % 20 / 25 for index in range(500)],
        "two clocks": [index / 25 + 7e4 * (index % 4 < 2) for index in range(500)],
    }[kind]
    sampled = Sampled(times)
    assert sampled.longest_run >= 200
    assert sum("its timestamps cannot be used" in line for line in caplog.messages) == 1
    if kind != "two clocks":  # there, the time line follows one of the clocks
        # A file has no arrival times.
        assert Sampled(times, is_live=False).longest_run < 32


def test_a_camera_that_repeats_one_time_is_not_taken_for_moving() -> None:
    sampled = Sampled([7.0] * 100)
    assert sampled.longest_run == 1
    assert sampled.skipped == {"repeated_time": 99}
