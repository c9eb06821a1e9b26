"""The published event schema as a validator."""

from __future__ import annotations

import json

from jsonschema import Draft202012Validator, FormatChecker

from tests import ROOT

PATH = ROOT / "docs" / "action-event.schema.json"
VALIDATOR = Draft202012Validator(
    json.loads(PATH.read_text(encoding="utf-8")), format_checker=FormatChecker()
)


def check_event(text: str | bytes) -> None:
    """Fail unless the text is an event of the published schema."""
    VALIDATOR.validate(json.loads(text))
