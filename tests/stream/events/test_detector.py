"""The detector by hand and on random input, and which events are valid."""

import dataclasses
import datetime
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import ValidationError

from configs import ConfigError, DataError
from model.detection import ActionRule
from stream import ActionEvent, EventDetector
from stream.events.config import EventConfig
from tests.support.factory import make_event
from tests.support.schema import check_event, check_readable

LABELS = ("background", "fall", "get_up")
STEP = 0.25
PLAIN = EventConfig(
    smoothing=1, default=ActionRule(enter=0.6, exit=0.3, cooldown_seconds=1.0, onset_seconds=0.5)
)


def detector(config: EventConfig = PLAIN, **options: object) -> EventDetector:
    return EventDetector(
        config,
        labels=LABELS,
        camera_id="cam",
        clip_seconds=2.0,
        model="m",
        background="background",
        **options,
    )


def feed(machine: EventDetector, falls: list[float]) -> list[ActionEvent]:
    events = []
    for number, fall in enumerate(falls):
        time = 10 + number * STEP
        events += machine.push(
            [1 - fall, fall, 0.0], pts_end_seconds=time, wall_end_seconds=1000 + time
        )
    return events


def test_one_action_by_hand() -> None:
    started, ended = feed(detector(), [0, 0.5, 0.7, 0.9, 0.5, 0.2, 0])
    assert (started.kind, started.action, started.confidence, started.sequence) == (
        "started",
        "fall",
        0.7,
        1,
    )
    # Recognised in the clip that ended at 10.5; dated back by onset_seconds.
    assert (started.pts_start_seconds, started.started_at) == (10.0, "1970-01-01T00:16:50.000Z")
    assert (ended.kind, ended.reason, ended.sequence, ended.event_id) == (
        "ended",
        "over",
        2,
        started.event_id,
    )
    # Last above `exit` in the clip that ended at 11.0 and began at 9.0; dated to onset_seconds into
    # that clip, not before the start.
    assert ended.pts_end_seconds == max(10.0, 11.0 - 1.5)
    assert started.top_k == (("fall", 0.7), ("background", 0.3), ("get_up", 0.0))
    assert ended.confidence == 0.5


def test_hysteresis_keeps_one_event_over_a_dip() -> None:
    kinds = [event.kind for event in feed(detector(), [0.7, 0.4, 0.35, 0.7, 0.1])]
    assert kinds == ["started", "ended"]


def test_smoothing_ignores_a_single_clip() -> None:
    smooth = PLAIN.model_copy(update={"smoothing": 3})
    assert feed(detector(smooth), [0, 0, 1, 0, 0]) == []
    assert [event.kind for event in feed(detector(smooth), [0, 0, 1, 1, 0, 0, 0])] == [
        "started",
        "ended",
    ]


def test_minimum_duration_and_cooldown() -> None:
    patient = PLAIN.model_copy(
        update={
            "actions": {
                "fall": ActionRule(
                    enter=0.6, exit=0.3, min_seconds=0.5, cooldown_seconds=1.0, onset_seconds=0.5
                )
            }
        }
    )
    assert feed(detector(patient), [0.9, 0.9, 0.1, 0.9, 0.1]) == []
    started = feed(detector(patient), [0.9, 0.9, 0.9])[0]
    # dated from when it rose, not from when it was announced
    assert started.pts_start_seconds == 9.5
    kinds = [event.kind for event in feed(detector(), [0.9, 0.1, 0.9, 0.9, 0.1, 0.1, 0.9])]
    assert kinds == ["started", "ended", "started"]


def test_updates_repeat_while_it_lasts() -> None:
    talkative = PLAIN.model_copy(update={"update_seconds": 0.5})
    events = feed(detector(talkative), [0.9] * 6 + [0.0])
    assert [event.kind for event in events] == ["started", "updated", "updated", "ended"]
    assert [event.sequence for event in events] == [1, 2, 3, 4]


def test_a_break_ends_open_events_and_clears_the_smoothing() -> None:
    machine = detector(PLAIN.model_copy(update={"smoothing": 2}))
    feed(machine, [0.9, 0.9])
    (ended,) = machine.finish("gap")
    assert (ended.kind, ended.reason) == ("ended", "gap")
    assert machine.finish("gap") == []
    assert machine.active == {}
    assert [event.kind for event in feed(machine, [0.7])] == ["started"]


