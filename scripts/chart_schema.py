"""The schema of the Helm chart's value `config`, made from the settings of the pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["OWNED", "with_config_schema"]

# Settings that the chart sets itself, by settings class: folders and port of the container, files
# of secrets, the name of a worker; and secrets, which do not belong into a ConfigMap. A value for
# them is refused.
OWNED: Mapping[str, frozenset[str]] = {
    "CamerasFrom": frozenset({"worker", "secrets_dir"}),
    "HttpConfig": frozenset({"enabled", "port", "probe_port", "token", "token_file", "changes"}),
    "InferConfig": frozenset({"engine_cache"}),
    "KafkaConfig": frozenset(
        {"sasl_password", "sasl_password_file", "ssl_cafile", "ssl_certfile", "ssl_keyfile"}
    ),
    "MqttConfig": frozenset({"password"}),
    "OutboxConfig": frozenset({"path"}),
    "SnapshotConfig": frozenset({"path"}),
    "WebhookConfig": frozenset({"secret"}),
}
# Words of JSON Schema that say nothing about which values are allowed. Formats such as `path` are
# pydantic's own.
_LEFT_OUT = frozenset({"title", "default", "format", "writeOnly"})


def with_config_schema(
    chart_schema: Mapping[str, Any], settings_schema: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the chart's schema with the current schema of `config`.

    Args:
        chart_schema: values.schema.json; its property `config` and its `$defs` are replaced.
        settings_schema: the JSON schema of the pipeline's settings.

    Raises:
        KeyError: a class or setting of `OWNED` does not exist any more.
    """
    classes: dict[str, Any] = {
        name: _plain(schema) for name, schema in settings_schema["$defs"].items()
    }
    for name, owned in OWNED.items():
        for setting in owned:
            del classes[name]["properties"][setting]
    top = _plain({key: value for key, value in settings_schema.items() if key != "$defs"})
    top.pop("required", None)  # a fleet has no `cameras`
    properties = dict(chart_schema["properties"]) | {"config": top}
    return {**chart_schema, "properties": properties, "$defs": classes}


def _plain(schema: Any) -> Any:
    """Return a schema without defaults, old names of settings and the rules between both names."""
    if isinstance(schema, list):
        return [_plain(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    plain = {
        key: _plain(value)
        for key, value in schema.items()
        if key not in _LEFT_OUT and not _is_rule_of_old_names(key, value)
    }
    if isinstance(schema.get("properties"), Mapping):
        plain["properties"] = {
            name: _plain(inner)
            for name, inner in schema["properties"].items()
            if not inner.get("deprecated")
        }
    return plain


def _is_rule_of_old_names(key: str, value: Any) -> bool:
    return key == "allOf" and all(set(rule) == {"not"} for rule in value)
