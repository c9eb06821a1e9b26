"""Write the HTTP reference as Markdown, from the OpenAPI document that the pipeline serves."""

from __future__ import annotations

from typing import Any

from scripts.docs_tables import schema_type, table
from stream.events.config import KafkaConfig
from stream.fleet.topic_cameras import TopicCameras
from stream.serve.access import Access
from stream.serve.app import create_app
from stream.serve.dependencies import Services
from stream.serve.health import health_router
from stream.serve.hosts import HostRule

__all__ = ["document", "paths", "schemas"]

_METHODS = ("get", "post", "put", "patch", "delete")
# The configuration page describes these schemas; the HTTP interface uses them unchanged.
_FIELDS_OF = ("Camera", "CameraWritten")


def paths() -> str:
    """Return every path and method with its request body, its access rule and its responses."""
    parts = [
        _operation(method.upper(), path, item[method])
        for path, item in document()["paths"].items()
        for method in _METHODS
        if method in item
    ]
    return "\n\n".join(parts)


def schemas() -> str:
    """Return the fields of the response schemas that are not settings."""
    parts = []
    for name in _FIELDS_OF:
        schema = document()["components"]["schemas"][name]
        rows = [
            (f"`{field}`", _type(facts), str(facts.get("description", "")))
            for field, facts in schema["properties"].items()
        ]
        parts.append(f"### `{name}`\n\n" + table(("field", "type", "meaning"), rows))
    return "\n\n".join(parts)


def document() -> dict[str, Any]:
    """Return the OpenAPI document of a worker, which has all routes, without starting a server."""
    hosts = HostRule()
    checks = {name: lambda: None for name in ("startup", "ready", "live")}
    health = health_router(bytes, checks, dict, hosts=hosts)
    topic = TopicCameras(KafkaConfig())
    services = Services(lambda: None, Access(None, listens_locally=True), 0, (), topic)
    return create_app(services, health, hosts).openapi()


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    notes = [f"{operation['summary'].rstrip('.')}."]
    body = operation.get("requestBody")
    if body is not None:
        notes.append(f"Body: {_content(body['content'])}.")
    if operation.get("security"):
        notes.append("Needs the token if one is set.")
    rows = [
        (status, answer["description"], _content(answer.get("content", {})))
        for status, answer in sorted(operation["responses"].items())
    ]
    answers = table(("status", "meaning", "content"), rows)
    return f"### `{method} {path}`\n\n{' '.join(notes)}\n\n{answers}"


def _content(content: dict[str, Any]) -> str:
    return ", ".join(
        _body(media_type, facts.get("schema", {})) for media_type, facts in content.items()
    )


def _body(media_type: str, schema: dict[str, Any]) -> str:
    names = _named(schema)
    return f"{names} as JSON" if names else f"`{media_type}`"


def _type(facts: dict[str, Any]) -> str:
    return _named(facts) or schema_type(facts)


def _named(facts: dict[str, Any]) -> str:
    """Return the names of the schemas that `facts` refers to, as text; empty if there are none."""
    if "$ref" in facts:
        return f"`{facts['$ref'].rpartition('/')[2]}`"
    if "anyOf" in facts:
        names = " or ".join(filter(None, map(_named, facts["anyOf"])))
        return f"{names} or null" if names and {"type": "null"} in facts["anyOf"] else names
    name = _named(facts["items"]) if isinstance(facts.get("items"), dict) else ""
    return f"list of {name}" if name else ""
