"""The hand-over from the cameras to the analysis."""

import threading
import time

import numpy as np

from stream.analysis.inbox import Inbox
from stream.types import BreakReason, SampledFrame, StreamBreak
from tests.support.waiting import until

PIXEL = np.zeros((1, 1, 3), np.uint8)


def frame(camera: str, number: int) -> SampledFrame:
    return SampledFrame(camera, PIXEL, number, 0.0, 0.0)


def test_items_are_taken_from_the_cameras_in_turn(never: threading.Event) -> None:
    inbox = Inbox(100)
    for number in range(50):
        inbox.put(frame("busy", number), never)
    for number in range(3):
        inbox.put(frame("quiet", number), never)
    taken = [
        (item.camera_id, item.pts_seconds)
        for item in inbox.take(6, 0)
        if isinstance(item, SampledFrame)
    ]
    assert taken == [
        ("busy", 0),
        ("quiet", 0),
        ("busy", 1),
        ("quiet", 1),
        ("busy", 2),
        ("quiet", 2),
    ]
    assert len(inbox) == 47


def test_a_full_queue_blocks_its_own_camera_only_and_loses_nothing() -> None:
    inbox = Inbox(2)
    stop = threading.Event()
    blocked = []
    thread = threading.Thread(
        target=lambda: [inbox.put(frame("a", n), stop, blocked.append) for n in range(20)]
    )
    thread.start()
    deadline = time.monotonic() + 5
    assert until(lambda: bool(blocked), 5)
    assert inbox.put(frame("b", 0), stop)
    seen: list[tuple[str, float]] = []
    while len(seen) < 21 and time.monotonic() < deadline:
        seen += [
            (item.camera_id, item.pts_seconds)
            for item in inbox.take(3, 0.05)
            if isinstance(item, SampledFrame)
        ]
    thread.join(5)
    assert [number for camera, number in seen if camera == "a"] == list(range(20))
    assert blocked[0] is True
    assert blocked[-1] is False


def test_a_blocked_camera_can_be_stopped_and_breaks_never_wait() -> None:
    inbox = Inbox(2)
    stop = threading.Event()
    assert inbox.put(frame("a", 0), stop)
    assert inbox.put(frame("a", 1), stop)
    assert inbox.put(StreamBreak("a", BreakReason.ENDED, 0), stop)
    threading.Timer(0.1, stop.set).start()
    assert not inbox.put(frame("a", 2), stop)


def test_repeated_breaks_are_kept_once_and_an_emptied_camera_can_put_again() -> None:
    inbox = Inbox(2)
    stop = threading.Event()
    for _ in range(1000):
        inbox.put(StreamBreak("a", BreakReason.GAP, 0), stop)
    assert len(inbox) == 1
    inbox.put(frame("a", 0), stop)
    inbox.put(StreamBreak("a", BreakReason.SIZE, 0), stop)
    blocked: list[bool] = []
    putter = threading.Thread(target=lambda: inbox.put(frame("a", 1), stop, blocked.append))
    putter.start()
    assert until(lambda: bool(blocked), 5)
    taken = inbox.take(16, 0)
    putter.join(5)
    taken += inbox.take(16, 1.0)
    assert [type(item).__name__ for item in taken] == [
        "StreamBreak",
        "SampledFrame",
        "StreamBreak",
        "SampledFrame",
    ]


def test_items_of_held_cameras_stay_in_the_inbox() -> None:
    inbox = Inbox(32)
    stop = threading.Event()
    inbox.put(frame("file", 0), stop)
    inbox.put(frame("live", 0), stop)
    assert [item.camera_id for item in inbox.take(9, 0, lambda camera_id: camera_id == "file")] == [
        "live"
    ]
    assert [item.camera_id for item in inbox.take(9, 0)] == ["file"]


def test_a_closed_inbox_takes_nothing_and_wakes_whoever_waits() -> None:
    inbox = Inbox(1)
    assert inbox.put(frame("a", 0))
    results: list[bool] = []
    blocked: list[bool] = []
    waiting = threading.Thread(
        target=lambda: results.append(inbox.put(frame("a", 1), None, blocked.append))
    )
    waiting.start()
    assert until(lambda: bool(blocked), 5)
    inbox.close()
    waiting.join(5)
    assert results == [False]
    assert not inbox.put(StreamBreak("a", BreakReason.REMOVED, 0))
    assert [item.camera_id for item in inbox.take(9, 0)] == ["a"]


def test_a_frame_waits_for_room_no_longer_than_it_may(never: threading.Event) -> None:
    inbox = Inbox(1)
    blocked: list[bool] = []
    assert inbox.put(frame("a", 0), never, blocked.append, max_wait_seconds=0.0)
    assert not inbox.put(frame("a", 1), never, blocked.append, max_wait_seconds=0.0)
    assert blocked == []  # it did not wait at all
    started_at = time.monotonic()
    assert not inbox.put(frame("a", 2), never, blocked.append, max_wait_seconds=0.2)
    assert 0.2 <= time.monotonic() - started_at < 5
    assert blocked == [True, False]
    threading.Timer(0.1, inbox.take, (1, 0)).start()
    assert inbox.put(frame("a", 3), never, blocked.append, max_wait_seconds=10)
    assert [item.pts_seconds for item in inbox.take(9, 0)] == [3]  # type: ignore[union-attr]
