"""The one way from a YAML file to a checked settings object.

Files are complete: no inheritance, no includes, no environment variables. Unknown keys, duplicate
keys and values out of range fail here, before a device is touched, with the dotted path.
"""

from __future__ import annotations

import contextlib
import difflib
import itertools
import json
import logging
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar, get_args

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator, model_validator

from configs.errors import ConfigError

__all__ = ["OutputPath", "StrictModel", "check_tree", "example_path", "exists", "is_file", "load_config", "merged", "parse_config"]

_log = logging.getLogger(__name__)


class StrictModel(BaseModel):
    """Base of every settings class: immutable, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)

    # Old names of settings that are still accepted, each with the name it has now.
    renamed: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _accept_old_names(cls, data: Any) -> Any:
        """Move settings given by an old name to their new one, with a warning."""
        if not isinstance(data, Mapping):
            return data
        current = dict(data)
        for old, new in cls.renamed.items():
            if old not in current:
                continue
            if new in current:
                raise ValueError(f"{old} is the old name of {new}; give only {new}")
            current[new] = current.pop(old)
            _log.warning("setting %s is now called %s; the old name works until 0.3.0", old, new)
        return current

    @field_validator("*", mode="before")
    @classmethod
    def _check_kind(cls, value: Any, info: ValidationInfo) -> Any:
        """Yes and no are no numbers; and where that is asked for, as of JSON, neither are texts."""
        assert info.field_name is not None
        annotation = cls.model_fields[info.field_name].annotation
        kinds = {annotation, *get_args(annotation)}
        is_strict = info.context is not None and info.context["strict"]
        if kinds & {int, float} and isinstance(value, (bool, str) if is_strict else bool) and type(value) not in kinds:
            raise ValueError(f"must be a number, got {json.dumps(value)}")
        if is_strict and bool in kinds and isinstance(value, (int, float, str)) and not isinstance(value, bool):
            raise ValueError(f"must be true or false, got {json.dumps(value)}")
        return value


Model = TypeVar("Model", bound=BaseModel)


def _check_output(path: Path) -> Path:
    if not path.name or "\0" in str(path) or len(path.name.encode(errors="surrogateescape")) > _LONGEST_NAME:
        raise ValueError(f"must name a file or folder, in at most {_LONGEST_NAME} bytes and without zero bytes")
    return path


# Where something is written. The name leaves room for endings.
OutputPath = Annotated[Path, AfterValidator(_check_output)]
_LONGEST_NAME = 200
_MOST_VALUES, _MOST_LEVELS = 200_000, 50


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML 1.1 safe loader that refuses a key given twice in one mapping."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, (list, dict, set)):
                raise ConfigError(f"{_mark(key_node)}: a key must be a plain word, not a list or mapping")
            if key in seen:
                raise ConfigError(f"{_mark(key_node)}: the key {key!r} is given twice; keep one of them")
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def load_config(path: str | Path, schema: type[Model], overrides: Iterable[str] = ()) -> Model:
    """Read one YAML file into `schema`.

    Args:
        path: the YAML file.
        schema: the settings class that owns the file.
        overrides: `section.key=value` strings, applied in order; values are parsed as YAML.

    Raises:
        ConfigError: the file is missing, is not YAML, or holds a bad key or value.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"configuration file not found: {path}; give --config an existing YAML file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"configuration file {path} cannot be read: {error}") from None
    return parse_config(text, schema, overrides, name=str(path))


def parse_config(text: str, schema: type[Model], overrides: Iterable[str] = (), *, name: str = "<text>") -> Model:
    """Like `load_config`, from the YAML text itself; `name` is used in messages."""
    tree = _parse_yaml(text, name)
    for override in overrides:
        _apply_override(tree, override)
    return check_tree(tree, schema, name=name)


