"""Read YAML files into checked settings objects.

Each file is complete: it cannot inherit from or include other files, or use environment variables.
Unknown keys, duplicate keys and values out of range raise an error here, before the program uses
any device. The error contains the dotted path of the setting.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from configs.errors import ConfigError
from configs.overrides import apply_override
from configs.settings import (
    Model,
    check_tree,
    old_names_reported_once,
    with_current_names,
)
from configs.yaml_loader import UniqueKeyLoader, check_extent

__all__ = ["example_path", "load_config", "load_tree", "parse_config"]
_MAX_CHARACTERS = 4 << 20  # a thousand cameras need a quarter of a million; YAML is read slowly


def load_config(path: str | Path, schema: type[Model], overrides: Iterable[str] = ()) -> Model:
    """Read one YAML file into a settings object of the class `schema`.

    Args:
        path: the YAML file.
        schema: settings class of the file.
        overrides: `section.key=value` strings, applied in order; values are parsed as YAML.

    Raises:
        ConfigError: the file is missing or is not YAML, or a key or value is invalid.
    """
    return parse_config(_read(Path(path)), schema, overrides, name=str(path))


def load_tree(path: Path) -> Any:
    """Read a YAML or JSON file into plain values: a mapping, a list, or None for an empty file.

    Raises:
        ConfigError: the file is missing, or is not YAML.
    """
    return _parse_yaml(_read(path), str(path))


def parse_config(
    text: str, schema: type[Model], overrides: Iterable[str] = (), *, name: str = "<text>"
) -> Model:
    """Parse YAML text as `load_config` does; error messages start with `name`."""
    tree = _parse_yaml(text, name)
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{name} must be a mapping of settings, not {type(tree).__name__}")
    with old_names_reported_once():
        if overrides := list(overrides):
            # If a setting is given under both its old and its new name, check_tree reports the
            # error with the path.
            with contextlib.suppress(ConfigError):
                tree = with_current_names(tree, schema)
        for override in overrides:
            apply_override(tree, override, schema)
        return check_tree(tree, schema, name=name)


def example_path(file_name: str) -> Path:
    """Return the path of a YAML file that is included in this package.

    Raises:
        ConfigError: the package has no such file; the message lists the available files.
    """
    folder = Path(str(resources.files("configs")))
    path = folder / file_name
    if not path.is_file():
        known = ", ".join(sorted(file.name for file in folder.glob("*.yaml")))
        raise ConfigError(
            f"no configuration named {file_name!r} ships with the project; there are: {known}"
        )
    return path


def _read(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_MAX_CHARACTERS + 1)
    except FileNotFoundError:
        raise ConfigError(
            f"configuration file not found: {path}; give --config an existing YAML file"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"configuration file {path} cannot be read: {error}") from None
    if len(text) > _MAX_CHARACTERS:
        raise ConfigError(
            f"configuration file {path} has more than {_MAX_CHARACTERS >> 20} million characters;"
            " is it a YAML file?"
        )
    return text


def _parse_yaml(text: str, name: str) -> Any:
    try:
        tree = yaml.load(text, Loader=UniqueKeyLoader)  # a SafeLoader: builds plain values only
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # The message contains the problem and its line number, but not the line itself, which may
        # contain a password.
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "malformed value, or nested too deeply"
        where = f" in line {mark.line + 1}" if mark is not None else ""
        raise ConfigError(f"{name} is not valid YAML: {problem}{where}") from None
    check_extent(tree, name)
    return tree
