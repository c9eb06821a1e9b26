"""Read the answer of a model: JSON as it was asked for, or a text that begins with yes or no.

The text comes from outside. It is read as data only, and anything unexpected is `unclear`.
"""

from __future__ import annotations

import json
import re
from typing import Any, cast

from stream.events.verification import MAX_REASON, Answer, plain_text

__all__ = ["RESPONSE_FORMAT", "message_text", "read_answer"]

_ANSWERS = ("yes", "no", "unsure")
# What an endpoint is asked to hold its model to.
RESPONSE_FORMAT: dict[str, Any] = {
    "type": "json_schema",
    "json_schema": {
        "name": "second_look",
        "strict": True,
        "schema": {
            "type": "object",
            "additionalProperties": False,
            "required": ["answer", "reason"],
            "properties": {
                "answer": {"type": "string", "enum": list(_ANSWERS)},
                "reason": {"type": "string"},
            },
        },
    },
}
_FENCED = re.compile(r"\A```[a-z]*\s*\n(?P<inside>.*?)\n?```\Z", re.DOTALL | re.IGNORECASE)
# The word must stand alone: "No idea", "no-one" and "yes and no" are not answers.
_BEGINNING = re.compile(
    r"\A[\s\"'*_(]*(?P<answer>yes|no|unsure)[ \t\r\"'*_)]*"
    r"(?:\Z|(?:\n|[.,;:!\u2013\u2014]|[ \t]-[ \t])(?P<reason>.*))",
    re.DOTALL | re.IGNORECASE,
)


def message_text(body: bytes) -> str | None:
    """Return the text of the first choice of a chat completion; None: it is not one."""
    try:
        content = json.loads(body)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    if isinstance(content, list):  # some servers answer in parts
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        content = "".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else None


def read_answer(text: str) -> tuple[Answer, str]:
    """Return the answer in a text and its reason: one line of at most 500 characters.

    JSON with a field `answer` counts first, then a text that begins with yes, no or unsure. The
    reason of an `unclear` answer is the beginning of the text.
    """
    text = text.strip()
    fenced = _FENCED.match(text)
    found = _from_json(fenced["inside"] if fenced else text)
    if found is None and (match := _BEGINNING.match(text)) is not None:
        found = (cast("Answer", match["answer"].lower()), match["reason"] or "")
    answer, reason = found or ("unclear", text)
    return answer, plain_text(reason, MAX_REASON)


def _from_json(text: str) -> tuple[Answer, str] | None:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict) or not isinstance(fields.get("answer"), str):
        return None
    answer = fields["answer"].strip().lower()
    if answer not in _ANSWERS:
        return None
    reason = fields.get("reason")
    return cast("Answer", answer), reason if isinstance(reason, str) else ""
