"""Changes one section of a YAML file and keeps the text of all other sections.

ruamel.yaml keeps comments, order, quotes and anchors. This module adds two features.
Unchanged numbers, booleans, times and `null` are written with their original text. Comments after a
section are kept: ruamel.yaml attaches them to the last value of the section, so they would be lost
when that value is replaced.
"""

from __future__ import annotations

import dataclasses
import io
import re
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.constructor import RoundTripConstructor
from ruamel.yaml.error import CommentMark
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import RoundTripRepresenter
from ruamel.yaml.tokens import CommentToken
from ruamel.yaml.util import load_yaml_guess_indent

__all__ = ["RoundTripFile"]

_KEPT_TAGS = [f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "timestamp")]
_NO_WRAPPING = 1 << 20
# A key alone on its line, then comments and empty lines, then an indented key.
_NESTED_MAPPING = re.compile(
    r"^\w[^#\n]*:[ ]*(?:#.*)?\n(?:[ ]*(?:#.*)?\n)*([ ]+)[^\s#-]", re.MULTILINE
)


@dataclasses.dataclass(frozen=True)
class _SourceText:
    """A number, boolean, time or null, with its original text in the file."""

    tag: str
    text: str


class _Constructor(RoundTripConstructor):
    """Reads values that are not strings as `_SourceText`, so that their text is kept."""


class _Representer(RoundTripRepresenter):
    """Writes unchanged values with their original text, and None as `null`."""


def _construct(_: RoundTripConstructor, node: ScalarNode) -> _SourceText:
    return _SourceText(str(node.tag), node.value)


def _represent(representer: RoundTripRepresenter, value: _SourceText) -> ScalarNode:
    return representer.represent_scalar(value.tag, value.text)


def _represent_null(representer: RoundTripRepresenter, _: None) -> ScalarNode:
    return representer.represent_scalar("tag:yaml.org,2002:null", "null")


for _tag in _KEPT_TAGS:
    _Constructor.add_constructor(_tag, _construct)
_Representer.add_representer(_SourceText, _represent)
_Representer.add_representer(type(None), _represent_null)


class RoundTripFile:
    """A YAML file that can be changed and written back; its top level is a mapping.

    Raises:
        YAMLError: the text is not valid YAML.
    """

    def __init__(self, text: str) -> None:
        self._yaml = YAML()
        self._yaml.Constructor = _Constructor
        self._yaml.Representer = _Representer
        self._yaml.preserve_quotes = True
        self._yaml.width = _NO_WRAPPING
        self._yaml.explicit_start = re.search(r"^---\s*$", text, re.MULTILINE) is not None
        _, sequence_indent, dash_offset = load_yaml_guess_indent(text)
        self._yaml.indent(
            mapping=_mapping_indent(text),
            sequence=sequence_indent if dash_offset is not None else None,
            offset=dash_offset,
        )
        self._tree: CommentedMap = self._yaml.load(text) or CommentedMap()

    def merge_section(self, name: str, values: Mapping[str, Any]) -> None:
        """Set these values in a section; keep the section's other keys.

        Mappings inside the section are different: their keys that are missing from the new values
        are removed.
        """
        following = _take_following_comment(self._tree, name) if name in self._tree else ""
        section = self._tree.get(name)
        if _can_change(section) and not section.fa.flow_style():
            _merge(section, values)
        else:
            old = section if isinstance(section, Mapping) else {}
            self._tree[name] = _new_mapping({**old, **values})
        _add_following_comment(self._tree, name, following)

    def text(self) -> str:
        """Return the text of the whole file."""
        stream = io.StringIO()
        self._yaml.dump(self._tree, stream)
        return stream.getvalue()


def _merge(old: CommentedMap, new: Mapping[str, Any]) -> None:
    """Set the new values in an existing mapping, so that its comments are kept."""
    for key, value in new.items():
        current = old.get(key)
        if isinstance(value, Mapping) and _can_merge(current, value):
            for gone in [inner for inner in current if inner not in value]:
                del current[gone]
            _merge(current, value)
        else:
            old[key] = _new_value(value)


def _can_change(node: Any) -> bool:
    """Tell whether a mapping can be edited safely: no anchor, so no other place refers to it."""
    return isinstance(node, CommentedMap) and node.yaml_anchor() is None


def _can_merge(old: Any, new: Mapping[str, Any]) -> bool:
    """Tell whether a mapping can be edited in place and keep its style (flow or block)."""
    if not old or not new or not _can_change(old):
        return False
    return not old.fa.flow_style() or not _has_mappings(new)


def _has_mappings(values: Mapping[str, Any]) -> bool:
    return any(isinstance(value, Mapping) for value in values.values())


def _new_mapping(values: Mapping[str, Any]) -> CommentedMap:
    return CommentedMap({key: _new_value(value) for key, value in values.items()})


def _new_value(value: Any) -> Any:
    """Convert a value for ruamel.yaml; lists and innermost mappings get flow style (`[]`, `{}`)."""
    if isinstance(value, Mapping):
        mapping = _new_mapping(value)
        if not _has_mappings(value):
            mapping.fa.set_flow_style()
        return mapping
    if isinstance(value, list):
        sequence = CommentedSeq(value)
        sequence.fa.set_flow_style()
        return sequence
    return value


def _last_line(parent: CommentedMap | CommentedSeq, key: Any) -> tuple[Any, Any]:
    """Find the value on the last line of `parent[key]`; return its container and its key there."""
    value = parent[key]
    is_block = isinstance(value, (CommentedMap, CommentedSeq)) and not value.fa.flow_style()
    if not is_block or not value:
        return parent, key
    last = list(value)[-1] if isinstance(value, CommentedMap) else len(value) - 1
    return _last_line(value, last)


def _comment_slot(container: CommentedMap | CommentedSeq, key: Any) -> tuple[list[Any], int]:
    """Return the list, and the index in it, where ruamel.yaml stores the comment after a value."""
    slots = container.ca.items.setdefault(key, [None, None, None, None])
    return slots, 2 if isinstance(container, CommentedMap) else 0


def _take_following_comment(tree: CommentedMap, name: str) -> str:
    """Remove and return the comment lines and empty lines after a section."""
    slots, index = _comment_slot(*_last_line(tree, name))
    token = slots[index]
    if token is None:
        return ""
    same_line, _, following = token.value.partition("\n")
    slots[index] = None
    if same_line:
        slots[index] = CommentToken(f"{same_line}\n", token.start_mark, None)
    return str(following)


def _add_following_comment(tree: CommentedMap, name: str, following: str) -> None:
    if not following:
        return
    slots, index = _comment_slot(*_last_line(tree, name))
    token = slots[index]
    mark = CommentMark(0) if token is None else token.start_mark
    same_line = "\n" if token is None else token.value
    slots[index] = CommentToken(same_line + following, mark, None)


def _mapping_indent(text: str) -> int:
    """Return the number of spaces that indent the first nested mapping; 2 if none is found."""
    found = _NESTED_MAPPING.search(text)
    return len(found[1]) if found else 2
