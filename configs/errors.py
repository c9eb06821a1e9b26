"""Every error this project raises on purpose, in one tree.

    CidcError
    |-- ConfigError       a setting is unknown, missing or outside its range
    |-- CheckpointError   a weights file is missing, damaged or made for something else
    |-- CameraError       a camera cannot be added, changed or found while the pipeline runs
    |-- DataError         a manifest, truth file, event or event file is malformed
    |-- MediaError        a video cannot be opened or decoded
    |-- ShapeError        a tensor or clip has a size the operation cannot take
    |-- KernelError       a GPU kernel that was asked for cannot be compiled or run here
    |-- TrainingError     a run cannot go on: its loss is not finite, its folder cannot be written
    |-- OutboxError       the event store cannot be opened or written
    `-- BrokerError       the Kafka broker refused or cannot be used as configured

Messages say what was wrong, the value, what is allowed and what to do next.
"""

from __future__ import annotations

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
    "ShapeError",
    "TrainingError",
]


class CidcError(Exception):
    """Base of every error raised on purpose by this project."""


class ConfigError(CidcError):
    """A setting is unknown, missing or outside its range."""


class CameraError(CidcError):
    """A camera cannot be added, changed or found while the pipeline runs.

    `kind` is unknown, exists, no_room, invalid, not_kept or stopping.
    """

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


class CheckpointError(CidcError):
    """A weights file is missing, damaged or made for something else."""


class DataError(CidcError, ValueError):
    """A manifest, truth file, event or event file is malformed."""


class MediaError(CidcError):
    """A video cannot be opened or decoded."""


class ShapeError(CidcError, ValueError):
    """A tensor or clip has a size the operation cannot take."""


class KernelError(CidcError):
    """A GPU kernel that was asked for cannot be compiled or run here."""


class TrainingError(CidcError):
    """A run cannot go on: its loss is not finite, its folder cannot be written."""


class OutboxError(CidcError):
    """The event store cannot be opened or written."""


class BrokerError(CidcError):
    """The Kafka broker refused or cannot be used as configured."""
