"""Pipelines of many cameras on bad days: in this process, and in one of their own.

How long is said by CIDC_SOAK_MINUTES (default 0.3), CIDC_SOAK_FLAPS (60), CIDC_SOAK_KILLS (4)
and CIDC_SOAK_FROZEN (8 seconds); `make soak` sets more.
"""

from __future__ import annotations

import collections
import contextlib
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from stream.config import StreamConfig
from stream.events.event import ActionEvent
from stream.pipeline import Pipeline
from tests.support.command_line import exposition
from tests.support.topics import all_records

MINUTES = float(os.environ.get("CIDC_SOAK_MINUTES", "0.3"))
FLAPS = int(os.environ.get("CIDC_SOAK_FLAPS", "60"))
KILLS = int(os.environ.get("CIDC_SOAK_KILLS", "4"))
FROZEN = float(os.environ.get("CIDC_SOAK_FROZEN", "8"))
QUICK = {
    "open_timeout_seconds": 3.0,
    "read_timeout_seconds": 1.0,
    "backoff_initial_seconds": 0.05,
    "backoff_max_seconds": 0.3,
}


def config_for(
    weights: Path, folder: Path, cameras: list[dict[str, object]], **sections: object
) -> StreamConfig:
    """Settings for these cameras, with short timeouts and no HTTP server."""
    tree: dict[str, object] = {
        "cameras": cameras,
        "infer": {"weights": str(weights), "device": "cpu"},
        "outbox": {"path": folder / "outbox.db"},
        "http": {"enabled": False},
        "source": QUICK,
    }
    return StreamConfig.model_validate(tree | sections)


@contextlib.contextmanager
def running(pipeline: Pipeline) -> Iterator[list[dict[str, object]]]:
    """Run a pipeline in a thread; its summary is in the list afterwards."""
    stop = threading.Event()
    summaries = list[dict[str, object]]()
    with pipeline:
        runner = threading.Thread(target=lambda: summaries.append(pipeline.run(stop)))
        runner.start()
        try:
            yield summaries
        finally:
            stop.set()
            runner.join(60)
            assert not runner.is_alive()


def check_stories(events: list[ActionEvent]) -> None:
    """Every action that started has ended, once; each camera's sequence has no gap."""
    assert events
    stories: dict[str, list[str]] = collections.defaultdict(list)
    numbers: dict[str, list[int]] = collections.defaultdict(list)
    for event in events:
        stories[event.event_id].append(event.kind)
        numbers[event.camera_id].append(event.sequence)
    for event_id, kinds in stories.items():
        assert (kinds[0], kinds[-1]) == ("started", "ended"), (event_id, kinds)
        assert set(kinds[1:-1]) <= {"updated"}, (event_id, kinds)
    for camera, sequence in numbers.items():
        assert sequence == list(range(1, len(sequence) + 1)), camera


def windows(port: int, camera: str) -> int:
    """Clips analysed of a camera."""
    return counted(port, f'cidc_clips_total{{camera="{camera}"}}')


def counted(port: int, metric: str) -> int:
    """The value of a metric; 0 while there is none."""
    for line in exposition(port).splitlines():
        if line.startswith(metric + " "):
            return int(float(line.split()[-1]))
    return 0


def start(folder: Path, environment: dict[str, str], *options: str) -> subprocess.Popen[str]:
    """Start `python -m stream run` with the folder's `c.yaml`; its output can be read."""
    command = [sys.executable, "-m", "stream", "run", "--config", "c.yaml", *options]
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def is_ready(port: int) -> bool:
    """Whether `/ready` says yes."""
    with (
        contextlib.suppress(OSError),
        urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=2) as answer,
    ):
        return bool(answer.status == 200)
    return False


def raw_records(bootstrap: str, topic: str) -> Iterator[ActionEvent]:
    """Every record, repetitions too."""
    for record in sorted(
        all_records(bootstrap, topic), key=lambda record: (record.partition, record.offset)
    ):
        yield ActionEvent.from_json(record.value)
