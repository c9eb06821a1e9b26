"""A fleet on bad days. `make soak` runs the same for longer: CIDC_SOAK_MINUTES (default 0.3),
CIDC_SOAK_FLAPS (60), CIDC_SOAK_KILLS (4) and CIDC_SOAK_FROZEN (8 seconds) say how long.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from stream.config import StreamConfig
from stream.events.config import KafkaConfig
from stream.events.consumer import Deduplicator, read_topic
from stream.events.event import ActionEvent
from stream.events.outbox import read_events
from stream.pipeline import Pipeline
from tests import ROOT
from tests.support.broker import Proxy, free_port, running_broker
from tests.support.chaos import (
    ChaosProxy,
    TcpCamera,
    mpegts,
    noise,
    process_state,
    silence,
    streamed,
    under_fire,
)
from tests.support.rtsp import RtspServer, missing_rtsp
from tests.support.waiting import until

MINUTES = float(os.environ.get("CIDC_SOAK_MINUTES", "0.3"))
FLAPS = int(os.environ.get("CIDC_SOAK_FLAPS", "60"))
KILLS = int(os.environ.get("CIDC_SOAK_KILLS", "4"))
FROZEN = float(os.environ.get("CIDC_SOAK_FROZEN", "8"))
QUICK = {
    "open_timeout_seconds": 3.0,
    "read_timeout_seconds": 1.0,
    "backoff_first_seconds": 0.05,
    "backoff_most_seconds": 0.3,
}


def config_for(
    weights: Path, folder: Path, cameras: list[dict[str, object]], **sections: object
) -> StreamConfig:
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
    runner = threading.Thread(target=lambda: summaries.append(pipeline.run(stop)))
    runner.start()
    try:
        yield summaries
    finally:
        stop.set()
        runner.join(60)
        assert not runner.is_alive()


def check_stories(events: list[ActionEvent]) -> None:
    """Every action that started has ended, once; each camera's numbers have no gap."""
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


