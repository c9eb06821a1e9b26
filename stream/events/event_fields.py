"""Checks of the fields of an event, and the form of its times."""

from __future__ import annotations

import datetime
import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["check_text", "fraction", "moment", "number", "rfc3339", "top_k_pairs", "whole"]


def check_text(name: str, value: object) -> None:
    """Check that a field is a text that can be stored and sent.

    Raises:
        TypeError, ValueError: it is not one; the message begins with the name.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name} is a text, got {value!r}")
    value.encode()  # raises for a lone surrogate, which cannot be stored or sent


def whole(name: str, value: Any, first: int) -> int:
    """Return a whole number from `first` on, below 2**63.

    Raises:
        TypeError, ValueError: it is not one; the message begins with the name.
    """
    is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_whole or not first <= value < 2**63:
        raise ValueError(f"{name} is a whole number from {first} on, got {value!r}")
    return int(value)


def top_k_pairs(entries: Sequence[Any]) -> tuple[tuple[str, float], ...]:
    """Return the labels with their confidences as pairs, from pairs or from their JSON form.

    Raises:
        TypeError, ValueError: it is not one; the message begins with the name.
    """
    pairs = [
        (entry["action"], entry["confidence"]) if isinstance(entry, Mapping) else tuple(entry)
        for entry in entries
    ]
    if not all(len(pair) == 2 and isinstance(pair[0], str) for pair in pairs):
        raise TypeError(f"top_k is a list of labels, each with its confidence, got {entries!r}")
    for label, _ in pairs:
        check_text("label in top_k", label)
    return tuple((label, fraction("confidence in top_k", value)) for label, value in pairs)


def number(name: str, value: object) -> float:
    """Return a finite number as a float.

    Raises:
        TypeError, ValueError: it is not one; the message begins with the name.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise TypeError(f"{name} is a finite number, got {value!r}")
    return float(value)


def fraction(name: str, value: object) -> float:
    """Return a number from 0 to 1 as a float.

    Raises:
        TypeError, ValueError: it is not one; the message begins with the name.
    """
    found = number(name, value)
    if not 0.0 <= found <= 1.0:
        raise ValueError(f"{name} is between 0 and 1, got {found}")
    return found


def moment(name: str, value: object) -> str:
    """Return a time as an RFC 3339 text, from such a text or a `datetime` with a time zone.

    Raises:
        ValueError: it is not one; the message begins with the name.
    """
    try:
        found = datetime.datetime.fromisoformat(value) if isinstance(value, str) else value
        if isinstance(found, datetime.datetime) and found.tzinfo is not None:
            return value if isinstance(value, str) else rfc3339(found.timestamp())
    except ValueError:
        pass
    raise ValueError(f"{name} is a time with its zone, as in 2026-01-31T12:00:00Z, got {value!r}")


def rfc3339(seconds: float) -> str:
    """Convert seconds since 1970 to an RFC 3339 time in UTC, with milliseconds."""
    found = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return found.isoformat(timespec="milliseconds").replace("+00:00", "Z")
