"""The load of a pipeline: from readings by hand, and of a real run."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from stream.load import Reading, load_parts, usable_cores
from stream.pipeline import Pipeline
from stream.stage import Stage
from tests.support.pipelines import config_for, recogniser_that
from tests.support.waiting import until


def test_each_part_is_compared_with_its_capacity_and_drops_count_as_demand() -> None:
    first = Reading(100.0, {"network": 10.0, "analysis": 5.0, "decoder": 1.0, "processor": 3.0})
    busy = {"network": 22.0, "analysis": 8.0, "decoder": 16.0, "processor": 9.0}
    last = Reading(115.0, busy, clips=60, dropped_clips=20, frames=900, dropped_packets=90)
    # 12 of 15 s for 60 clips of 80; 15 of 15 s for 900 frames of 990; 6 of 15 s.
    assert load_parts(first, last) == {
        "network": pytest.approx(12 / 15 * 80 / 60, abs=1e-4),
        "analysis": pytest.approx(0.2),
        "decoder": pytest.approx(1.1),
        "processor": pytest.approx(6 / 15 * 1.1),
    }


def test_counts_of_removed_cameras_and_no_time_give_no_negative_load() -> None:
    first = Reading(1.0, {"network": 4.0}, clips=100, dropped_clips=50)
    assert load_parts(first, first) == {}
    last = Reading(11.0, {"network": 9.0}, clips=20, dropped_clips=0)
    assert load_parts(first, last) == {"network": 0.5}


def test_a_stage_is_busy_while_it_does_not_wait() -> None:
    class Half(Stage):
        def run(self) -> None:
            for _ in range(10):
                with self.waiting():
                    time.sleep(0.03)
                time.sleep(0.02)

    stage = Half("half")
    assert stage.busy_seconds() == 0
    stage.start()
    stage.join(10)
    busy = stage.busy_seconds()
    assert 0.2 <= busy < 0.45  # ten times 0.02 s, on a machine that may be slow
    time.sleep(0.1)
    assert stage.busy_seconds() == pytest.approx(busy, abs=0.02)  # not after its end


@pytest.mark.parametrize(("text", "cores"), [("50000 100000\n", 0.5), ("max 100000\n", None)])
def test_the_quota_of_a_container_limits_the_cores(
    text: str, cores: float | None, tmp_path: Path
) -> None:
    file = tmp_path / "cpu.max"
    file.write_text(text)
    expected = float(len(os.sched_getaffinity(0))) if cores is None else cores
    assert usable_cores(file) == expected
    assert usable_cores(tmp_path / "missing") == len(os.sched_getaffinity(0))


@pytest.mark.slow
def test_a_network_that_is_too_slow_shows_as_overload(
    scenes: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    path = str(next((scenes / "recordings").glob("*.mp4")))
    cameras = [{"id": f"c{number}", "url": path, "loop": True} for number in range(3)]

    def slow(clips: Tensor, real: Any) -> Tensor:
        time.sleep(0.4 * len(clips))  # 2.5 clips a second; three cameras give 11
        return torch.as_tensor(real(clips))

    stop = threading.Event()
    config = config_for(tiny_weights, tmp_path, {}, cameras=cameras)
    with Pipeline(config, open_recogniser=recogniser_that(slow)) as pipeline:
        runner = threading.Thread(target=lambda: summaries.append(pipeline.run(stop)))
        summaries: list[dict[str, Any]] = []
        runner.start()
        assert until(lambda: pipeline.load.load > 1.5, 30)
        assert pipeline.load.parts["network"] == pipeline.load.load
        text = pipeline.metrics.exposition().decode()
        stop.set()
        runner.join(60)
    value = next(line for line in text.splitlines() if line.startswith("cidc_worker_load "))
    assert float(value.split()[1]) > 1.5
    assert 'cidc_worker_load_part{part="analysis"}' in text
    assert summaries[0]["load"]["peak"] > 1.5