def test_every_camera_comes_back_from_every_flap_and_leaves_nothing_behind(
    scenes: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    if problem := missing_rtsp():
        pytest.skip(problem)
    count = 10
    with RtspServer(
        {f"/c{number}": scenes / "clips/fall/0000.mp4" for number in range(count)}
    ) as server:
        proxy = ChaosProxy(server.port)
        cameras: list[dict[str, object]] = [
            {"id": f"c{n}", "url": f"rtsp://u:p@127.0.0.1:{proxy.port}/c{n}"} for n in range(count)
        ]
        pipeline = Pipeline(config_for(tiny_weights, tmp_path, cameras, clip={"hop": 30}))
        metrics = pipeline.metrics

        def frames() -> list[int]:
            return [metrics.total(metrics.decoded, camera=f"c{number}") for number in range(count)]

        def all_moved(since: list[int]) -> bool:
            return all(now > before for now, before in zip(frames(), since, strict=True))

        with running(pipeline) as summaries:
            assert until(lambda: all_moved([5] * count), 60)
            flaps = 0
            states = []
            while flaps < FLAPS + count:
                # after one round everything that is built once has been built
                if flaps >= len(states) * FLAPS / 4 + count:
                    time.sleep(2.0)
                    states.append(process_state())
                flaps += proxy.reset()
                since = frames()
                assert until(lambda before=since: all_moved(before), 30), (
                    pipeline.manager.describe_all()
                )  # type: ignore[misc,union-attr]
            time.sleep(2.0)
            states.append(process_state())
        proxy.cut()
    print(
        f"{flaps} flaps, by quarters:"
        f" {[{name: round(value) for name, value in state.items()} for state in states]}"
    )
    assert states[-1]["threads"] <= states[0]["threads"] + 2
    assert states[-1]["descriptors"] <= states[0]["descriptors"] + 4
    # The heap settles during the first quarters, and is trimmed once a minute.
    assert states[-1]["megabytes"] <= states[1]["megabytes"] + 60
    assert sum(camera["reconnects"] for camera in summaries[0]["cameras"].values()) >= FLAPS  # type: ignore[attr-defined]
    # A connection that was cut before it gave anything interrupts nothing.
    assert (
        metrics.total(metrics.resets, reason="stalled")
        + metrics.total(metrics.resets, reason="reconnect")
        >= 0.7 * FLAPS
    )


def test_bad_cameras_do_not_change_what_good_ones_say(
    scenes: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    recordings = sorted((scenes / "recordings").glob("*.mp4"))
    good: list[dict[str, object]] = [
        {"id": f"good{n}", "url": str(recordings[n % len(recordings)]), "hop": 5 + n}
        for n in range(12)
    ]
    events = {"smoothing": 1, "default": {"enter": 0.3, "exit": 0.2}, "update_seconds": 0.3}
    slow = streamed(mpegts([(320, 240)], fps=30, seconds_each=2.0), seconds=20.0)
    switching = streamed(
        mpegts([(640, 480), (1920, 1080)] * 4, fps=10, seconds_each=1.0), seconds=8.0
    )
    clean = streamed(mpegts([(320, 240)], fps=15, seconds_each=4.0), seconds=4.0)
    with (
        TcpCamera(noise) as noisy,
        TcpCamera(silence) as silent,
        TcpCamera(slow) as tenth,
        TcpCamera(switching) as switched,
        TcpCamera(clean) as sound,
    ):
        bad: list[dict[str, object]] = [
            {"id": name, "url": camera.url}
            for name, camera in (
                ("noise", noisy),
                ("silent", silent),
                ("tenth", tenth),
                ("switching", switched),
                ("clean", sound),
            )
        ]
        found = {}
        for name, cameras in (("alone", good), ("beside", bad + good)):
            # Twelve recordings in real time are cameras that wait for their decoding; no clip may
            # be left out for want of time.
            pipeline = Pipeline(
                config_for(
                    tiny_weights,
                    tmp_path / name,
                    cameras,
                    events=events,
                    batch={"wait_seconds": 60.0, "ready_batches": 64},
                )
            )
            with running(pipeline) as summaries:
                assert until(
                    lambda pipe=pipeline, all_of=cameras: len(pipe.fleet._workers) == len(all_of)
                )  # type: ignore[misc]
                workers = [pipeline.fleet._workers[str(camera["id"])] for camera in good]
                assert until(
                    lambda all_of=workers: not any(worker.is_alive() for worker in all_of), 120
                )  # type: ignore[misc]
            assert not any(summaries[0]["cameras"][camera["id"]]["drops"] for camera in good)  # type: ignore[index]
            found[name] = [
                (
                    e.camera_id,
                    e.sequence,
                    e.action,
                    e.kind,
                    e.pts_start_seconds,
                    e.pts_end_seconds,
                    e.confidence,
                )
                for e in sorted(
                    (s.event for s in read_events(tmp_path / name / "outbox.db")),
                    key=lambda e: (e.camera_id, e.sequence),
                )
                if e.camera_id.startswith("good")
            ]
    assert len(found["alone"]) > 12
    assert found["beside"] == found["alone"]
    cameras_beside = summaries[0]["cameras"]
    assert cameras_beside["clean"]["windows"] > 0  # type: ignore[index]
    assert not cameras_beside["clean"]["drops"]  # type: ignore[index]
    assert cameras_beside["noise"]["windows"] == 0  # type: ignore[index]
    assert cameras_beside["silent"]["windows"] == 0  # type: ignore[index]
    assert cameras_beside["switching"]["frames_decoded"] > 0  # type: ignore[index]
    assert cameras_beside["tenth"]["frames_decoded"] > 0  # type: ignore[index]


def test_a_broker_that_goes_and_a_process_that_is_killed_lose_nothing(
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
                )  # type: ignore[index]
                proxy.lose_replies()
                assert until(lambda: waiting() > 1, 30)
                time.sleep(1.0)
                proxy.cut()
            time.sleep(rng.uniform(0.0, 8.0))
            if life == 2 * KILLS // 3:
                assert waiting() > 1
                proxy.restore()
                time.sleep(rng.uniform(0.0, 4.0))
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            process.send_signal(signal.SIGKILL)
            process.communicate()
        proxy.restore()
        last = start(tmp_path, environment, "--duration", "6", "--set", "kafka.flush_seconds=60")
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


def test_a_process_that_was_frozen_goes_on(scenes: Path, tmp_path: Path) -> None:
    """As when a laptop is closed, or a container or its machine is paused: longer than any of
    the sources' timeouts.
    """
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
            time.sleep(FROZEN)
            process.send_signal(signal.SIGCONT)
            time.sleep(1.0)
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


def windows(port: int, camera: str) -> int:
    """Clips analysed of a camera."""
    return counted(port, f'cidc_windows_total{{camera="{camera}"}}')


def counted(port: int, metric: str) -> int:
    """The value of a metric."""
    with (
        contextlib.suppress(OSError),
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=2) as answer,
    ):
        for line in answer.read().decode().splitlines():
            if line.startswith(metric + " "):
                return int(float(line.split()[-1]))
    return 0


def start(folder: Path, environment: dict[str, str], *options: str) -> subprocess.Popen[str]:
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
    with (
        contextlib.suppress(OSError),
        urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=2) as answer,
    ):
        return bool(answer.status == 200)
    return False