def test_ignored_labels_give_no_events_and_unknown_ones_are_errors() -> None:
    assert (
        feed(detector(PLAIN.model_copy(update={"ignore": ("background", "fall")})), [0.9] * 3) == []
    )
    with pytest.raises(ConfigError, match="no label 'fly'"):
        detector(PLAIN.model_copy(update={"actions": {"fly": ActionRule()}}))
    with pytest.raises(DataError, match="2 probabilities for 3 labels"):
        detector().push([0.5, 0.5], pts_end_seconds=0, wall_end_seconds=0)


@given(
    st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), max_size=60),
    st.integers(1, 4),
    st.floats(0, 1),
)
def test_any_input_gives_valid_events_in_pairs_of_started_and_ended(
    rows: list[list[float]], smoothing: int, update: float
) -> None:
    config = EventConfig(
        smoothing=smoothing, update_seconds=update, default=ActionRule(enter=0.5, exit=0.2)
    )
    machine = detector(config, first_sequence=7)
    events = []
    for number, row in enumerate(rows):
        events += machine.push(
            row, pts_end_seconds=5 + number * STEP, wall_end_seconds=5000 + number * STEP
        )
    events += machine.finish("shutdown")
    assert [event.sequence for event in events] == list(range(7, 7 + len(events)))
    open_ids: set[str] = set()
    for event in events:
        check_event(event.to_json())
        assert ActionEvent.from_json(event.to_json()) == event
        if event.kind == "started":
            assert event.event_id not in open_ids
            open_ids.add(event.event_id)
        else:
            assert event.event_id in open_ids
        if event.kind == "ended":
            open_ids.remove(event.event_id)
            assert event.pts_end_seconds is not None
            assert event.pts_end_seconds >= event.pts_start_seconds
    assert not open_ids


def test_the_same_clips_give_the_same_events() -> None:
    assert feed(detector(), [0, 0.9, 0.9, 0]) == feed(detector(), [0, 0.9, 0.9, 0])


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", '{"schema": "action-event/2"}', '{"schema": "action-event/1"}']
)
def test_other_texts_are_not_events(text: str) -> None:
    with pytest.raises(DataError, match="not an event"):
        ActionEvent.from_json(text)


@pytest.mark.parametrize(
    "change",
    [
        {"camera_id": None},
        {"event_id": []},
        {"started_at": None},
        {"produced_at": "2026-01-02T03:04:0x.000Z"},
        {"started_at": "2026-01-02T03:04:05"},
        {"pts_start_seconds": "5"},
        {"sequence": "1"},
        {"sequence": 0},
        {"sequence": 1.5},
        {"top_k": [{"action": 1, "confidence": 0.5}]},
        {"top_k": [{"action": "fall", "confidence": "x"}]},
        {"region": 3},
        {"action": "\ud800"},
        {"pts_start_seconds": 10**400},
        {"sequence": 10**30},
        {"pts_start_seconds": float("inf")},
        {"top_k": [{"action": "fall"}]},
        {"top_k": [{"confidence": 0.5, "unheard": 1}]},
    ],
    ids=str,
)
def test_json_with_a_wrong_value_in_a_field_is_not_an_event(change: dict[str, object]) -> None:
    """A flipped bit or a foreign record must be found here, not where the field is used."""
    (started,) = feed(detector(), [0.9])
    with pytest.raises(DataError):
        ActionEvent.from_json(json.dumps(json.loads(started.to_json()) | change))


def test_fields_that_a_reader_does_not_know_are_ignored() -> None:
    event = make_event(1, kind="ended")
    fields = json.loads(event.to_json())
    fields["top_k"] = [entry | {"rank": number} for number, entry in enumerate(fields["top_k"])]
    grown = json.dumps(fields | {"unheard": {"of": 1}})
    check_readable(grown)
    with pytest.raises(ValidationError, match="unheard"):
        check_event(grown)  # but we do not publish it
    assert ActionEvent.from_json(grown) == event


@pytest.mark.parametrize("name", json.loads(make_event(1, kind="ended").to_json()))
def test_an_event_without_a_required_field_is_refused(name: str) -> None:
    fields = json.loads(make_event(1, kind="ended").to_json())
    del fields[name]
    with pytest.raises(ValidationError, match=name):
        check_readable(json.dumps(fields))
    if name == "region":  # always readable without: it means the whole frame
        assert ActionEvent.from_json(json.dumps(fields)).region is None
        return
    with pytest.raises(DataError, match=name):
        ActionEvent.from_json(json.dumps(fields))


def test_json_nested_without_end_is_not_an_event() -> None:
    with pytest.raises(DataError):
        ActionEvent.from_json("[" * 100_000)


