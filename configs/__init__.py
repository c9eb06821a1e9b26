"""The configuration files in YAML, their strict loader and the project's exception classes.

Names that need the YAML parser or pydantic are imported when they are first used. The exception
classes can therefore be imported without them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from configs.command import exit_status, program_name
from configs.errors import (
    BrokerError,
    CameraError,
    CheckpointError,
    CidcError,
    ConfigError,
    DataError,
    DeviceMemoryError,
    DriverError,
    KernelError,
    MediaError,
    OutboxError,
    ShapeError,
    TrainingError,
    UnknownKindError,
)
from configs.text_files import (
    clean_label,
    delimiter_of,
    has_controls,
    lines_of,
    no_controls,
    quoted,
    read_text,
    readable,
)

if TYPE_CHECKING:
    from configs.console import is_terminal, log_handler, print_table, printable, shows_progress
    from configs.files import exists, is_file, naming_errors, replaced_file, write_file
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
    "DeviceMemoryError",
    "DriverError",
    "KernelError",
    "MediaError",
    "OutboxError",
    "OutputPath",
    "ShapeError",
    "StrictModel",
    "TrainingError",
    "UnknownKindError",
    "check_tree",
    "clean_label",
    "delimiter_of",
    "example_path",
    "exists",
    "exit_status",
    "has_controls",
    "is_file",
    "is_terminal",
    "lines_of",
    "load_config",
    "log_handler",
    "merged",
    "naming_errors",
    "no_controls",
    "parse_config",
    "print_table",
    "printable",
    "program_name",
    "quoted",
    "read_text",
    "readable",
    "replaced_file",
    "shows_progress",
    "with_current_names",
    "write_file",
]


if not TYPE_CHECKING:
    _HOME = {
        "OutputPath": "configs.settings",
        "StrictModel": "configs.settings",
        "check_tree": "configs.settings",
        "example_path": "configs.loader",
        "exists": "configs.files",
        "is_file": "configs.files",
        "is_terminal": "configs.console",
        "load_config": "configs.loader",
        "log_handler": "configs.console",
        "merged": "configs.settings",
        "parse_config": "configs.loader",
        "naming_errors": "configs.files",
        "print_table": "configs.console",
        "printable": "configs.console",
        "replaced_file": "configs.files",
        "shows_progress": "configs.console",
        "with_current_names": "configs.settings",
        "write_file": "configs.files",
    }

    def __getattr__(name: str) -> object:
        if name not in _HOME:
            raise AttributeError(f"module 'configs' has no attribute {name!r}")
        return getattr(importlib.import_module(_HOME[name]), name)
