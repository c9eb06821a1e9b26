"""Settings given on the command line as `--set section.key=value`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import yaml
from pydantic import BaseModel

from configs.errors import ConfigError
from configs.secret_settings import secrets_in
from configs.settings import with_current_path
from configs.yaml_loader import UniqueKeyLoader, check_extent

__all__ = ["apply_override"]

_log = logging.getLogger(__name__)


def apply_override(tree: dict[str, Any], override: str, schema: type[BaseModel]) -> None:
    """Set one `section.key=value` in a tree of plain settings; the value is parsed as YAML.

    Args:
        tree: plain settings with current names; changed in place.
        override: the text `section.key=value`; the path may use old names of settings.
        schema: settings class of the tree.

    Raises:
        ConfigError: the value is missing, or an inner element of the path is not a section.
    """
    path, equals, value = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(
            f"--set takes section.key=value, got {path.split(':')[0].strip()!r} without a value"
        )
    keys = with_current_path(keys, schema)
    override = path.strip()  # for messages, without the value, which may be a password
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
    _warn_of_secrets(keys, parsed, schema)
    _assign(node, keys[-1], parsed, override)


def _warn_of_secrets(keys: Sequence[str], value: Any, schema: type[BaseModel]) -> None:
    """Log a warning for each secret that a `--set` shows to every user of this machine."""
    for path, file_setting in secrets_in(keys, value, schema):
        remedy = "put it into the configuration file"
        if file_setting is not None:
            remedy = f"use {file_setting}, or {remedy}"
        _log.warning(
            "--set %s: other users see the secret in the list of processes; %s", path, remedy
        )


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
