"""Times of events when a clock is adjusted, and of actions that a crash leaves open."""

import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.detection import ActionRule
from stream import ActionEvent, EventDetector
from stream.events.config import EventConfig, OutboxConfig
from stream.events.outbox import Outbox
from stream.events.outbox_reader import read_events

RULE = ActionRule(enter=0.6, exit=0.3, cooldown_seconds=1.0, onset_seconds=0.5)
STEP = 0.5


def run(walls: list[float], *, is_live: bool, until_clip: int | None = None) -> list[ActionEvent]:
    """One action from the first clip to the last but one; a clip every half second."""
    machine = EventDetector(
        EventConfig(smoothing=1, update_seconds=1.0, default=RULE),
        labels=("background", "fall"),
        camera_id="cam",
        clip_seconds=0.5,
        background="background",
        is_live=is_live,
    )
    events = []
    for number, wall in enumerate(walls[:until_clip]):
        fall = 0.1 if number == len(walls) - 1 else 0.9
        events += machine.push(
            [1 - fall, fall], pts_end_seconds=10.004 + number * STEP, wall_end_seconds=wall
        )
    return events


def milliseconds(text: str) -> int:
    moment = datetime.datetime.fromisoformat(text)
    return round(moment.timestamp() * 1000)


def check_times(events: list[ActionEvent]) -> None:
    started, *_, ended = events
    assert [event.event_id for event in events] == [started.event_id] * len(events)
    assert [event.started_at for event in events] == [started.started_at] * len(events)
    assert ended.ended_at is not None
    assert ended.pts_end_seconds is not None
    lasted = milliseconds(ended.ended_at) - milliseconds(started.started_at)
    assert lasted == round((ended.pts_end_seconds - started.pts_start_seconds) * 1000)


STEPS = [STEP * number for number in range(8)]


@pytest.mark.parametrize("is_live", [True, False])
@pytest.mark.parametrize("change", [-3600.0, -3.0, 3600.0])
@pytest.mark.parametrize("at_clip", [1, 4, 7])
def test_a_clock_that_is_set_changes_no_duration(
    is_live: bool, change: float, at_clip: int
) -> None:
    walls = [5000.0007 + step + change * (step >= STEPS[at_clip]) for step in STEPS]
    events = run(walls, is_live=is_live)
    check_times(events)
    assert events[-1].pts_end_seconds == pytest.approx(events[0].pts_start_seconds + 3.5)


@pytest.mark.parametrize("change", [-0.2, -0.45])
def test_a_small_step_back_does_not_shorten_an_action_of_a_live_camera(change: float) -> None:
    check_times(run([5000.0 + step + change * (step > 1) for step in STEPS], is_live=True))


def test_an_action_of_a_live_camera_may_end_later_than_the_clock_says() -> None:
    events = run([5000.0 + 0.9 * step for step in STEPS], is_live=True)
    check_times(events)
    assert events[-1].ended_at is not None
    assert milliseconds(events[-1].ended_at) > milliseconds(events[-1].produced_at) - 500


@given(st.lists(st.floats(1e9, 2e9), min_size=3, max_size=12))
def test_no_clock_changes_the_duration_of_a_live_action(walls: list[float]) -> None:
    check_times(run(walls, is_live=True))


@pytest.mark.parametrize("change", [-3600.0, -3.0, 0.0, 3600.0])
def test_after_a_crash_an_action_ends_where_it_was_last_seen_in_the_stream(
    tmp_path: Path, change: float
) -> None:
    walls = [5000.0 + step + change * (step > 1) for step in STEPS]
    events = run(walls, is_live=True, until_clip=6)
    assert [event.kind for event in events] == ["started", "updated", "updated"]
    path = tmp_path / "outbox.db"
    outbox = Outbox(OutboxConfig(path=path))
    outbox.append(events)
    outbox.close()
    outbox = Outbox(OutboxConfig(path=path))
    [ended] = outbox.close_open_events()
    outbox.close()
    check_times([*events, ended])
    assert ended.reason == "crash"
    assert ended.pts_end_seconds == pytest.approx(10.004 + 4 * STEP)
    assert all("seen_until" not in stored.event.to_json() for stored in read_events(path))


@pytest.mark.parametrize(
    ("first", "year"), [(5.0, "1970"), (2.0**31 - 1, "2038"), (2.0**32 - 1, "2106")]
)
def test_clocks_of_other_centuries_give_valid_events(
    first: float, year: str, tmp_path: Path
) -> None:
    """A device without a battery begins in 1970; 32 bits of seconds end in 2038 and 2106."""
    events = run([first + step for step in STEPS], is_live=True)
    check_times(events)
    assert all(event.started_at.startswith(year) for event in events)
    outbox = Outbox(OutboxConfig(path=tmp_path / "outbox.db"))
    outbox.append(events)
    outbox.close()
    stored = [each.event.to_json() for each in read_events(tmp_path / "outbox.db")]
    assert stored == [event.to_json() for event in events]
