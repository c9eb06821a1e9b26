"""Three worker processes share the cameras of a topic on a real broker: one story, step by step."""

from __future__ import annotations

import collections
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stream.events.event import ActionEvent
from stream.events.kafka import partition_of_key
from tests.support.broker import free_port, running_broker
from tests.support.coded_video import write_video
from tests.support.topics import all_records
from tests.support.workers import (
    PARTITIONS,
    SESSION_SECONDS,
    SelectiveProxy,
    Worker,
    create_topic,
    ended_at_last,
    put_cameras,
    remove_camera,
)

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(600)]

# With some brokers, joining a group takes half a minute.
JOIN_SECONDS = 90.0
# The broker of the tests shares partitions out in rounds of five seconds, and may need three more.
TAKEOVER_SECONDS = SESSION_SECONDS + 10 + 15


def one_camera_per_partition() -> Iterator[str]:
    """Ids of cameras, each in another partition."""
    taken: set[int] = set()
    for number in range(1000):
        partition = partition_of_key(f"cam-{number}".encode(), PARTITIONS)
        if partition not in taken:
            taken.add(partition)
            yield f"cam-{number}"


def seconds_until(condition: Callable[[], bool], limit: float) -> float:
    """Wait for a condition, at most so long; returns how long it took."""
    started_at = time.monotonic()
    while not condition():
        waited = time.monotonic() - started_at
        assert waited < limit, f"not within {limit:g} s"
        time.sleep(0.2)
    return time.monotonic() - started_at


def shared_once(workers: list[Worker], cameras: set[str]) -> bool:
    """Whether each camera runs, and runs once."""
    running = [worker.running() for worker in workers]
    return sum(map(len, running)) == len(cameras) and set().union(*running) == cameras


def test_workers_share_cameras_and_lose_no_end_of_an_action(
    tiny_weights: Path, tmp_path: Path
) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    video = write_video(videos / "loop.mp4", "mpeg4", range(120))
    port = free_port()
    with running_broker(advertised_port=port) as upstream:
        proxy = SelectiveProxy(int(upstream.rpartition(":")[2]), port)
        broker = f"127.0.0.1:{port}"
        a, b, c = (Worker(name, tmp_path, tiny_weights, videos, broker) for name in "abc")
        ids = [camera for camera, _ in zip(one_camera_per_partition(), range(6), strict=False)]
        cameras = set(ids)
        create_topic(broker)
        put_cameras(broker, {name: {"url": str(video), "loop": True} for name in ids})
        with ended_at_last([a, b, c]):
            begins_with_two([a, b], cameras)
            a_joiner_takes_its_part([a, b], c, cameras)
            cameras.remove(ids[0])
            a_tombstone_stops_its_camera([a, b, c], ids[0], cameras, broker)
            a_killed_worker_is_replaced([a, b], c, cameras, broker)
            a_worker_that_is_cut_stops_its_cameras(a, b, proxy, cameras)
            a_restarted_cluster_resumes([a, b, c], cameras)
            assert [worker.stop() for worker in (a, b, c)] == [0, 0, 0]
        assert "Traceback" not in a.log() + b.log() + c.log()
        every_action_ended_once(broker)
        nothing_is_left_open(broker)
        proxy.cut()


def begins_with_two(workers: list[Worker], cameras: set[str]) -> None:
    for worker in workers:
        worker.start()
    seconds_until(lambda: shared_once(workers, cameras), JOIN_SECONDS)


def a_joiner_takes_its_part(workers: list[Worker], joiner: Worker, cameras: set[str]) -> None:
    seconds_until(lambda: all(worker.running() for worker in workers), JOIN_SECONDS)
    before = {worker.name: worker.share()["epochs"] for worker in workers}
    joiner.start()
    seconds_until(lambda: bool(joiner.running()), JOIN_SECONDS)
    seconds_until(lambda: shared_once([*workers, joiner], cameras), 20)
    taken = joiner.share()["epochs"]
    for worker in workers:
        kept = {
            partition: epoch
            for partition, epoch in before[worker.name].items()
            if partition not in taken
        }
        assert worker.share()["epochs"] == kept  # a partition that stopped would have a new epoch
        stopped = {name for name in cameras if f"camera {name} ended" in worker.log()}
        assert stopped <= joiner.running()


def a_tombstone_stops_its_camera(
    workers: list[Worker], removed: str, cameras: set[str], broker: str
) -> None:
    remove_camera(broker, removed)
    seconds_until(lambda: shared_once(workers, cameras), 10)


def a_killed_worker_is_replaced(
    others: list[Worker], victim: Worker, cameras: set[str], broker: str
) -> None:
    assert victim.running()
    # Its successor is to find an action that the worker left open.
    seconds_until(lambda: bool(victim.running() & open_cameras(broker)), JOIN_SECONDS)
    victim.kill()
    took = seconds_until(lambda: shared_once(others, cameras), TAKEOVER_SECONDS)
    print(f"cameras of a killed worker ran again after {took:.1f} s")


def a_worker_that_is_cut_stops_its_cameras(
    other: Worker, cut: Worker, proxy: SelectiveProxy, cameras: set[str]
) -> None:
    assert cut.running()
    proxy.cut_process(cut.pid)
    took = seconds_until(lambda: not cut.running(), SESSION_SECONDS)
    print(f"a worker that was cut stopped its cameras after {took:.1f} s")
    assert cut.is_alive
    seconds_until(lambda: other.running() == cameras, TAKEOVER_SECONDS)
    proxy.restore_process()
    seconds_until(lambda: cut.share().get("problem") is None and bool(cut.running()), JOIN_SECONDS)
    seconds_until(lambda: shared_once([other, cut], cameras), 20)


def a_restarted_cluster_resumes(workers: list[Worker], cameras: set[str]) -> None:
    for worker in workers:
        if worker.is_alive:
            assert worker.stop() == 0
    for worker in workers:
        worker.start()
    took = seconds_until(lambda: shared_once(workers, cameras), JOIN_SECONDS)
    print(f"a restarted cluster ran all cameras after {took:.1f} s")


def every_action_ended_once(broker: str) -> None:
    ends: dict[str, set[str]] = collections.defaultdict(set)
    numbers: dict[tuple[str, int | None], set[int]] = collections.defaultdict(set)
    started = set()
    reasons = set()
    for record in all_records(broker, "action-events"):
        event = ActionEvent.from_json(record.value)
        assert event.worker is not None
        numbers[event.camera_id, event.epoch].add(event.sequence)
        if event.kind == "started":
            started.add(event.event_id)
        elif event.kind == "ended":
            reasons.add(event.reason)
            ends[event.event_id].add(event.to_json())  # a repetition is the same text
    assert started
    assert started == ends.keys()
    assert {event_id for event_id, texts in ends.items() if len(texts) > 1} == set()
    assert {"moved", "crash", "shutdown"} <= reasons
    for found in numbers.values():
        assert min(found) == 1


def open_values(broker: str) -> list[bytes]:
    """The events of the actions that go on, as the topic of open actions has them."""
    newest = {record.key: record.value for record in all_records(broker, "action-open")}
    return [value for key, value in newest.items() if value and not key.startswith(b"#")]


def open_cameras(broker: str) -> set[str]:
    return {ActionEvent.from_json(value).camera_id for value in open_values(broker)}


def nothing_is_left_open(broker: str) -> None:
    assert open_values(broker) == []
