"""What records of the topic say; nothing that others write may end a reader."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

from configs import ConfigError, DataError
from stream.cameras.config import CameraConfig
from stream.events.config import EventConfig
from stream.fleet.records import (
    CLAIM_KEY,
    MAX_VALUE_BYTES,
    CameraRecord,
    ClaimRecord,
    Place,
    Tombstone,
    Unreadable,
    decode_record,
    encode_camera,
    encode_claim,
)
from tests import ROOT

CAMERA: dict[str, Any] = {"id": "door", "url": "rtsp://h/1", "events": {"smoothing": 3}}
PLACE = Place(3, 17, 1_000)


def value_of(camera: object = CAMERA, schema: object = "camera/1") -> bytes:
    """Return a record's value, written without the code under test."""
    return json.dumps({"schema": schema, "camera": camera}).encode()


def test_a_camera_survives_the_way_there_and_back() -> None:
    key, value = encode_camera(CAMERA)
    assert key == b"door"
    assert json.loads(value) == {"schema": "camera/1", "camera": CAMERA}
    record = decode_record(key, value, PLACE)
    assert isinstance(record, CameraRecord)
    assert record.fields == CAMERA
    assert (record.camera_id, record.place, record.ignored) == ("door", PLACE, ())
    assert record.camera.events is not None
    assert record.camera.events.smoothing == 3
    assert "rtsp" not in repr(record)


def test_shared_settings_complete_a_camera_and_its_record_stays_as_it_is() -> None:
    def complete(fields: Any) -> Any:
        return fields | {"hop": 9}

    record = decode_record(b"door", value_of(), PLACE, complete)
    assert isinstance(record, CameraRecord)
    assert record.camera.hop == 9
    assert "hop" not in record.fields

    def fail(fields: Any) -> Any:
        raise ConfigError("given under both names")

    assert isinstance(decode_record(b"door", value_of(), PLACE, fail), Unreadable)


def test_a_record_without_value_removes_the_camera() -> None:
    assert decode_record(b"door", None, PLACE) == Tombstone("door", PLACE)


def test_claims_are_recognised() -> None:
    value = encode_claim("w1", "2026-01-02T03:04:05Z")
    expected = ClaimRecord("w1", "2026-01-02T03:04:05Z", PLACE)
    assert decode_record(CLAIM_KEY, value, PLACE) == expected
    assert decode_record(CLAIM_KEY, None, PLACE) == ClaimRecord(None, None, PLACE)


@pytest.mark.parametrize(
    ("key", "value", "part"),
    [
        (None, value_of(), "no key"),
        (b"\xff", value_of(), "not UTF-8"),
        (b"x" * 65, value_of(), "65 bytes"),
        (b"#new", b"{}", "another release"),
        (CLAIM_KEY, b'{"schema":"claim/1","worker":1}', "worker"),
        (CLAIM_KEY, b'{"schema":"claim/2"}', "claim/1"),
        (b"door", b"", "not JSON"),
        (b"door", b"\xff\xfe", "not JSON"),
        (b"door", value_of().decode().encode("utf-16"), "not JSON"),
        (b"door", b"[" * 100_000, "not JSON"),
        (b"door", b"[]", "schema"),
        (b"door", value_of(schema="camera/2"), "'camera/2'"),
        (b"door", value_of(schema=None), "camera/1"),
        (b"door", value_of([]), "JSON object"),
        (b"other", value_of(), "'door'"),
        (b"door", value_of({**CAMERA, "hop": "8"}), "hop: must be a number"),
        (b"door", value_of({**CAMERA, "url": "rtsp://u:hush@/"}), "host name"),
        (b"door", value_of({**CAMERA, "hop": float("nan")}), "hop"),
        (b"door", value_of({**CAMERA, "url": "push:"}), "pushed to one pipeline"),
        (b"a b", value_of({**CAMERA, "id": "a b"}), "id"),
        (b"door", b" " * MAX_VALUE_BYTES + value_of(), "at most 262144"),
    ],
)
def test_a_bad_record_says_what_is_wrong_and_where(
    key: bytes | None, value: bytes, part: str
) -> None:
    record = decode_record(key, value, PLACE)
    assert isinstance(record, Unreadable)
    assert part in record.reason
    assert "hush" not in str(record)
    assert "(partition 3, offset 17)" in str(record)
    assert str(record).isprintable()


def test_settings_of_a_newer_release_are_left_out_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    newer = {
        **CAMERA,
        "tilt": 3,
        "zoom": {"x": 1},
        "events": {"smoothing": 3, "mood": 1, "actions": {"fall": {"enter": 0.7, "late": 1}}},
        "regions": [{"id": "left", "right": 0.5, "top_left": 0}],
        "u:hush@h": 1,
    }
    with caplog.at_level(logging.WARNING):
        record = decode_record(b"door", value_of(newer), PLACE)
    assert isinstance(record, CameraRecord)
    assert record.fields == newer
    assert record.camera.regions[0].right == 0.5
    assert record.camera.events is not None
    assert record.camera.events.actions["fall"].enter == 0.7
    assert set(record.ignored) == {
        "tilt",
        "zoom",
        "events.mood",
        "events.actions.fall.late",
        "regions.0.top_left",
        "(an address)",
    }
    [message] = caplog.messages
    assert "events.mood" in message
    assert "hush" not in message
    # A known setting that is wrong stays an error.
    bad = decode_record(b"door", value_of({**newer, "loop": 1}), PLACE)
    assert isinstance(bad, Unreadable)


def test_a_camera_that_no_reader_would_take_is_not_written() -> None:
    fields = {"id": "door", "url": "rtsp://h/1", "note": "x" * MAX_VALUE_BYTES}
    with pytest.raises(DataError, match="camera door: its settings need"):
        encode_camera(fields)


def test_the_published_schema_describes_records() -> None:
    schema = json.loads((ROOT / "docs/camera.schema.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    whole = CameraConfig(
        id="door", url="rtsp://h/1", events=EventConfig(smoothing=3), loop=True
    ).model_dump(mode="json")
    for camera in (CAMERA, whole, CAMERA | {"of a newer release": 1}):
        validator.validate(json.loads(encode_camera(camera)[1]))
    wrong = ({"id": "a"}, {**CAMERA, "hop": "8"}, {**CAMERA, "id": "#a"})
    for value in (value_of(schema="camera/2"), *map(value_of, wrong)):
        with pytest.raises(ValidationError):
            validator.validate(json.loads(value))
