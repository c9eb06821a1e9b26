import collections
import threading
import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from configs import ShapeError
from stream import ClipRing
from stream.batch import BatchConfig, Inbox, Schedule, WindowBatch
from stream.frames import SampledFrame, StreamBreak, View, Window

VIEW = View("a")
PIXEL = np.zeros((1, 1, 3), np.uint8)


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=80))
def test_a_ring_holds_what_a_deque_would(steps: list[tuple[int, bool]]) -> None:
    ring = ClipRing(3, height=1, width=2, frames=4)
    slots = [ring.acquire() for _ in range(3)]
    expected = {slot: collections.deque(maxlen=4) for slot in slots}
    for value, (slot, clear) in enumerate(steps):
        if clear:
            ring.clear(slot)
            expected[slot].clear()
        ring.push(slot, torch.full((1, 2, 3), value % 251, dtype=torch.uint8))
        expected[slot].append(value % 251)
        full = [slot for slot in slots if len(expected[slot]) == 4]
        gathered = ring.gather(full)[:, :, 0, 0, 0].tolist() if full else []
        assert gathered == [list(expected[slot]) for slot in full]


def test_slots_come_back_empty() -> None:
    ring = ClipRing(1, height=1, width=1, frames=2)
    slot = ring.acquire()
    with pytest.raises(ShapeError, match="all 1 slots"):
        ring.acquire()
    for _ in range(2):
        ring.push(slot, torch.ones(1, 1, 3, dtype=torch.uint8))
    ring.release(slot)
    with pytest.raises(ShapeError, match="not taken"):
        ring.release(slot)
    with pytest.raises(ShapeError, match="fewer than 2"):
        ring.gather([ring.acquire()])


def test_wrong_pictures_are_named() -> None:
    ring = ClipRing(1, height=2, width=3)
    for picture in (torch.zeros(3, 2, 3, dtype=torch.uint8), torch.zeros(2, 3, 3)):
        with pytest.raises(ShapeError, match=r"the ring holds uint8 \(2, 3, 3\)"):
            ring.push(0, picture)


def frame(camera: str, number: int) -> SampledFrame:
    return SampledFrame(camera, PIXEL, number, 0.0, 0.0)


def test_taking_goes_round_the_cameras_in_order(never: threading.Event) -> None:
    inbox = Inbox(BatchConfig(camera_queue=100))
    for number in range(50):
        inbox.put(frame("busy", number), never)
    for number in range(3):
        inbox.put(frame("quiet", number), never)
    taken = [(item.camera_id, item.pts_seconds) for item in inbox.take(6, 0) if isinstance(item, SampledFrame)]
    assert taken == [("busy", 0), ("quiet", 0), ("busy", 1), ("quiet", 1), ("busy", 2), ("quiet", 2)]
    assert len(inbox) == 47


def test_a_full_queue_blocks_its_own_camera_only_and_loses_nothing() -> None:
    inbox, stop, blocked = Inbox(BatchConfig(camera_queue=2)), threading.Event(), []
    thread = threading.Thread(target=lambda: [inbox.put(frame("a", n), stop, blocked.append) for n in range(20)])
    thread.start()
    deadline = time.monotonic() + 5
    while not blocked and time.monotonic() < deadline:
        time.sleep(0.001)
    assert inbox.put(frame("b", 0), stop)
    seen: list[tuple[str, float]] = []
    while len(seen) < 21 and time.monotonic() < deadline:
        seen += [(item.camera_id, item.pts_seconds) for item in inbox.take(3, 0.05) if isinstance(item, SampledFrame)]
    thread.join(5)
    assert [number for camera, number in seen if camera == "a"] == list(range(20))
    assert blocked[0] is True
    assert blocked[-1] is False


def test_a_blocked_camera_can_be_stopped_and_breaks_never_wait() -> None:
    inbox, stop = Inbox(BatchConfig(camera_queue=2)), threading.Event()
    assert inbox.put(frame("a", 0), stop)
    assert inbox.put(frame("a", 1), stop)
    assert inbox.put(StreamBreak("a", "ended"), stop)
    threading.Timer(0.1, stop.set).start()
    assert not inbox.put(frame("a", 2), stop)


def test_clips_are_due_when_full_and_then_every_hop() -> None:
    schedule, due = Schedule(clip=32), []
    for count in range(1, 60):
        if schedule.is_due(VIEW, count, 5):
            schedule.went(VIEW, count)
            due.append(count)
    assert due == [32, 37, 42, 47, 52, 57]
    schedule.restart(VIEW)
    assert not schedule.is_due(VIEW, 31, 5)
    assert schedule.is_due(VIEW, 32, 5)


def test_under_overload_cameras_take_turns_and_losses_are_counted() -> None:
    schedule, went, lost = Schedule(clip=4), collections.Counter[str](), 0
    for count in range(4, 304):
        room = count % 3 == 0  # one clip every three frames, for three cameras that want three every two
        for camera in "abc":
            if schedule.is_due(View(camera), count, 2):
                if room and schedule.is_next(View(camera)):
                    schedule.went(View(camera), count)
                    went[camera] += 1
                    room = False
                else:
                    lost += schedule.put_off(View(camera), count, 2)
    assert sum(went.values()) >= 95
    assert max(went.values()) - min(went.values()) <= 1
    assert lost > 250


def test_a_batch_goes_when_full_or_late() -> None:
    batch, window = WindowBatch(BatchConfig(max_batch=2, deadline_seconds=0.05)), Window(View("a"), 0.0, 0.0, 0.0)
    assert not batch.is_due()
    assert batch.seconds_left() == float("inf")
    batch.add(4, window)
    assert batch.holds(4)
    assert not batch.is_due()
    time.sleep(0.06)
    assert batch.is_due()
    assert [slot for slot, _ in batch.take()] == [4]
    assert not batch.holds(4)
    batch.add(1, window)
    batch.add(2, window)
    assert batch.is_due()
