"""Single settings given on a command line: `--set section.key=value`."""

from __future__ import annotations

from typing import Any

import yaml

from configs.errors import ConfigError
from configs.yaml_loader import UniqueKeyLoader, check_extent

__all__ = ["apply_override"]


def apply_override(tree: dict[str, Any], override: str) -> None:
    """Write one `section.key=value` into plain settings; the value is parsed as YAML.

    Raises:
        ConfigError: there is no value, or the path leads through something that is no section.
    """
    path, equals, value = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(
            f"--set takes section.key=value, got {path.split(':')[0].strip()!r} without a value"
        )
    override = path.strip()  # messages name the setting, not the value: it may be a password
    node: Any = tree
    for depth, key in enumerate(keys[:-1]):
        child = _child(node, key, override)
        if child is None:
            child = {}
            _assign(node, key, child, override)
        if not isinstance(child, (dict, list)):
            raise ConfigError(
                f"--set {override}: {'.'.join(keys[: depth + 1])} is a value, not a section"
            )
        node = child
    try:
        parsed = yaml.load(value, Loader=UniqueKeyLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise ConfigError(
            f"--set {override}: what follows = is not a YAML value; quote it"
        ) from None
    check_extent([parsed], f"--set {override}")
    _assign(node, keys[-1], parsed, override)


def _child(node: Any, key: str, override: str) -> Any:
    if isinstance(node, list):
        return node[_list_index(node, key, override)]
    return node.get(key)


def _assign(node: Any, key: str, value: Any, override: str) -> None:
    if isinstance(node, list):
        node[_list_index(node, key, override)] = value
    else:
        node[key] = value


def _list_index(node: list[Any], key: str, override: str) -> int:
    ids = [entry.get("id") if isinstance(entry, dict) else None for entry in node]
    if key in ids:
        return ids.index(key)
    if not (key.isascii() and key.isdigit() and int(key) < len(node)):
        raise ConfigError(
            f"--set {override}: {key!r} is neither an id nor a position in a list of {len(node)}"
            " entries"
        )
    return int(key)
