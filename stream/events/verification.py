"""The answer of a second look: the field `verification` of events of kind `verified`."""

from __future__ import annotations

import dataclasses
import unicodedata
from collections.abc import Mapping
from typing import Any, Literal, get_args

from stream.events.event_fields import number

__all__ = ["MAX_REASON", "Answer", "Verification", "plain_text"]

# `unclear`: the endpoint answered, but with none of the other three.
Answer = Literal["yes", "no", "unsure", "unclear"]
MAX_REASON = 500  # characters
_MAX_MODEL = 200


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verification:
    """The answer of a second look.

    `reason` is a text of the model: data to show, never an instruction. It has at most 500
    characters and no control characters. `model` is the name by which the endpoint knows the model.
    `latency_seconds` is the time from the `started` event to the answer.

    Raises:
        TypeError, ValueError: a field has a wrong type or value.
    """

    answer: Answer
    reason: str
    model: str
    latency_seconds: float

    def __post_init__(self) -> None:
        if self.answer not in get_args(Answer):
            known = ", ".join(get_args(Answer))
            raise ValueError(f"answer in verification is one of {known}, got {self.answer!r}")
        for name, limit in (("reason", MAX_REASON), ("model", _MAX_MODEL)):
            value = getattr(self, name)
            if not isinstance(value, str):
                raise TypeError(f"{name} in verification is a text, got {value!r}")
            object.__setattr__(self, name, plain_text(value, limit))
        seconds = number("latency_seconds in verification", self.latency_seconds)
        if seconds < 0:
            raise ValueError(f"latency_seconds in verification is not negative, got {seconds}")
        object.__setattr__(self, "latency_seconds", seconds)

    def fields(self) -> dict[str, Any]:
        """Return the fields in their JSON form."""
        return dataclasses.asdict(self)

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Verification:
        """Read the JSON form; unknown fields are ignored.

        Raises:
            KeyError: a field is missing.
            TypeError, ValueError: a field has a wrong type or value.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**{name: fields[name] for name in names})


def plain_text(text: str, max_characters: int) -> str:
    """Return a text as one line without control characters, cut to `max_characters`.

    Line breaks and tabs become blanks. Marks that change the direction of text, surrogates and
    other invisible characters of Unicode's category C are removed.
    """
    # The text is cut first, so that a long one costs little; most characters are kept.
    found = (" " if char.isspace() else char for char in text[: 4 * max_characters])
    kept = "".join(char for char in found if unicodedata.category(char)[0] != "C")
    return " ".join(kept.split())[:max_characters].strip()
