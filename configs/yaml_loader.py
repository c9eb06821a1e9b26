"""A strict YAML loader that refuses duplicate keys and very deep or large settings."""

from __future__ import annotations

import itertools
from typing import Any

import yaml

from configs.errors import ConfigError
from configs.text_files import quoted

__all__ = ["UniqueKeyLoader", "check_extent"]
_MAX_VALUES = 200_000
_MAX_LEVELS = 50
_MAX_BITS = 64


class UniqueKeyLoader(yaml.SafeLoader):
    """A safe YAML 1.1 loader that refuses a key that is given twice in one mapping."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, (list, dict, set)):
                raise ConfigError(
                    f"{_mark(key_node)}: a key must be a plain word, not a list or mapping"
                )
            if key in seen:
                raise ConfigError(
                    f"{_mark(key_node)}: the key {quoted(key)} is given twice; keep one of them"
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def check_extent(tree: Any, name: str) -> None:
    """Refuse settings that YAML aliases make endless or very large, and huge numbers.

    Later steps visit every value and would take too long; Python does not print huge numbers.

    Raises:
        ConfigError: the tree has too many levels or values, or a number has more than 64 bits.
    """
    values = [tree]
    counted = 0
    level = 0
    while values:
        counted = counted + len(values)
        level = level + 1
        if counted > _MAX_VALUES or level > _MAX_LEVELS:
            raise ConfigError(
                f"{name} is nested too deeply or repeats itself too often; write out what aliases"
                " (*name) stand for"
            )
        if any(isinstance(value, int) and value.bit_length() > _MAX_BITS for value in values):
            raise ConfigError(f"{name} has a whole number of more than {_MAX_BITS} bits")
        lists = [
            value.values() if isinstance(value, dict) else value
            for value in values
            if isinstance(value, (dict, list, tuple))
        ]
        values = list(itertools.islice(itertools.chain.from_iterable(lists), _MAX_VALUES + 1))


def _mark(node: yaml.Node) -> str:
    return f"line {node.start_mark.line + 1}"
