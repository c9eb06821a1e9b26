"""Settings: the YAML files, the one strict loader and the tree of errors.

What needs a YAML parser or pydantic is loaded when it is first asked for: errors come without.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from configs.command import exit_status
from configs.errors import (
    BrokerError,
    CameraError,
    CheckpointError,
    CidcError,
    ConfigError,
    DataError,
    KernelError,
    MediaError,
    OutboxError,
    ShapeError,
    TrainingError,
)

if TYPE_CHECKING:
    from configs.files import exists, is_file, replaced_file
    from configs.loader import example_path, load_config, parse_config
    from configs.settings import (
        OutputPath,
        StrictModel,
        check_tree,
        merged,
        with_current_names,
    )

__all__ = [
    "BrokerError",
    "CameraError",
    "CheckpointError",
    "CidcError",
    "ConfigError",
    "DataError",
    "KernelError",
    "MediaError",
    "OutboxError",
    "OutputPath",
    "ShapeError",
    "StrictModel",
    "TrainingError",
    "check_tree",
    "example_path",
    "exists",
    "exit_status",
    "is_file",
    "load_config",
    "merged",
    "parse_config",
    "replaced_file",
    "with_current_names",
]


if not TYPE_CHECKING:
    _HOME = {
        "OutputPath": "configs.settings",
        "StrictModel": "configs.settings",
        "check_tree": "configs.settings",
        "example_path": "configs.loader",
        "exists": "configs.files",
        "is_file": "configs.files",
        "load_config": "configs.loader",
        "merged": "configs.settings",
        "parse_config": "configs.loader",
        "replaced_file": "configs.files",
        "with_current_names": "configs.settings",
    }

    def __getattr__(name: str) -> object:
        if name not in _HOME:
            raise AttributeError(f"module 'configs' has no attribute {name!r}")
        return getattr(importlib.import_module(_HOME[name]), name)
