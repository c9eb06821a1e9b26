"""The one way from a YAML file to a checked settings object.

Files are complete: no inheritance, no includes, no environment variables. Unknown keys, duplicate
keys and values out of range fail here, before a device is touched, with the dotted path.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from configs.errors import ConfigError
from configs.overrides import apply_override
from configs.settings import Model, check_tree
from configs.yaml_loader import UniqueKeyLoader, check_extent

__all__ = ["example_path", "load_config", "parse_config"]


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
        raise ConfigError(
            f"configuration file not found: {path}; give --config an existing YAML file"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"configuration file {path} cannot be read: {error}") from None
    return parse_config(text, schema, overrides, name=str(path))


def parse_config(
    text: str, schema: type[Model], overrides: Iterable[str] = (), *, name: str = "<text>"
) -> Model:
    """Like `load_config`, from the YAML text itself; `name` is used in messages."""
    tree = _parse_yaml(text, name)
    for override in overrides:
        apply_override(tree, override)
    return check_tree(tree, schema, name=name)


def example_path(file_name: str) -> Path:
    """The path of a YAML file that ships in this package.

    Raises:
        ConfigError: no such file ships; the message lists those that do.
    """
    folder = Path(str(resources.files("configs")))
    path = folder / file_name
    if not path.is_file():
        known = ", ".join(sorted(file.name for file in folder.glob("*.yaml")))
        raise ConfigError(
            f"no configuration named {file_name!r} ships with the project; there are: {known}"
        )
    return path


def _parse_yaml(text: str, name: str) -> dict[str, Any]:
    try:
        tree = yaml.load(text, Loader=UniqueKeyLoader)  # a SafeLoader: builds plain values only
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
    check_extent(tree, name)
    return tree
