"""The base of every settings class, and functions that check plain values against a class."""

from __future__ import annotations

import contextlib
import difflib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar, get_args, get_origin

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
    "old_names_reported_once",
    "with_current_names",
    "with_current_path",
]

OLD_NAMES_UNTIL = "0.3.0"

_log = logging.getLogger(__name__)
# Old names found so far in the settings being checked. Each is reported once, even if several
# cameras use it.
_old_names: ContextVar[dict[str, str] | None] = ContextVar("old_names", default=None)


def _describe_old_names(schema: dict[str, Any], settings: type[StrictModel]) -> None:
    """Add old names to a JSON schema as deprecated; forbid each together with its new name."""
    for old, new in settings.renamed.items():
        described = schema["properties"][new]
        schema["properties"][old] = {
            **described,
            "deprecated": True,
            "description": f"old name of {new}, until version {OLD_NAMES_UNTIL}",
        }
    if settings.renamed:
        schema["allOf"] = [
            {"not": {"required": [old, new]}} for old, new in settings.renamed.items()
        ]


class StrictModel(BaseModel):
    """Base of every settings class: objects are immutable, and an unknown key is an error.

    `renamed` maps the old name of each renamed setting to its new name. Old names are accepted with
    a warning until version `OLD_NAMES_UNTIL`. Giving both names of a setting is an error.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        allow_inf_nan=False,
        json_schema_extra=_describe_old_names,
    )
    renamed: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _rename_old_keys(cls, tree: Any) -> Any:
        if not isinstance(tree, Mapping) or not cls.renamed.keys() & tree.keys():
            return tree
        return _with_new_keys(tree, cls.renamed)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_wrong_type(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse booleans as numbers; in strict mode, also refuse texts as numbers or booleans."""
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
        or len(path.name.encode(errors="surrogateescape")) > _MAX_NAME_BYTES
    ):
        raise ValueError(
            f"must name a file or folder, in at most {_MAX_NAME_BYTES} bytes and without zero bytes"
        )
    return path


# Path of a file or folder that the program writes. Its name is limited so that endings can be
# added.
OutputPath = Annotated[Path, AfterValidator(_check_output)]
_MAX_NAME_BYTES = 200
_MAX_PROBLEMS = 20
_MAX_PROBLEM_LENGTH = 1000


def check_tree(tree: object, schema: type[Model], *, name: str, strict: bool = False) -> Model:
    """Return a settings object for a tree of plain values, such as a parsed JSON document.

    With `strict`, values must have the right JSON type: the text "8" is not accepted as a number.

    Raises:
        ConfigError: a key or value is invalid; the message starts with `name`.
    """
    with old_names_reported_once():
        try:
            return schema.model_validate(tree, context={"strict": strict})
        except RecursionError:
            raise ConfigError(f"{name}: nested too deeply") from None
        except ValidationError as error:
            found = error.errors(include_url=False)
            problems = [
                _describe_validation_error(item, schema)[:_MAX_PROBLEM_LENGTH]
                for item in found[:_MAX_PROBLEMS]
            ]
            if len(found) > _MAX_PROBLEMS:
                problems.append(f"and {len(found) - _MAX_PROBLEMS} more problems")
            raise ConfigError(f"{name}: {'; '.join(problems)}") from None


@contextlib.contextmanager
def old_names_reported_once() -> Iterator[None]:
    """Inside the block, collect old names of settings; log each of them once at the end."""
    if _old_names.get() is not None:
        yield  # an outer block reports them
        return
    old_names: dict[str, str] = {}
    token = _old_names.set(old_names)
    try:
        yield
    finally:
        _old_names.reset(token)
        for old, new in old_names.items():
            _warn(old, new)


def with_current_names(tree: Any, schema: type[BaseModel]) -> Any:
    """Return plain settings with all old names replaced by new names, at any depth.

    Call it before merging two trees of settings, because one might use the old name of a setting
    and the other the new name.

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
        _note_old_name(old, new)
    return current


def with_current_path(keys: Sequence[str], schema: type[BaseModel]) -> list[str]:
    """Return the path of a setting, such as `source.queue_seconds`, with current names."""
    current: list[str] = []
    settings: Any = schema
    names_an_entry = False  # whether the next key is an id, an index or a mapping key
    for key in keys:
        if names_an_entry or settings is None:
            current.append(key)
            names_an_entry = False
            continue
        renamed = settings.renamed if issubclass(settings, StrictModel) else {}
        if key in renamed:
            _note_old_name(key, renamed[key])
        current.append(renamed.get(key, key))
        field = settings.model_fields.get(current[-1])
        names_an_entry = field is not None and _holds_entries(field.annotation)
        settings = _settings_class(field.annotation) if field is not None else None
    return current


def _holds_entries(annotation: Any) -> bool:
    return any(
        get_origin(each) in (list, tuple, dict) for each in (annotation, *get_args(annotation))
    )


def _note_old_name(old: str, new: str) -> None:
    found = _old_names.get()
    if found is None:
        _warn(old, new)
    else:
        found[old] = new


def _warn(old: str, new: str) -> None:
    _log.warning(
        "setting %s is now called %s; the old name works until version %s",
        old,
        new,
        OLD_NAMES_UNTIL,
    )


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with changes applied at any depth; a section set to None is removed."""
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


def _describe_validation_error(item: Mapping[str, Any], schema: type[BaseModel]) -> str:
    # A key may by mistake be an address that contains a password.
    path = (
        ".".join(
            "(an address)" if set("@=") & set(str(part)) else str(part) for part in item["loc"]
        )
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
    """Return the field names of the settings class at a location; empty if there is no class."""
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
