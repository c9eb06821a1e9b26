"""All exception classes of this project, with a common base.

    CidcError
    |-- ConfigError       a setting is unknown, missing or outside its range
    |-- CheckpointError   a weights file is missing, damaged or does not fit the network
    |-- CameraError       a camera cannot be added, changed or found while the pipeline runs
    |-- DataError         a manifest, truth file, event or event file is malformed
    |   `-- UnknownKindError  an event is of a kind that this version does not know
    |-- MediaError        a video cannot be opened or decoded
    |-- DeviceMemoryError the device has too little memory for the work
    |-- DriverError       the GPU's driver does not say what it is asked
    |-- ShapeError        a tensor or clip has a size that the operation does not support
    |-- KernelError       a requested GPU kernel cannot be compiled or run on this machine
    |-- TrainingError     a run cannot continue, e.g. its loss is not finite or its disk is full
    |-- OutboxError       the event store cannot be opened or written
    `-- BrokerError       the Kafka broker refused or cannot be used as configured

Each message contains the problem, the wrong value, the allowed values and a way to solve it.
"""

from __future__ import annotations

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
    "ShapeError",
    "TrainingError",
    "UnknownKindError",
]


class CidcError(Exception):
    """Base of every error raised on purpose by this project."""


class ConfigError(CidcError):
    """A setting is unknown, missing or outside its range."""


class CameraError(CidcError):
    """A camera cannot be added, changed or found while the pipeline runs.

    `kind` is `unknown`, `exists`, `no_room`, `invalid`, `not_kept`, `no_broker`, `hanging`,
    `searching`, `stopping`, `twice` or `load`.
    """

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


class CheckpointError(CidcError):
    """A weights file is missing, damaged or does not fit the network."""


class DataError(CidcError, ValueError):
    """A manifest, truth file, event or event file is malformed."""


class UnknownKindError(DataError):
    """An event is of a kind that this version does not know; a newer one wrote it.

    `kind` is that kind, as the event has it.
    """

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


class MediaError(CidcError):
    """A video cannot be opened or decoded."""


class DeviceMemoryError(CidcError, MemoryError):
    """The device, or the machine, has too little memory for the work."""


class DriverError(CidcError):
    """The GPU's driver, or its library, does not say what it is asked."""


class ShapeError(CidcError, ValueError):
    """A tensor or clip has a size that the operation does not support."""


class KernelError(CidcError):
    """A requested GPU kernel cannot be compiled or run on this machine."""


class TrainingError(CidcError):
    """A run cannot continue, e.g. its loss is not finite or its folder cannot be written."""


class OutboxError(CidcError):
    """The event store cannot be opened or written."""


class BrokerError(CidcError):
    """The Kafka broker refused a request or cannot be used with these settings."""
