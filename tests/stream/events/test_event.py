"""What others wrote into a topic or an outbox: an event, or an error that can be shown."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs import DataError
from stream.events.event import ActionEvent
from tests.support.factory import make_event

FIELDS = json.loads(make_event(1).to_json())
ATTACK = "\n\r\x1b[2J\x7f\x9b\u2028\u202e"


def read(text: str) -> tuple[ActionEvent | None, str]:
    """Return the event of a text, or the error."""
    try:
        return ActionEvent.from_json(text), ""
    except DataError as error:
        return None, str(error)


@pytest.mark.parametrize("value", [ATTACK, [ATTACK], {ATTACK: ATTACK}, "x" * 10**6, [0] * 10**6])
@pytest.mark.parametrize("field", FIELDS)
def test_an_error_about_an_event_is_one_short_line(field: str, value: object) -> None:
    event, error = read(json.dumps(FIELDS | {field: value}))
    assert error.isprintable()
    assert len(error) < 400
    if event is not None:
        assert event.to_json().isascii()
        assert event.to_json().isprintable()
        assert field in ("event_id", "camera_id", "region", "action", "model", "snapshot")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(list(FIELDS)), JSON, max_size=3))
def test_any_value_gives_an_event_or_an_error_of_ours(changes: dict[str, object]) -> None:
    event, error = read(json.dumps(FIELDS | changes))
    assert len(error) < 400
    if event is not None:
        assert ActionEvent.from_json(event.to_json()) == event


@given(st.binary(max_size=40))
def test_any_bytes_give_an_error_of_ours(data: bytes) -> None:
    with pytest.raises(DataError):
        ActionEvent.from_json(data)
