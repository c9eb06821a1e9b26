"""The published event schema as validators: one for what may be read, a closed one for what we
write.
"""

from __future__ import annotations

import copy
import json
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker

from tests import ROOT

PATH = ROOT / "docs" / "action-event.schema.json"
SCHEMA = json.loads(PATH.read_text(encoding="utf-8"))
VALIDATOR = Draft202012Validator(SCHEMA, format_checker=FormatChecker())


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    """The same schema without room for fields that it does not name."""
    closed = copy.deepcopy(schema)
    closed["additionalProperties"] = False
    closed["properties"]["top_k"]["items"]["additionalProperties"] = False
    closed["properties"]["verification"]["additionalProperties"] = False
    return closed


_WRITTEN = Draft202012Validator(_closed(SCHEMA), format_checker=FormatChecker())


def check_event(text: str | bytes) -> None:
    """Fail unless the text is an event as we publish it: of the schema, and without fields that
    it does not name.
    """
    _WRITTEN.validate(json.loads(text))


def check_readable(text: str | bytes) -> None:
    """Fail unless the text is an event of the schema, which may have grown by fields."""
    VALIDATOR.validate(json.loads(text))