def check_tree(tree: object, schema: type[Model], *, name: str, strict: bool = False) -> Model:
    """Settings from plain values, such as those of a JSON document. With `strict` they must be of JSON's own types: "8" is no number.

    Raises:
        ConfigError: a bad key or value; the message begins with `name`.
    """
    try:
        return schema.model_validate(tree, context={"strict": strict})
    except RecursionError:
        raise ConfigError(f"{name}: nested too deeply") from None
    except ValidationError as error:
        raise ConfigError(f"{name}: " + "; ".join(_describe(item, schema) for item in error.errors())) from None


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with some of them changed, at any depth; a section that is changed to None is left out."""
    result = dict(base)
    for key, value in changes.items():
        inner = result.get(key)
        if value is None and isinstance(inner, Mapping):
            del result[key]
            continue
        result[key] = merged(inner, value) if isinstance(value, Mapping) and isinstance(inner, Mapping) else value
    return result


def is_file(path: str | Path) -> bool:
    """Whether there is a file of this name; False, too, for what cannot be a name: too long, or with a zero byte."""
    with contextlib.suppress(OSError, ValueError):
        return Path(path).is_file()
    return False


def exists(path: str | Path) -> bool:
    """Whether there is something of this name: a file, a folder, a pipe, a device."""
    with contextlib.suppress(OSError, ValueError):
        return Path(path).exists()
    return False


def example_path(file_name: str) -> Path:
    """The path of a YAML file that ships in this package.

    Raises:
        ConfigError: no such file ships; the message lists those that do.
    """
    folder = Path(str(resources.files("configs")))
    path = folder / file_name
    if not path.is_file():
        known = ", ".join(sorted(file.name for file in folder.glob("*.yaml")))
        raise ConfigError(f"no configuration named {file_name!r} ships with the project; there are: {known}")
    return path


def _parse_yaml(text: str, name: str) -> dict[str, Any]:
    try:
        tree = yaml.load(text, Loader=_UniqueKeyLoader)  # a SafeLoader: builds plain values only
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # Only what is wrong and where: the line itself may hold a password.
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "malformed value, or nested too deeply"
        where = f" in line {mark.line + 1}" if mark is not None else ""
        raise ConfigError(f"{name} is not valid YAML: {problem}{where}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{name} must be a mapping of settings, not {type(tree).__name__}")
    _check_extent(tree, name)
    return tree


def _check_extent(tree: Any, name: str) -> None:
    """Refuse what aliases make endless, or larger than any settings are: every later step would go through all of it."""
    values, counted, level = [tree], 0, 0
    while values:
        counted, level = counted + len(values), level + 1
        if counted > _MOST_VALUES or level > _MOST_LEVELS:
            raise ConfigError(f"{name} is nested too deeply or repeats itself too often; write out what aliases (*name) stand for")
        lists = [value.values() if isinstance(value, dict) else value for value in values if isinstance(value, (dict, list, tuple))]
        values = list(itertools.islice(itertools.chain.from_iterable(lists), _MOST_VALUES + 1))


def _apply_override(tree: dict[str, Any], override: str) -> None:
    path, equals, value = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(f"--set takes section.key=value, got {path.split(':')[0].strip()!r} without a value")
    override = path.strip()  # messages name the setting, not the value: it may be a password
    node: Any = tree
    for depth, key in enumerate(keys[:-1]):
        child = _child(node, key, override)
        if child is None:
            child = {}
            _assign(node, key, child, override)
        if not isinstance(child, (dict, list)):
            raise ConfigError(f"--set {override}: {'.'.join(keys[: depth + 1])} is a value, not a section")
        node = child
    try:
        parsed = yaml.load(value, Loader=_UniqueKeyLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise ConfigError(f"--set {override}: what follows = is not a YAML value; quote it") from None
    _check_extent([parsed], f"--set {override}")
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
        raise ConfigError(f"--set {override}: {key!r} is neither an id nor a position in a list of {len(node)} entries")
    return int(key)


def _describe(item: Mapping[str, Any], schema: type[BaseModel]) -> str:
    # A key that is no name may be an address with a password in it.
    path = ".".join("(an address)" if "@" in str(part) else str(part) for part in item["loc"]) or "configuration"
    if item["type"] == "extra_forbidden":
        names = _field_names(schema, item["loc"][:-1])
        close = difflib.get_close_matches(str(item["loc"][-1]), names, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"allowed here: {', '.join(sorted(names))}" if names else "remove it"
        return f"{path}: unknown setting; {hint}"
    if item["type"] == "missing":
        return f"{path}: this setting is required"
    if item["type"] in ("tuple_type", "list_type", "set_type"):
        return f"{path}: must be a list, written [one, two]"
    if item["type"] in ("model_type", "dict_type", "model_attributes_type"):
        return f"{path}: must be a section of settings, not a single value"
    message = str(item["msg"]).removeprefix("Value error, ")
    return f"{path}: {message}"


def _field_names(schema: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    """Field names of the settings class at a dotted location; empty if it is not a class."""
    current: Any = schema
    for part in location:
        if isinstance(part, int):
            continue
        field = getattr(current, "model_fields", {}).get(part)
        current = _settings_class(field.annotation) if field else None
    return list(getattr(current, "model_fields", {}))


def _settings_class(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _settings_class(argument)
        if found is not None:
            return found
    return None


def _mark(node: yaml.Node) -> str:
    return f"line {node.start_mark.line + 1}"
