"""Settings: the YAML files, the one strict loader and the tree of errors."""

from configs.command import exit_status
from configs.errors import (
    BrokerError,
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
from configs.loader import StrictModel, example_path, load_config, parse_config

__all__ = [
    "BrokerError",
    "CheckpointError",
    "CidcError",
    "ConfigError",
    "DataError",
    "KernelError",
    "MediaError",
    "OutboxError",
    "ShapeError",
    "StrictModel",
    "TrainingError",
    "example_path",
    "exit_status",
    "load_config",
    "parse_config",
]
