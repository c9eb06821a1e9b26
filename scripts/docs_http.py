"""Markdown of the HTTP reference, from the OpenAPI document that the pipeline serves."""

from __future__ import annotations

from typing import Any

from scripts.docs_tables import schema_type, table
from stream.serve.openapi import document

__all__ = ["paths", "schemas"]

_METHODS = ("get", "post", "put", "patch", "delete")
# Described on the configuration page; the interface has these as they are there.
_FIELDS_OF = ("Camera",)


def paths() -> str:
    """Return every path and method: its body, who may call it, and its answers."""
    parts = [
        _operation(method.upper(), path, item[method])
        for path, item in document()["paths"].items()
        for method in _METHODS
        if method in item
    ]
    return "\n\n".join(parts)


def schemas() -> str:
    """Return the fields of the answers that are no settings."""
    parts = []
    for name in _FIELDS_OF:
        schema = document()["components"]["schemas"][name]
        rows = [(f"`{field}`", _type(facts), str(facts.get("description", ""))) for field, facts in schema["properties"].items()]
        parts.append(f"### `{name}`\n\n" + table(("field", "type", "meaning"), rows))
    return "\n\n".join(parts)


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    notes = [f"{operation['summary'].rstrip('.')}."]
    body = operation.get("requestBody")
    if body is not None:
        notes.append(f"Body: {_content(body['content'])}.")
    if operation.get("security"):
        notes.append("Asks for the token where one is set.")
    rows = [
        (status, answer["description"], _content(answer.get("content", {})))
        for status, answer in sorted(operation["responses"].items())
    ]
    answers = table(("status", "meaning", "content"), rows)
    return f"### `{method} {path}`\n\n{' '.join(notes)}\n\n{answers}"


def _content(content: dict[str, Any]) -> str:
    found = []
    for media_type, facts in content.items():
        reference = facts.get("schema", {}).get("$ref", "")
        name = reference.rpartition("/")[2]
        found.append(f"`{name}` as JSON" if name else f"`{media_type}`")
    return ", ".join(found)


def _type(facts: dict[str, Any]) -> str:
    def references(part: dict[str, Any]) -> list[str]:
        inner = [name for option in part.get("anyOf", ()) for name in references(option)]
        return inner + ([part["$ref"].rpartition("/")[2]] if "$ref" in part else []) + references_of_items(part)

    def references_of_items(part: dict[str, Any]) -> list[str]:
        return references(part["items"]) if isinstance(part.get("items"), dict) else []

    names = references(facts)
    return " or ".join(f"`{name}`" for name in names) + (" or null" if "anyOf" in facts else "") if names else schema_type(facts)
