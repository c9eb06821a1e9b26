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
    from configs.loader import (
        OutputPath,
        StrictModel,
        check_tree,
        example_path,
        exists,
        is_file,
        load_config,
        merged,
        parse_config,
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
]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module 'configs' has no attribute {name!r}")
        return getattr(importlib.import_module("configs.loader"), name)
