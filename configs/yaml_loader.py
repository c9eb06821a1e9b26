"""YAML to plain values, without the surprises of YAML."""

from __future__ import annotations

import itertools
from typing import Any

import yaml

from configs.errors import ConfigError

__all__ = ["UniqueKeyLoader", "check_extent"]
_MOST_VALUES = 200_000
_MOST_LEVELS = 50


class UniqueKeyLoader(yaml.SafeLoader):
    """YAML 1.1 safe loader that refuses a key given twice in one mapping."""

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
                    f"{_mark(key_node)}: the key {key!r} is given twice; keep one of them"
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def check_extent(tree: Any, name: str) -> None:
    """Refuse what aliases make endless, or larger than any settings are: every later step would
    go through all of it.
    """
    values = [tree]
    counted = 0
    level = 0
    while values:
        counted = counted + len(values)
        level = level + 1
        if counted > _MOST_VALUES or level > _MOST_LEVELS:
            raise ConfigError(
                f"{name} is nested too deeply or repeats itself too often; write out what aliases"
                " (*name) stand for"
            )
        lists = [
            value.values() if isinstance(value, dict) else value
            for value in values
            if isinstance(value, (dict, list, tuple))
        ]
        values = list(itertools.islice(itertools.chain.from_iterable(lists), _MOST_VALUES + 1))


def _mark(node: yaml.Node) -> str:
    return f"line {node.start_mark.line + 1}"
