"""Write the configuration reference as Markdown, from the settings classes."""

from __future__ import annotations

import collections
from collections.abc import Iterator
from typing import Any, get_args

from configs import StrictModel
from scripts.docs_tables import code, schema_type, table
from stream.config import StreamConfig
from train.ablations import AblationConfig
from train.config import TrainConfig
from train.results import ResultsPlan
from train.results import config as plan

__all__ = ["ablations", "renamed", "results", "stream", "train"]

_HEADS = ("key", "type", "default", "meaning")
_LIMITS = {
    "minimum": "from {}",
    "exclusiveMinimum": "above {}",
    "maximum": "to {}",
    "exclusiveMaximum": "below {}",
    "maxLength": "at most {} characters",
    "minItems": "at least {}",
    "maxItems": "at most {}",
}


def stream() -> str:
    """Return all settings of the live pipeline."""
    return _document(StreamConfig, "stream")


def train() -> str:
    """Return all settings of a training run."""
    return _document(TrainConfig, "train")


def ablations() -> str:
    """Return the settings of a set of ablations; each run has the sections of a training run."""
    schema = AblationConfig.model_json_schema()
    return _section(schema, {})


def results() -> str:
    """Return the settings of a plan of results: the top level, networks, and each kind of set."""
    parts = {
        "Top level": ResultsPlan,
        "`networks[]`": plan.NetworkConfig,
        "`networks[].weights_of`": plan.WeightsOf,
        "`networks[].paper`": plan.PaperLink,
        "`sets[]` with `kind: folder`": plan.FolderSet,
        "`sets[]` with `kind: arrow`": plan.ArrowSet,
        "`sets[]` with `kind: scenes`": plan.ScenesSet,
        "`sets[]` with `kind: manifests`": plan.ManifestSet,
        "`sets[]` with `kind: events`": plan.EventSet,
        "`sets[].weights[]` with `kind: events`": plan.EventWeights,
    }
    schemas = {title: settings.model_json_schema() for title, settings in parts.items()}
    return "\n\n".join(
        f"### {title}\n\n{_first_line(schema)}\n\n{_section(schema, {})}"
        for title, schema in schemas.items()
    )


def renamed() -> str:
    """Return the table of renamed settings, with the section of each setting."""
    rows = [
        (section or "top level", code(old), code(new))
        for root in (StreamConfig, AblationConfig)
        for settings, section in _sections(root).items()
        for old, new in settings.renamed.items()
    ]
    heads = ("section", "old name", "new name")
    return table(heads, rows) if rows else "No setting has been renamed yet."


def _sections(root: type[StrictModel]) -> dict[type[StrictModel], str]:
    """Map every settings class of a configuration to the shortest section path that uses it."""
    found: dict[type[StrictModel], str] = {root: ""}
    waiting = collections.deque([root])
    while waiting:
        settings = waiting.popleft()
        for name, field in settings.model_fields.items():
            for inner in _classes(field.annotation):
                if inner not in found:
                    found[inner] = ".".join(filter(None, (found[settings], name)))
                    waiting.append(inner)
    return found


def _classes(annotation: Any) -> Iterator[type[StrictModel]]:
    """Yield the settings classes in a type, such as `tuple[CameraConfig, ...] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, StrictModel):
        yield annotation
    for part in get_args(annotation):
        yield from _classes(part)


def _document(settings: type[StrictModel], prefix: str) -> str:
    """Return one section for each settings class; the top level comes first."""
    root = settings.model_json_schema()
    classes = root.get("$defs", {})
    paths: dict[str, str] = {}
    waiting = collections.deque([("", root)])
    found: list[tuple[str, dict[str, Any]]] = []
    while waiting:
        path, schema = waiting.popleft()
        found.append((path, schema))
        for name, field in schema["properties"].items():
            for reference, suffix in _references(field):
                if reference not in paths:
                    paths[reference] = ".".join(filter(None, (path, name))) + suffix
                    waiting.append((paths[reference], classes[reference]))
    anchors = {reference: (path, _anchor(prefix, path)) for reference, path in paths.items()}
    return "\n\n".join(_titled(prefix, path, schema, anchors) for path, schema in found)


def _titled(
    prefix: str, path: str, schema: dict[str, Any], anchors: dict[str, tuple[str, str]]
) -> str:
    title = f"### `{path}`" if path else "### Top level"
    anchor = f'<a id="{_anchor(prefix, path)}"></a>\n\n' if path else ""
    return f"{anchor}{title}\n\n{_first_line(schema)}\n\n{_section(schema, anchors)}"


def _section(schema: dict[str, Any], anchors: dict[str, tuple[str, str]]) -> str:
    required = schema.get("required", [])
    rows = []
    for name, field in schema["properties"].items():
        default = "required" if name in required else _default(field)
        rows.append((f"`{name}`", _type(field, anchors), default, _meaning(field)))
    return table(_HEADS, rows)


def _first_line(schema: dict[str, Any]) -> str:
    return str(schema.get("description", "")).partition("\n")[0]


def _anchor(prefix: str, path: str) -> str:
    plain = "".join(letter if letter.isalnum() or letter in "._" else "" for letter in path)
    return f"{prefix}-{plain.replace('.', '-')}"


def _references(field: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the settings classes in a field, with `[]` for a list and `.*` for a mapping."""
    if "$ref" in field:
        return [(field["$ref"].rpartition("/")[2], "")]
    found = [item for option in field.get("anyOf", ()) for item in _references(option)]
    for key, suffix in (("items", "[]"), ("additionalProperties", ".*")):
        inner = field.get(key)
        if isinstance(inner, dict):
            found += [(name, suffix) for name, _ in _references(inner)]
    return found


def _type(field: dict[str, Any], anchors: dict[str, tuple[str, str]]) -> str:
    references = _references(field)
    if references and not anchors:
        return "section"
    if references:
        name, suffix = references[0]
        path, anchor = anchors[name]
        kind = {"": "section", "[]": "list of", ".*": "mapping to"}[suffix]
        null = " or null" if {"type": "null"} in field.get("anyOf", ()) else ""
        return f"{kind} [`{path}`](#{anchor}){null}"
    return schema_type(field)


def _default(field: dict[str, Any]) -> str:
    if "default" not in field:
        return "required"
    value = field["default"]
    if isinstance(value, dict) and value:
        return "its defaults"
    return code(value) if value != "" else '`""`'


def _meaning(field: dict[str, Any]) -> str:
    limits = [
        text for text in (_limits(option) for option in (field, *field.get("anyOf", ()))) if text
    ]
    return str(field.get("description", "")) + "".join(f" ({text})" for text in limits[:1])


def _limits(field: dict[str, Any]) -> str:
    if "prefixItems" in field:
        return ""  # the type already shows the number of items
    return ", ".join(words.format(field[key]) for key, words in _LIMITS.items() if key in field)