def test_impossible_events_cannot_be_made() -> None:
    (started,) = feed(detector(), [0.9])
    fields = json.loads(started.to_json())
    for change in (
        {"kind": "over"},
        {"confidence": 1.5},
        {"ended_at": "2020-01-01T00:00:00Z"},
        {"kind": "ended"},
    ):
        with pytest.raises(DataError):
            ActionEvent.from_json(json.dumps(fields | change))


def test_an_event_can_be_made_from_its_json_and_from_datetime_and_numpy_values() -> None:
    event = make_event(1, kind="ended")
    assert ActionEvent(**json.loads(event.to_json())) == event
    assert event.schema == "action-event/1"
    moment = datetime.datetime(
        2026, 1, 2, 4, 4, 5, tzinfo=datetime.timezone(datetime.timedelta(hours=1))
    )
    top_k = [["fall", np.float64(0.75)], {"action": "background", "confidence": 0.25}]
    other = dataclasses.replace(event, started_at=moment, confidence=np.float32(0.75), top_k=top_k)  # type: ignore[arg-type]
    assert other == event
    assert hash(other) == hash(event)
    assert ActionEvent.from_json(other.to_json()) == event


@pytest.mark.parametrize(
    "wrong",
    [
        {"sequence": 0},
        {"sequence": True},
        {"sequence": "1"},
        {"event_id": None},
        {"started_at": "yesterday"},
        {"started_at": datetime.datetime(2026, 1, 2)},
        {"reason": None},
        {"top_k": [("fall", 7.0)]},
        {"top_k": ["fa"]},
        {"confidence": float("nan")},
        {"confidence": True},
        {"pts_start_seconds": None},
        {"schema": "action-event/2"},
        {"kind": "started"},
    ],
)
def test_an_invalid_event_is_refused_and_its_field_is_named(wrong: dict[str, object]) -> None:
    with pytest.raises(DataError, match=next(iter(wrong)).removesuffix("_at")):
        dataclasses.replace(make_event(1, kind="ended"), **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong", [[float("nan"), 0.5, 0.5], [0.1, 0.2, 3.0], [-0.5, 0.5, 1.0], [0.5, 0.5]]
)
def test_values_that_are_not_probabilities_are_refused_and_change_nothing(
    wrong: list[float],
) -> None:
    machine = detector()
    with pytest.raises(DataError, match="probabilities"):
        machine.push(wrong, pts_end_seconds=9.0, wall_end_seconds=1009.0)
    assert feed(machine, [0, 0.7, 0.1]) == feed(detector(), [0, 0.7, 0.1])


def test_a_detector_with_defaults_takes_arrays() -> None:
    machine = EventDetector(
        {"smoothing": 1, "default": {"enter": 0.6}}, labels=LABELS, camera_id="cam"
    )
    [event] = machine.push(
        np.array([0.25, 0.75, 0.0], np.float32), pts_end_seconds=3.0, wall_end_seconds=1003.0
    )
    assert ActionEvent.from_json(event.to_json()) == event
    with pytest.raises(
        ConfigError, match=r"events: smoothin: unknown setting; did you mean 'smoothing'"
    ):
        EventDetector({"smoothin": 1}, labels=LABELS, camera_id="cam")
    assert EventDetector(labels=LABELS, camera_id="cam").active == {}


def test_a_file_that_is_read_fast_gives_no_event_ending_in_the_future() -> None:
    machine = detector()
    [started] = machine.push([0.1, 0.9, 0.0], pts_end_seconds=10.0, wall_end_seconds=1000.0)
    machine.push([0.1, 0.9, 0.0], pts_end_seconds=70.0, wall_end_seconds=1003.0)
    [ended] = machine.push([0.9, 0.1, 0.0], pts_end_seconds=71.0, wall_end_seconds=1003.1)
    assert ended.ended_at is not None
    assert started.started_at < ended.ended_at <= ended.produced_at


def test_an_event_lasts_as_long_as_in_the_stream_even_if_the_clock_is_changed() -> None:
    machine = detector()
    [started] = machine.push([0.1, 0.9, 0.0], pts_end_seconds=10.0, wall_end_seconds=1000.0)
    assert machine.push([0.1, 0.9, 0.0], pts_end_seconds=13.0, wall_end_seconds=1003.0) == []
    # set forward by an hour
    [ended] = machine.push([0.9, 0.1, 0.0], pts_end_seconds=14.0, wall_end_seconds=4604.0)
    assert ended.pts_end_seconds is not None
    assert ended.ended_at is not None
    lasted = datetime.datetime.fromisoformat(ended.ended_at) - datetime.datetime.fromisoformat(
        started.started_at
    )
    assert lasted.total_seconds() == pytest.approx(
        ended.pts_end_seconds - started.pts_start_seconds, abs=0.002
    )
