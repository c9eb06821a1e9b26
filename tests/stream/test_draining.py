"""The end of a run: stages that use up their input, that fail or that hang; unsent events."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest

from stream.analysis.backlog import Backlog
from stream.draining import end_stages, report_unsent
from stream.events.config import KafkaConfig
from stream.pipeline import Pipeline
from stream.stage import Stage
from tests.support.broker import free_port
from tests.support.pipelines import config_for


class Counting(Stage):
    """Works until its input is used up; may fail before, or wait for something for ever."""

    def __init__(self, left: int, *, fails: bool = False, hangs: bool = False) -> None:
        super().__init__("counting")
        self.left = left
        self._fails = fails
        self._never = threading.Event()
        self._hangs = hangs

    def run(self) -> None:
        while self.left and not self.stopping.is_set():
            self.beat()
            self.left -= 1
            self.stopping.wait(0.02)
        if self._fails:
            raise RuntimeError("broken on purpose")
        while self._hangs:
            self._never.wait(60)


def backlog() -> Backlog:
    return Backlog(max_batches=2, max_batch=2)


def test_stages_use_up_what_they_hold() -> None:
    stages = [Counting(10), Counting(20)]
    for stage in stages:
        stage.start()
    assert end_stages(stages, backlog(), Counting(0), 5.0)
    assert [stage.left for stage in stages] == [0, 0]


@pytest.mark.parametrize("trouble", ["fails", "hangs"])
def test_a_stage_that_fails_or_hangs_ends_the_others(
    trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    bad = Counting(1, fails=trouble == "fails", hangs=trouble == "hangs")
    other = Counting(1_000_000)
    for stage in (bad, other):
        stage.start()
    work = backlog()
    assert not end_stages([bad, other], work, Counting(0), 0.3)
    assert work.is_drained
    assert other.left > 0
    assert not other.is_alive
    assert ("the thread counting hangs" in caplog.text) == (trouble == "hangs")


def test_unsent_events_are_named_with_their_file_and_the_remedy(
    scenes: Path, tiny_weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bootstrap = f"127.0.0.1:{free_port()}"
    sections = {
        "events": {"smoothing": 1, "default": {"enter": 0.05, "exit": 0.0}},
        "kafka": {"bootstrap": [bootstrap], "drain_seconds": 0.5},
    }
    urls = {"a": scenes / "clips/fall/0000.mp4"}
    caplog.set_level(logging.INFO)
    with Pipeline(config_for(tiny_weights, tmp_path, urls, **sections)) as pipeline:
        left = pipeline.run(threading.Event())["outbox_left"]
    assert left > 0
    assert f"sending the last {left} events to Kafka at {bootstrap}" in caplog.text
    expected = f"{left} events could not be sent to Kafka at {bootstrap} within 0.5 s"
    warning = next(line for line in caplog.messages if line.startswith(expected))
    assert f"cidc-stream outbox drain {tmp_path / 'outbox.db'}" in warning


def test_nothing_is_said_of_events_without_a_broker(caplog: pytest.LogCaptureFixture) -> None:
    report_unsent(5, Path("outbox.db"), KafkaConfig())
    report_unsent(0, Path("outbox.db"), KafkaConfig(bootstrap=("127.0.0.1:1",)))
    assert caplog.text == ""
