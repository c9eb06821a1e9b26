"""The base of every settings class, and the way from plain values to checked settings."""

from __future__ import annotations

import difflib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from configs.errors import ConfigError

__all__ = [
    "OLD_NAMES_UNTIL",
    "Model",
    "OutputPath",
    "StrictModel",
    "check_tree",
    "merged",
    "with_current_names",
]

OLD_NAMES_UNTIL = "0.3.0"

_log = logging.getLogger(__name__)
# Each old name is reported once a process, however many cameras use it.
_warned: set[str] = set()


class StrictModel(BaseModel):
    """Base of every settings class: immutable, and an unknown key is an error.

    A class lists settings that have a new name in `renamed` (old name -> new name). The old name
    is accepted with a warning until `OLD_NAMES_UNTIL`; old and new name together are an error.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False
    )
    renamed: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _take_old_names(cls, tree: Any) -> Any:
        if not isinstance(tree, Mapping) or not cls.renamed.keys() & tree.keys():
            return tree
        return _with_new_keys(tree, cls.renamed)

    @field_validator("*", mode="before")
    @classmethod
    def _check_kind(cls, value: Any, info: ValidationInfo) -> Any:
        """Yes and no are no numbers; and where that is asked for, as of JSON, neither are texts."""
        assert info.field_name is not None
        annotation = cls.model_fields[info.field_name].annotation
        kinds = {annotation, *get_args(annotation)}
        is_strict = info.context is not None and info.context["strict"]
        if (
            kinds & {int, float}
            and isinstance(value, (bool, str) if is_strict else bool)
            and type(value) not in kinds
        ):
            raise ValueError(f"must be a number, got {json.dumps(value)}")
        if (
            is_strict
            and bool in kinds
            and isinstance(value, (int, float, str))
            and not isinstance(value, bool)
        ):
            raise ValueError(f"must be true or false, got {json.dumps(value)}")
        return value


Model = TypeVar("Model", bound=BaseModel)


def _check_output(path: Path) -> Path:
    if (
        not path.name
        or "\0" in str(path)
        or len(path.name.encode(errors="surrogateescape")) > _LONGEST_NAME
    ):
        raise ValueError(
            f"must name a file or folder, in at most {_LONGEST_NAME} bytes and without zero bytes"
        )
    return path


# Where something is written. The name leaves room for endings.
OutputPath = Annotated[Path, AfterValidator(_check_output)]
_LONGEST_NAME = 200


def check_tree(tree: object, schema: type[Model], *, name: str, strict: bool = False) -> Model:
    """Settings from plain values, such as those of a JSON document. With `strict` they must be of
    JSON's own types: "8" is no number.

    Raises:
        ConfigError: a bad key or value; the message begins with `name`.
    """
    try:
        return schema.model_validate(tree, context={"strict": strict})
    except RecursionError:
        raise ConfigError(f"{name}: nested too deeply") from None
    except ValidationError as error:
        raise ConfigError(
            f"{name}: " + "; ".join(_describe(item, schema) for item in error.errors())
        ) from None


def with_current_names(tree: Any, schema: type[BaseModel]) -> Any:
    """Return plain settings with every renamed key under its new name, at any depth.

    Use it before two sets of settings are merged: otherwise one of them might hold the old name
    and the other the new one.

    Raises:
        ConfigError: a setting is given under both names.
    """
    if isinstance(tree, (list, tuple)):
        return [with_current_names(entry, schema) for entry in tree]
    if not isinstance(tree, Mapping):
        return tree
    renamed = schema.renamed if issubclass(schema, StrictModel) else {}
    try:
        current = _with_new_keys(tree, renamed) if renamed.keys() & tree.keys() else dict(tree)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    for key, field in schema.model_fields.items():
        inner = _settings_class(field.annotation)
        if inner is not None and key in current:
            current[key] = with_current_names(current[key], inner)
    return current


def _with_new_keys(tree: Mapping[str, Any], renamed: Mapping[str, str]) -> dict[str, Any]:
    current = dict(tree)
    for old in renamed.keys() & tree.keys():
        new = renamed[old]
        if new in tree:
            raise ValueError(f"{old} is the old name of {new}; give only {new}")
        current[new] = current.pop(old)
        if old not in _warned:
            _warned.add(old)
            _log.warning(
                "setting %s is now called %s; the old name works until version %s",
                old,
                new,
                OLD_NAMES_UNTIL,
            )
    return current


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with some of them changed, at any depth; a section that is changed to None is
    left out.
    """
    result = dict(base)
    for key, value in changes.items():
        inner = result.get(key)
        if value is None and isinstance(inner, Mapping):
            del result[key]
            continue
        result[key] = (
            merged(inner, value)
            if isinstance(value, Mapping) and isinstance(inner, Mapping)
            else value
        )
    return result


def _describe(item: Mapping[str, Any], schema: type[BaseModel]) -> str:
    # A key that is no name may be an address with a password in it.
    path = (
        ".".join("(an address)" if "@" in str(part) else str(part) for part in item["loc"])
        or "configuration"
    )
    if item["type"] == "extra_forbidden":
        names = _field_names(schema, item["loc"][:-1])
        close = difflib.get_close_matches(str(item["loc"][-1]), names, n=1)
        hint = (
            f"did you mean {close[0]!r}?"
            if close
            else f"allowed here: {', '.join(sorted(names))}"
            if names
            else "remove it"
        )
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
