"""Write the JSON Schema of the records that hold cameras, from the settings classes."""

from __future__ import annotations

import json
from typing import Any

from stream.cameras.config import CameraConfig
from stream.fleet.records import CAMERA_SCHEMA

__all__ = ["camera_schema"]

_DESCRIPTION = (
    "A camera that workers share. Kafka topic cameras_from.topic, key: the camera's id in UTF-8. A"
    " record without a value removes the camera. This version grows only by optional settings:"
    " readers ignore settings that they do not know, at any depth. Keys that start with # belong to"
    " the workers. Addresses hold no passwords: ${secret:NAME} stands for the content of a file of"
    " each worker."
)


def camera_schema() -> str:
    """Return the schema as JSON text."""
    camera = CameraConfig.model_json_schema()
    definitions = camera.pop("$defs")
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": CAMERA_SCHEMA,
        "title": "CameraRecord",
        "description": _DESCRIPTION,
        "type": "object",
        "additionalProperties": True,
        "required": ["schema", "camera"],
        "properties": {"schema": {"const": CAMERA_SCHEMA}, "camera": camera},
        "$defs": definitions,
    }
    return json.dumps(_open(schema), indent=2, ensure_ascii=False) + "\n"


def _open(schema: Any) -> Any:
    """Return a schema that allows fields which it does not name."""
    if isinstance(schema, list):
        return [_open(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    opened = {name: _open(each) for name, each in schema.items()}
    if opened.get("additionalProperties") is False:
        opened["additionalProperties"] = True
    return opened
