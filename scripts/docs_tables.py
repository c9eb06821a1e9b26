"""Write the Markdown tables of the reference pages, such as the metrics and the event's fields."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

from stream.metrics import Metrics

__all__ = ["cell", "code", "event_fields", "metrics", "schema_type", "table"]

ROOT = Path(__file__).resolve().parent.parent
_SCHEMA = ROOT / "docs" / "action-event.schema.json"
_SIMPLE_TYPES = {
    "string": "text",
    "number": "number",
    "integer": "integer",
    "boolean": "true or false",
    "null": "null",
    "object": "mapping",
}


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; cells must not contain line breaks."""
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    lines += ["| " + " | ".join(cell(value) for value in row) + " |" for row in rows]
    return "\n".join(lines)


def cell(text: str) -> str:
    """Escape `text` for a table cell: put it on one line and escape vertical bars."""
    return " ".join(text.split()).replace("|", "\\|")


def code(value: object) -> str:
    """Return `value` as Markdown code; values other than text are written as JSON."""
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def metrics() -> str:
    """Return the table of all metrics of the pipeline, in the order in which they are defined."""
    rows = []
    defined = Metrics()
    parts = (defined, defined.sinks, defined.worker, defined.verify)
    for metric in (each for part in parts for each in vars(part).values()):
        if isinstance(metric, (Counter, Gauge, Histogram)):
            suffix = "_total" if isinstance(metric, Counter) else ""
            labels = ", ".join(metric._labelnames)
            kind = type(metric).__name__.lower()
            rows.append((f"`{metric._name}{suffix}`", kind, labels, metric._documentation))
    return table(("metric", "type", "labels", "meaning"), rows)


def event_fields() -> str:
    """Return the table of an event's fields, from its JSON Schema."""
    schema = json.loads(_SCHEMA.read_text(encoding="utf-8"))
    rows = []
    for name, field in schema["properties"].items():
        needed = "always" if name in schema["required"] else "optional"
        rows.append((f"`{name}`", schema_type(field), needed, field.get("description", "")))
    return table(("field", "type", "there", "meaning"), rows)


def schema_type(field: dict[str, Any]) -> str:
    """Return the type of a JSON Schema in words."""
    if "const" in field:
        return code(field["const"])
    if "enum" in field:
        return ", ".join(code(value) for value in field["enum"])
    if field.get("format") == "date-time":
        return "time" if field["type"] == "string" else "time or null"
    if "anyOf" in field:
        return " or ".join(schema_type(option) for option in field["anyOf"])
    if field.get("type") == "array":
        return _array(field)
    kinds = field.get("type", "any")
    return " or ".join(
        _SIMPLE_TYPES.get(kind, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds)
    )


def _array(field: dict[str, Any]) -> str:
    if "prefixItems" in field:
        return f"list of {len(field['prefixItems'])}"
    items = field.get("items", {})
    return "list" if not items or "$ref" in items else f"list of {schema_type(items)}"
