"""Find secrets among plain settings, by the types of the settings classes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, SecretStr

__all__ = ["secrets_in"]

# An address with a password, such as rtsp://user:password@host.
_LOGIN = re.compile(r"://[^/@\s:]*:[^/@\s]+@")


def secrets_in(
    keys: Sequence[str], value: Any, schema: type[BaseModel]
) -> Iterator[tuple[str, str | None]]:
    """Yield the secrets of a plain value that is set at a path below a settings class.

    A secret is the value of a `SecretStr` field, or an address with a password. The value may be
    a whole section.

    Yields:
        The dotted path of the secret, and the path of the setting that names a file with it
        instead; None if there is no such setting.
    """
    annotation: Any = schema
    file_setting: str | None = None
    for depth, key in enumerate(keys):
        settings = _settings_class(annotation)
        field = settings.model_fields.get(key) if settings is not None else None
        if settings is None or field is None:
            annotation = _entry_type(annotation)
            file_setting = None
            continue
        annotation = field.annotation
        has_file = f"{key}_file" in settings.model_fields
        file_setting = ".".join([*keys[:depth], f"{key}_file"]) if has_file else None
    is_secret = SecretStr in (annotation, *get_args(annotation))
    if (is_secret and value is not None) or (isinstance(value, str) and _LOGIN.search(value)):
        yield ".".join(keys), file_setting
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from secrets_in([*keys, str(key)], inner, schema)
    elif isinstance(value, (list, tuple)):
        for index, inner in enumerate(value):
            yield from secrets_in([*keys, str(index)], inner, schema)


def _settings_class(annotation: Any) -> type[BaseModel] | None:
    """Return the settings class of a section, also of an optional one."""
    for each in (annotation, *get_args(annotation)):
        if isinstance(each, type) and issubclass(each, BaseModel):
            return each
    return None


def _entry_type(annotation: Any) -> Any:
    """Return the type of an entry of a list or mapping; None if there are no entries."""
    for each in get_args(annotation):
        if each is not Ellipsis and (found := _settings_class(each)) is not None:
            return found
    return None
