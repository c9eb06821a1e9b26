"""The records of the topic that holds the cameras: `camera/1`, tombstones and claims.

The key of a camera's record is its id in UTF-8. The value is JSON:
`{"schema": "camera/1", "camera": {...}}`, with the settings that `cameras:` of a configuration file
has. A record without a value, a tombstone, removes the camera. Workers write claims into the same
topic; their key starts with `#`, which no id of a camera contains.

A bad record ends nothing: it becomes an `Unreadable`, which says why and where it is. Settings that
this release does not know are left out with a warning, as readers of events do: a newer release
writes only settings without which the camera can be used as before, or names another schema. Who
writes a record (the command `cameras`, HTTP) refuses unknown settings.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError

from configs import ConfigError, DataError, check_tree, has_controls, quoted
from stream.cameras.config import CameraConfig

__all__ = [
    "CAMERA_SCHEMA",
    "CLAIM_KEY",
    "CLAIM_SCHEMA",
    "MAX_VALUE_BYTES",
    "NOWHERE",
    "CameraRecord",
    "ClaimRecord",
    "Place",
    "Record",
    "Tombstone",
    "Unreadable",
    "decode_record",
    "encode_camera",
    "encode_claim",
    "refuse_pushed",
]

_log = logging.getLogger(__name__)
CAMERA_SCHEMA = "camera/1"
CLAIM_SCHEMA = "claim/1"
CLAIM_KEY = b"#claim"
MAX_VALUE_BYTES = 262_144
_MAX_KEY_BYTES = 64  # as many characters as an id may have
_MAX_SHOWN = 300
Complete = Callable[[Mapping[str, Any]], Any]


class Place(NamedTuple):
    """Where a record is. `timestamp_ms` is its time in milliseconds, -1 if it has none."""

    partition: int = -1
    offset: int = -1
    timestamp_ms: int = -1


NOWHERE = Place()


@dataclasses.dataclass(frozen=True)
class CameraRecord:
    """A camera as it is to be run.

    Args:
        camera: its settings, completed by those of all cameras.
        fields: its settings as they stand in the record.
        ignored: dotted paths of settings that this release does not know.
    """

    camera: CameraConfig
    fields: Mapping[str, Any] = dataclasses.field(repr=False)  # may hold an address
    place: Place = NOWHERE
    ignored: tuple[str, ...] = ()

    @property
    def camera_id(self) -> str:
        """The camera's name."""
        return self.camera.id


@dataclasses.dataclass(frozen=True)
class Tombstone:
    """The camera was removed."""

    camera_id: str
    place: Place = NOWHERE


@dataclasses.dataclass(frozen=True)
class ClaimRecord:
    """A worker runs the cameras of this partition from here on; None: it gave them up.

    Args:
        claimed_at: RFC 3339 time in UTC.
    """

    worker: str | None
    claimed_at: str | None = None
    place: Place = NOWHERE


@dataclasses.dataclass(frozen=True)
class Unreadable:
    """A record that cannot be used.

    Args:
        camera_id: its key, shortened and without control characters.
        reason: what is wrong and what to do; without secrets.
        key: its key as it is.
    """

    camera_id: str
    reason: str
    place: Place = NOWHERE
    key: bytes = dataclasses.field(default=b"", repr=False)

    def __str__(self) -> str:
        where = f"partition {self.place.partition}, offset {self.place.offset}"
        return f"camera {self.camera_id} ({where}): {self.reason}"


Record = CameraRecord | Tombstone | ClaimRecord | Unreadable


