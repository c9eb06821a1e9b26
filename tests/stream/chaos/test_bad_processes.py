"""A fleet in a process of its own, which is killed or frozen."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest
import yaml

from stream.events.config import KafkaConfig
from stream.events.consumer import Deduplicator, read_topic
from stream.events.outbox import read_events
from tests import ROOT
from tests.support.broker import Proxy, free_port, running_broker
from tests.support.fleet import (
    FROZEN,
    KILLS,
    QUICK,
    check_stories,
    counted,
    is_ready,
    raw_records,
    start,
    windows,
)
from tests.support.rtsp import RtspServer, missing_rtsp
from tests.support.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.alone]


@pytest.mark.broker
def test_no_event_is_lost_when_the_broker_goes_away_and_the_process_is_killed(
    scenes: Path, tmp_path: Path
) -> None:
    port = free_port()
    topic = "killed"
    recordings = sorted((scenes / "recordings").glob("*.mp4"))
    with running_broker(advertised_port=port) as bootstrap:
        proxy = Proxy(int(bootstrap.split(":")[1]), port)
        config = {
            "cameras": [
                {"id": f"c{n}", "url": str(recordings[n % len(recordings)].resolve()), "loop": True}
                for n in range(4)
            ],
            "infer": {"device": "cpu"},
            "events": {
                "smoothing": 1,
                "default": {"enter": 0.2, "exit": 0.1},
                "update_seconds": 0.3,
            },
            "outbox": {"path": "outbox.db"},
            "kafka": {
                "bootstrap": [f"127.0.0.1:{port}"],
                "topic": topic,
                "request_timeout_seconds": 2,
            },
            "http": {"port": free_port(), "changes": "changes.json"},
        }
        (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        rng = random.Random(7)
        waiting = lambda: len(read_events(tmp_path / "outbox.db"))  # noqa: E731
        for life in range(KILLS):
            process = start(tmp_path, environment)
            assert until(lambda: is_ready(config["http"]["port"]), 60)  # type: ignore[index]
            if life == KILLS // 3:  # first it takes events and nobody is told, then it is away
                assert until(
                    lambda: counted(config["http"]["port"], "cidc_published_total") > 0, 30
                )
                proxy.lose_replies()
                assert until(lambda: waiting() > 1, 30)
                time.sleep(1.0)  # nothing here shows when the broker has stored what it was sent
                proxy.cut()
            time.sleep(rng.uniform(0.0, 8.0))  # it is killed at any moment
            if life == 2 * KILLS // 3:
                assert waiting() > 1
                proxy.restore()
                time.sleep(rng.uniform(0.0, 4.0))
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            process.send_signal(signal.SIGKILL)
            process.communicate()
        proxy.restore()
        last = start(tmp_path, environment, "--duration", "6", "--set", "kafka.drain_seconds=60")
        output = last.communicate(timeout=120)[0]
        assert last.returncode == 0, output
        records = list(raw_records(f"127.0.0.1:{port}", topic))
        read = list(
            read_topic(
                KafkaConfig(bootstrap=(f"127.0.0.1:{port}",), topic=topic),
                threading.Event(),
                follow=False,
            )
        )
        proxy.cut()
    assert read_events(tmp_path / "outbox.db") == []
    repeated = Deduplicator()
    kept = [event for event in records if repeated.is_new(event)]
    assert kept == read
    check_stories(read)
    crashes = sum(event.reason == "crash" for event in read)
    assert crashes > 0
    assert len(records) > len(read)  # what was stored and not acknowledged came twice
    print(
        f"{KILLS} kills: {len(records)} records, {len(records) - len(read)} repetitions,"
        f" {len(read)} events, {crashes} ended by a crash"
    )
    by_key = {(event.event_id, event.kind, event.sequence): event for event in kept}
    # repetitions are the same, word for word
    assert all(by_key[event.event_id, event.kind, event.sequence] == event for event in records)


@pytest.mark.rtsp
def test_a_frozen_process_goes_on_after_it_is_resumed(scenes: Path, tmp_path: Path) -> None:
    """A closed laptop or a paused container: frozen for longer than the sources' timeouts."""
    if problem := missing_rtsp():
        pytest.skip(problem)
    with RtspServer(
        {"/a": scenes / "clips/fall/0000.mp4", "/b": scenes / "clips/fall/0000.mp4"}
    ) as server:
        address = f"rtsp://127.0.0.1:{server.port}"
        config = {
            "cameras": [
                {"id": "a", "url": f"{address}/a"},
                {"id": "b", "url": f"{address}/b", "transport": "udp"},
            ],
            "infer": {"device": "cpu"},
            "clip": {"hop": 8},
            "source": QUICK,
            "http": {"port": free_port()},
            "events": {
                "smoothing": 1,
                "default": {"enter": 0.2, "exit": 0.1},
                "update_seconds": 0.5,
            },
        }
        (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
        port = config["http"]["port"]  # type: ignore[index]
        process = start(tmp_path, os.environ | {"PYTHONPATH": str(ROOT)})
        try:
            assert until(lambda: windows(port, "a") > 2 and windows(port, "b") > 2, 60)
            process.send_signal(signal.SIGSTOP)
            time.sleep(FROZEN)  # as long as it is frozen
            process.send_signal(signal.SIGCONT)
            time.sleep(1.0)  # the watchdogs have seen by now how long it was away
            assert is_ready(port)
            before = {camera: windows(port, camera) for camera in "ab"}
            assert until(
                lambda: all(windows(port, camera) > before[camera] + 5 for camera in "ab"), 30
            )
        finally:
            process.send_signal(signal.SIGTERM)
            output = process.communicate(timeout=30)[0]
    assert process.returncode == 0, output
    assert "Traceback" not in output
    events = [stored.event for stored in read_events(tmp_path / "outbox.db")]
    check_stories(events)
    # No event claims the time in which nobody looked.
    assert (
        max(
            event.pts_end_seconds - event.pts_start_seconds
            for event in events
            if event.pts_end_seconds is not None
        )
        < FROZEN / 2
    )
