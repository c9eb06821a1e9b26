"""A fleet in this process whose cameras are cut off, corrupted and frozen."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from pathlib import Path

import pytest

from stream.events.config import KafkaConfig
from stream.events.consumer import read_topic
from stream.events.outbox import read_events
from stream.pipeline import Pipeline
from tests.support.broker import Proxy, free_port, running_broker
from tests.support.chaos import (
    ChaosProxy,
    TcpCamera,
    mpegts,
    noise,
    process_state,
    rounded,
    silence,
    streamed,
    under_fire,
)
from tests.support.fleet import FLAPS, MINUTES, check_stories, config_for, running
from tests.support.rtsp import RtspServer, missing_rtsp
from tests.support.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.alone]

# Threads and connections of a camera that was cut off end a moment later.
SETTLING_SECONDS = 2.0


@pytest.mark.rtsp
def test_cameras_recover_from_every_reset_and_leak_nothing(
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
                # After one round of resets, whatever is built only once has been built.
                if flaps >= len(states) * FLAPS / 4 + count:
                    time.sleep(SETTLING_SECONDS)
                    states.append(process_state())
                flaps += proxy.reset()
                since = frames()
                assert until(lambda before=since: all_moved(before), 30), (
                    pipeline.manager.describe_all()
                )
            time.sleep(SETTLING_SECONDS)
            states.append(process_state())
        proxy.cut()
    print(f"{flaps} resets, by quarters: {rounded(states)}")
    assert states[-1]["threads"] <= states[0]["threads"] + 2
    assert states[-1]["descriptors"] <= states[0]["descriptors"] + 4
    # The heap settles during the first quarters, and is trimmed once a minute.
    assert states[-1]["megabytes"] <= states[1]["megabytes"] + 60
    assert sum(camera["reconnects"] for camera in summaries[0]["cameras"].values()) >= FLAPS  # type: ignore[attr-defined]
    # A connection that was cut before its first frame breaks no clip.
    assert (
        metrics.total(metrics.resets, reason="stalled")
        + metrics.total(metrics.resets, reason="reconnect")
        >= 0.7 * FLAPS
    )


def test_bad_cameras_do_not_change_the_events_of_good_ones(
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
            # Twelve recordings in real time wait for their decoding; no clip may be dropped
            # because it is late.
            pipeline = Pipeline(
                config_for(
                    tiny_weights,
                    tmp_path / name,
                    cameras,
                    events=events,
                    batch={"max_wait_seconds": 60.0, "ready_batches": 64},
                )
            )
            with running(pipeline) as summaries:
                assert until(
                    lambda pipe=pipeline: (
                        {
                            camera.state
                            for camera in pipe.cameras()
                            if camera.camera_id.startswith("good")
                        }
                        == {"ended"}
                    ),
                    120,
                )
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


@pytest.mark.broker
@pytest.mark.rtsp
def test_a_fleet_under_attack_leaks_no_memory_and_ends_every_event(
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
                    "drain_seconds": 30,
                },
                snapshots={"enabled": True, "path": tmp_path / "pictures", "keep_megabytes": 2.0},
            )
        )
        states = []
        with running(pipeline) as summaries:

            def analysed() -> list[int]:
                return [
                    pipeline.metrics.total(pipeline.metrics.clips, camera=f"c{n}")
                    for n in range(count)
                ]

            assert until(lambda: min(analysed()) > 2, 60)
            time.sleep(5.0)  # threads and the heap settle after the start
            states.append(process_state())
            with under_fire(proxies, seed=11) as done:
                for third in range(3):
                    if third == 1:
                        broker.cut()
                    if third == 2:
                        broker.restore()
                    time.sleep(MINUTES * 60 / 3)  # as long as it is attacked
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
                (camera.camera_id, camera.state, camera.detail) for camera in pipeline.cameras()
            ]
            alive = pipeline.health.not_alive()
        read = list(
            read_topic(
                KafkaConfig(bootstrap=(f"127.0.0.1:{port}",), topic="fire"),
                threading.Event(),
                follow=False,
            )
        )
        broker.cut()
    print(f"{MINUTES} minutes: {done}; {len(read)} events; {rounded(states)}")
    assert alive is None
    assert summaries[0]["outbox_left"] == 0
    check_stories(read)
    assert states[-1]["threads"] <= states[0]["threads"] + count
    assert states[-1]["megabytes"] <= states[1]["megabytes"] + 60
    assert json.dumps(summaries[0])