def raw_records(bootstrap: str, topic: str) -> Iterator[ActionEvent]:
    """Every record, repetitions too."""
    from tests.stream.events.test_publisher import all_records

    for record in sorted(
        all_records(bootstrap, topic), key=lambda record: (record.partition, record.offset)
    ):
        yield ActionEvent.from_json(record.value)


def test_a_fleet_under_fire_keeps_its_memory_and_its_stories(
    scenes: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    if problem := missing_rtsp():
        pytest.skip(problem)
    count = 6
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(
            RtspServer({f"/c{number}": scenes / "clips/fall/0000.mp4" for number in range(count)})
        )
        proxies = [ChaosProxy(server.port) for _ in range(count)]
        for proxy in proxies:
            stack.callback(proxy.cut)
        port = free_port()
        bootstrap = stack.enter_context(running_broker(advertised_port=port))
        broker = Proxy(int(bootstrap.split(":")[1]), port)
        cameras: list[dict[str, object]] = [
            {"id": f"c{n}", "url": f"rtsp://127.0.0.1:{proxies[n].port}/c{n}"} for n in range(count)
        ]
        pipeline = Pipeline(
            config_for(
                tiny_weights,
                tmp_path,
                cameras,
                clip={"hop": 8},
                events={
                    "smoothing": 1,
                    "default": {"enter": 0.2, "exit": 0.1},
                    "update_seconds": 0.5,
                },
                kafka={
                    "bootstrap": [f"127.0.0.1:{port}"],
                    "topic": "fire",
                    "request_timeout_seconds": 2,
                    "flush_seconds": 30,
                },
                snapshots={"enabled": True, "path": tmp_path / "pictures", "keep_megabytes": 2.0},
            )
        )
        states = []
        with running(pipeline) as summaries:

            def analysed() -> list[int]:
                return [
                    pipeline.metrics.total(pipeline.metrics.windows, camera=f"c{n}")
                    for n in range(count)
                ]

            assert until(lambda: min(analysed()) > 2, 60)
            time.sleep(5.0)
            states.append(process_state())
            with under_fire(proxies, seed=11) as done:
                for third in range(3):
                    if third == 1:
                        broker.cut()
                    if third == 2:
                        broker.restore()
                    time.sleep(MINUTES * 60 / 3)
                    states.append(process_state())
            since = [
                pipeline.metrics.total(pipeline.metrics.decoded, camera=f"c{n}")
                for n in range(count)
            ]

            def back() -> bool:
                return all(
                    pipeline.metrics.total(pipeline.metrics.decoded, camera=f"c{n}") > since[n]
                    for n in range(count)
                )

            assert until(back, 30), [
                (s.camera.id, s.state, s.detail) for s in pipeline.fleet.statuses
            ]
            alive = pipeline._not_alive()
        read = list(
            read_topic(
                KafkaConfig(bootstrap=(f"127.0.0.1:{port}",), topic="fire"),
                threading.Event(),
                follow=False,
            )
        )
        broker.cut()
    print(
        f"{MINUTES} minutes: {done}; {len(read)} events;"
        f" {[{k: round(v) for k, v in state.items()} for state in states]}"
    )
    assert alive is None
    assert summaries[0]["outbox_left"] == 0
    check_stories(read)
    assert states[-1]["threads"] <= states[0]["threads"] + count
    assert states[-1]["megabytes"] <= states[1]["megabytes"] + 60
    assert json.dumps(summaries[0])
