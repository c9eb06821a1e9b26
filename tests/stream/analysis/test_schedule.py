"""When clips are due, and whose turn it is under overload."""

import collections
import time

import pytest

from stream.analysis.schedule import Schedule
from stream.types import View

VIEW = View("a")


def test_clips_are_due_when_full_and_then_every_stride() -> None:
    schedule = Schedule(frames=32)
    due = []
    for count in range(1, 60):
        if schedule.is_due(VIEW, count, 5):
            schedule.mark_taken(VIEW, count, 5)
            due.append(count)
    assert due == [32, 37, 42, 47, 52, 57]
    schedule.restart(VIEW, 59, 5)
    assert not schedule.is_due(VIEW, 31, 5)
    assert schedule.is_due(VIEW, 32, 5)


def test_under_overload_cameras_take_turns_and_losses_are_counted() -> None:
    schedule = Schedule(frames=4)
    taken = collections.Counter[str]()
    lost = 0
    for count in range(4, 304):
        # one clip every three frames, for three cameras that want three every two
        room = count % 3 == 0
        for camera in "abc":
            if schedule.is_due(View(camera), count, 2):
                if room and not schedule.waiting_longer(View(camera)):
                    lost += schedule.mark_taken(View(camera), count, 2)
                    taken[camera] += 1
                    room = False
                else:
                    schedule.postpone(View(camera))
    assert sum(taken.values()) >= 95
    assert max(taken.values()) - min(taken.values()) <= 1
    assert lost > 250


def test_a_late_clip_does_not_bring_the_next_one_forward() -> None:
    """Otherwise some cameras would get a second clip before others get their first."""
    schedule = Schedule(frames=4)
    taken = list[int]()
    for count in range(4, 40):
        if schedule.is_due(VIEW, count, 4):
            if 8 <= count < 15:
                schedule.postpone(VIEW)
            else:
                assert schedule.mark_taken(VIEW, count, 4) == (1 if count == 15 else 0)
                taken.append(count)
    assert taken == [4, 15, 19, 23, 27, 31, 35, 39]


def test_clips_that_were_due_before_a_break_are_counted_as_lost() -> None:
    schedule = Schedule(frames=4)
    schedule.mark_taken(VIEW, 4, 4)
    for count in range(8, 15):
        schedule.postpone(VIEW)
        assert schedule.is_due(VIEW, count, 4)
    lost = schedule.mark_taken(VIEW, 15, 4)
    assert not schedule.is_due(VIEW, 18, 4)
    lost += schedule.restart(VIEW, 18, 4)
    assert 2 + lost == 4  # due at 4, 8, 12 and 16
    assert schedule.restart(VIEW, 3, 4) == 0


def test_after_an_overload_every_clip_is_taken_and_a_silent_camera_blocks_nobody() -> None:
    """Each camera asks once in four frames; the network first takes half of the clips, then all."""
    schedule = Schedule(frames=4)
    views = [View(str(number)) for number in range(16)]
    waiting = 0.0
    taken = collections.Counter[str]()
    lost = collections.Counter[str]()
    for step in range(4, 1204):
        phase = "overload" if step < 604 else "after"
        for view in views:
            if view == views[3] and step > 700:
                continue  # put off or not, it never asks again
            # of the 0.25 clips that are due each time
            waiting = max(0.0, waiting - (0.125 if phase == "overload" else 0.5))
            if schedule.is_due(view, step, 4):
                if waiting + schedule.waiting_longer(view) >= 8:
                    schedule.postpone(view)
                else:
                    lost[phase] += schedule.mark_taken(view, step, 4)
                    taken[phase] += 1
                    waiting += 1
    assert 0.9 < taken["overload"] / (600 * 16 * 0.125) < 1.1
    # what did not go is counted, once
    assert abs(taken["overload"] + lost["overload"] - 600 * 16 / 4) < 40
    assert taken["after"] > 0.95 * (600 * 15 + 100) / 4


def test_the_claim_of_a_silent_camera_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    schedule = Schedule(frames=1)
    schedule.mark_taken(View("b"), 1, 1)
    schedule.postpone(View("a"))
    assert schedule.waiting_longer(View("b")) == 1
    moment = time.monotonic() + 2
    monkeypatch.setattr("stream.analysis.schedule.time.monotonic", lambda: moment)
    assert schedule.waiting_longer(View("b")) == 0
