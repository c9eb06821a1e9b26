"""The clip ring against a deque, the inbox, the schedule under overload, and batches."""

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
from stream.analysis.batcher import WindowBatch
from stream.analysis.config import BatchConfig
from stream.analysis.inbox import Inbox
from stream.analysis.schedule import Schedule
from stream.types import SampledFrame, StreamBreak, View, Window
from tests.support.waiting import until

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


def test_a_wrong_frame_or_slot_is_named_in_the_error() -> None:
    ring = ClipRing(1, height=2, width=3)
    for picture in (torch.zeros(3, 2, 3, dtype=torch.uint8), torch.zeros(2, 3, 3)):
        with pytest.raises(ShapeError, match=r"the ring holds uint8 \(2, 3, 3\)"):
            ring.push(0, picture)
    for slot in (-1, 1):
        with pytest.raises(ShapeError, match=f"no slot {slot}"):
            ring.push(slot, torch.zeros(2, 3, 3, dtype=torch.uint8))
        with pytest.raises(ShapeError, match=f"no slot {slot}"):
            ring.gather(slot)


def test_frames_can_be_numpy_arrays() -> None:
    ring = ClipRing(2, height=2, width=3, frames=2)
    slot = ring.acquire()
    for value in (7, 8):
        ring.push(slot, np.full((2, 3, 3), value, np.uint8))
    assert ring.gather(slot).shape == (1, 2, 2, 3, 3)
    assert ring.gather([slot])[0, :, 0, 0, 0].tolist() == [7, 8]
    assert ring.slots == 2


def frame(camera: str, number: int) -> SampledFrame:
    return SampledFrame(camera, PIXEL, number, 0.0, 0.0)


def test_items_are_taken_from_the_cameras_in_turn(never: threading.Event) -> None:
    inbox = Inbox(BatchConfig(camera_queue=100))
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
    inbox = Inbox(BatchConfig(camera_queue=2))
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
    inbox = Inbox(BatchConfig(camera_queue=2))
    stop = threading.Event()
    assert inbox.put(frame("a", 0), stop)
    assert inbox.put(frame("a", 1), stop)
    assert inbox.put(StreamBreak("a", "ended"), stop)
    threading.Timer(0.1, stop.set).start()
    assert not inbox.put(frame("a", 2), stop)


def test_clips_are_due_when_full_and_then_every_stride() -> None:
    schedule = Schedule(clip=32)
    due = []
    for count in range(1, 60):
        if schedule.is_due(VIEW, count, 5):
            schedule.went(VIEW, count, 5)
            due.append(count)
    assert due == [32, 37, 42, 47, 52, 57]
    schedule.restart(VIEW, 59, 5)
    assert not schedule.is_due(VIEW, 31, 5)
    assert schedule.is_due(VIEW, 32, 5)


def test_under_overload_cameras_take_turns_and_losses_are_counted() -> None:
    schedule = Schedule(clip=4)
    went = collections.Counter[str]()
    lost = 0
    for count in range(4, 304):
        # one clip every three frames, for three cameras that want three every two
        room = count % 3 == 0
        for camera in "abc":
            if schedule.is_due(View(camera), count, 2):
                if room and not schedule.elders(View(camera)):
                    lost += schedule.went(View(camera), count, 2)
                    went[camera] += 1
                    room = False
                else:
                    schedule.put_off(View(camera))
    assert sum(went.values()) >= 95
    assert max(went.values()) - min(went.values()) <= 1
    assert lost > 250


def test_a_late_clip_does_not_bring_the_next_one_forward() -> None:
    """Otherwise some cameras would get a second clip before others get their first."""
    schedule = Schedule(clip=4)
    went = list[int]()
    for count in range(4, 40):
        if schedule.is_due(VIEW, count, 4):
            if 8 <= count < 15:
                schedule.put_off(VIEW)
            else:
                assert schedule.went(VIEW, count, 4) == (1 if count == 15 else 0)
                went.append(count)
    assert went == [4, 15, 19, 23, 27, 31, 35, 39]


def test_clips_that_were_due_before_a_break_are_counted_as_lost() -> None:
    schedule = Schedule(clip=4)
    schedule.went(VIEW, 4, 4)
    for count in range(8, 15):
        schedule.put_off(VIEW)
        assert schedule.is_due(VIEW, count, 4)
    lost = schedule.went(VIEW, 15, 4)
    assert not schedule.is_due(VIEW, 18, 4)
    lost += schedule.restart(VIEW, 18, 4)
    assert 2 + lost == 4  # due at 4, 8, 12 and 16
    assert schedule.restart(VIEW, 3, 4) == 0


def test_a_batch_goes_when_full_or_late() -> None:
    batch = WindowBatch(BatchConfig(max_batch=2, deadline_seconds=0.05))
    window = Window(View("a"), 0.0, 0.0, 0.0)
    assert not batch.is_due()
    assert batch.seconds_left() == float("inf")
    batch.add(4, window)
    assert batch.holds(4)
    assert not batch.is_due()
    assert until(batch.is_due, 5)
    assert [slot for slot, _ in batch.take()] == [4]
    assert not batch.holds(4)
    batch.add(1, window)
    batch.add(2, window)
    assert batch.is_due()


def test_after_an_overload_every_clip_is_taken_and_a_silent_camera_blocks_nobody() -> None:
    """Each camera asks once in four frames; the network first takes half of the clips, then all."""
    schedule = Schedule(clip=4)
    views = [View(str(number)) for number in range(16)]
    waiting = 0.0
    went = collections.Counter[str]()
    lost = collections.Counter[str]()
    for step in range(4, 1204):
        phase = "overload" if step < 604 else "after"
        for view in views:
            if view == views[3] and step > 700:
                continue  # put off or not, it never asks again
            # of the 0.25 clips that are due each time
            waiting = max(0.0, waiting - (0.125 if phase == "overload" else 0.5))
            if schedule.is_due(view, step, 4):
                if waiting + schedule.elders(view) >= 8:
                    schedule.put_off(view)
                else:
                    lost[phase] += schedule.went(view, step, 4)
                    went[phase] += 1
                    waiting += 1
    assert 0.9 < went["overload"] / (600 * 16 * 0.125) < 1.1
    # what did not go is counted, once
    assert abs(went["overload"] + lost["overload"] - 600 * 16 / 4) < 40
    assert went["after"] > 0.95 * (600 * 15 + 100) / 4


def test_the_claim_of_a_silent_camera_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    schedule = Schedule(clip=1)
    schedule.went(View("b"), 1, 1)
    schedule.put_off(View("a"))
    assert schedule.elders(View("b")) == 1
    moment = time.monotonic() + 2
    monkeypatch.setattr("stream.analysis.batcher.time.monotonic", lambda: moment)
    assert schedule.elders(View("b")) == 0


def test_repeated_breaks_are_kept_once_and_an_emptied_camera_can_put_again() -> None:
    inbox = Inbox(BatchConfig(camera_queue=2))
    stop = threading.Event()
    for _ in range(1000):
        inbox.put(StreamBreak("a", "gap"), stop)
    assert len(inbox) == 1
    inbox.put(frame("a", 0), stop)
    inbox.put(StreamBreak("a", "size"), stop)
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
    inbox = Inbox(BatchConfig())
    stop = threading.Event()
    inbox.put(frame("file", 0), stop)
    inbox.put(frame("live", 0), stop)
    assert [item.camera_id for item in inbox.take(9, 0, lambda camera_id: camera_id == "file")] == [
        "live"
    ]
    assert [item.camera_id for item in inbox.take(9, 0)] == ["file"]