def encode_camera(fields: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """Return key and value of a camera's record; the fields were checked and have an `id`.

    Raises:
        DataError: the record would be longer than readers accept.
    """
    value = _json({"schema": CAMERA_SCHEMA, "camera": dict(fields)})
    if len(value) > MAX_VALUE_BYTES:
        raise DataError(
            f"camera {fields['id']}: its settings need {len(value)} bytes, more than the"
            f" {MAX_VALUE_BYTES} of a record; remove some of its rules or regions"
        )
    return str(fields["id"]).encode(), value


def encode_claim(worker: str, claimed_at: str) -> bytes:
    """Return the value of a claim; its key is `CLAIM_KEY`."""
    return _json({"schema": CLAIM_SCHEMA, "worker": worker, "claimed_at": claimed_at})


def refuse_pushed(camera: CameraConfig) -> None:
    """Refuse a camera whose frames a program pushes: it can run on any worker, they come to one.

    Raises:
        ConfigError: its address is `push:`.
    """
    if camera.kind == "push":
        raise ConfigError(
            f"camera {camera.id}: url: {camera.url} cannot be used in a topic, because frames are"
            " pushed to one pipeline and the topic gives its cameras to any worker; put the camera"
            " into the configuration of a pipeline without cameras_from.topic"
        )


def decode_record(
    key: bytes | None,
    value: bytes | None,
    place: Place = NOWHERE,
    complete: Complete = dict,
) -> Record:
    """Return what a record says; never raises for what others may have written.

    Args:
        complete: completes the settings of a camera by those of all cameras; may raise ConfigError.
    """
    try:
        return _decoded(key, value, place, complete)
    except (ConfigError, DataError) as error:
        return Unreadable(_shown_key(key), str(error)[:_MAX_SHOWN], place, key or b"")


def _decoded(key: bytes | None, value: bytes | None, place: Place, complete: Complete) -> Record:
    if key is None:
        raise DataError("the record has no key; the key is the camera's id")
    if key == CLAIM_KEY:
        return _claim(value, place)
    if len(key) > _MAX_KEY_BYTES:
        raise DataError(f"its key has {len(key)} bytes; an id has at most {_MAX_KEY_BYTES}")
    try:
        camera_id = key.decode()
    except UnicodeDecodeError:
        raise DataError("its key is not UTF-8; the key is the camera's id") from None
    if camera_id.startswith("#"):
        raise DataError("this is a record of another release; it is left as it is")
    if value is None:
        return Tombstone(camera_id, place)
    fields = _tree(value, CAMERA_SCHEMA).get("camera")
    if not isinstance(fields, dict):
        raise DataError('the field "camera" is missing or is not a JSON object')
    if fields.get("id") != camera_id:
        raise DataError(
            f"its key is {_shown_part(camera_id)!r}, but its camera has the id"
            f" {_shown_part(str(fields.get('id')))!r}; both must be the same"
        )
    return _camera(fields, place, complete)


def _camera(fields: dict[str, Any], place: Place, complete: Complete) -> CameraRecord:
    known, ignored = _without_unknown(fields)
    camera = check_tree(complete(known), CameraConfig, name="its settings", strict=True)
    refuse_pushed(camera)
    if ignored:
        _log.warning(
            "camera %s: settings %s of its record are ignored, because this release does not know"
            " them",
            camera.id,
            ", ".join(ignored),
            extra={"camera": camera.id},
        )
    return CameraRecord(camera, fields, place, ignored)


def _without_unknown(fields: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the settings without those that this release does not know, and their paths."""
    try:
        CameraConfig.model_validate(fields, context={"strict": True})
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        unknown = [item["loc"] for item in found if item["type"] == "extra_forbidden"]
    except RecursionError:
        raise DataError("its settings are nested too deeply") from None
    else:
        unknown = []
    if not unknown:
        return fields, ()
    known = json.loads(json.dumps(fields))
    for path in unknown:
        section: Any = known
        for part in path[:-1]:
            section = section[part]
        del section[path[-1]]
    return known, tuple(".".join(map(_shown_part, path)) for path in unknown)


def _shown_part(part: int | str) -> str:
    text = str(part)
    # A key may by mistake be an address that contains a password.
    return "(an address)" if set("@=") & set(text) or has_controls(text) else text[:64]


def _claim(value: bytes | None, place: Place) -> ClaimRecord:
    if value is None:
        return ClaimRecord(None, None, place)
    tree = _tree(value, CLAIM_SCHEMA)
    worker, claimed_at = tree.get("worker"), tree.get("claimed_at")
    if not isinstance(worker, str) or not isinstance(claimed_at, str):
        raise DataError("a claim needs the fields worker and claimed_at, as texts")
    return ClaimRecord(worker, claimed_at, place)


def _tree(value: bytes, schema: str) -> dict[str, Any]:
    if len(value) > MAX_VALUE_BYTES:
        raise DataError(f"it has {len(value)} bytes; at most {MAX_VALUE_BYTES} are read")
    try:
        tree = json.loads(value.decode())
    except (ValueError, RecursionError):
        raise DataError("it is not JSON in UTF-8; write it again with `cameras add`") from None
    found = tree.get("schema") if isinstance(tree, dict) else None
    if found != schema:
        raise DataError(
            f"its schema is {quoted(str(found))}, and this release reads {schema}; write the record"
            " again, or update this worker"
        )
    assert isinstance(tree, dict)
    return tree


def _shown_key(key: bytes | None) -> str:
    if key is None:
        return "without key"
    return _shown_part(key[:_MAX_KEY_BYTES].decode(errors="backslashreplace"))


def _json(tree: Mapping[str, Any]) -> bytes:
    return json.dumps(tree, separators=(",", ":"), ensure_ascii=False).encode()
