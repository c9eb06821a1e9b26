"""Stores built engines in files, each with a description of what it was built for.

A file starts with one line of JSON: the description and the SHA-256 of what follows. Engines are
programs, so files are for their owner only.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import stat
from pathlib import Path

import torch

from configs import ConfigError
from configs.files import write_file
from configs.private_files import PRIVATE_FILE

__all__ = ["EngineCache", "EngineKey", "default_folder", "device_facts", "file_sha256"]

_log = logging.getLogger(__name__)
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


@dataclasses.dataclass(frozen=True)
class EngineKey:
    """Everything that an engine depends on.

    Attributes:
        weights: SHA-256 of the weights file.
        library: TensorRT's version.
        device: name and compute capability of the GPU.
        driver: versions of the driver's CUDA and of PyTorch's, and PyTorch's own version.
        precision: number format of convolutions.
        max_batch: largest batch.
        export: number that changes with the exported graph.
    """

    weights: str
    library: str
    device: str
    driver: str
    precision: str
    max_batch: int
    export: int = 1

    def digest(self) -> str:
        """Return a short text that differs for other keys."""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]


class EngineCache:
    """A folder of engines.

    Args:
        folder: created when the first engine is stored.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, key: EngineKey) -> Path:
        """Return where the engine of a key is stored."""
        return self._folder / f"{key.digest()}.engine"

    def load(self, key: EngineKey) -> bytes | None:
        """Return the engine of a key; None if there is none, or the file cannot be trusted.

        A warning says whether it is damaged, belongs to another key, or others can write it.
        """
        path = self.path(key)
        try:
            with path.open("rb") as file:
                is_ours = _is_ours(os.fstat(file.fileno()))
                data = file.read() if is_ours else b""
        except FileNotFoundError:
            return None
        except OSError as error:
            _log.warning("cannot read %s: %s; the engine is built again", path, error.strerror)
            return None
        if not is_ours:
            _log.warning("other users can write %s; the engine is built again", path)
            return None
        header, _, plan = data.partition(b"\n")
        if header == _header(key, plan):
            return plan
        _log.warning("%s is damaged or belongs to something else; it is built again", path)
        return None

    def store(self, key: EngineKey, plan: bytes) -> None:
        """Write an engine, so that readers see it whole or not at all.

        A folder that cannot be written costs a build at every start; a warning says so.
        """
        path = self.path(key)
        try:
            write_file(path, b"\n".join((_header(key, plan), plan)), mode=PRIVATE_FILE)
        except OSError as error:
            _log.warning(
                "cannot write %s: %s; the engine is built at every start. Set infer.engine_cache"
                " to a folder that can be written",
                path,
                error.strerror,
            )


def _is_ours(status: os.stat_result) -> bool:
    """Tell whether only this user, or the administrator, can have written a file."""
    return status.st_uid in (0, os.geteuid()) and not status.st_mode & _WRITABLE_BY_OTHERS


def _header(key: EngineKey, plan: bytes) -> bytes:
    content = dataclasses.asdict(key) | {"sha256": hashlib.sha256(plan).hexdigest()}
    return json.dumps(content, sort_keys=True).encode()


def default_folder() -> Path:
    """Return the folder for engines below the user's folder of caches.

    Raises:
        ConfigError: the user has no home folder.
    """
    try:
        return Path.home() / ".cache" / "cidc-stream" / "engines"
    except RuntimeError:
        raise ConfigError(
            "infer.engine_cache: this user has no home folder; set the folder for engines"
        ) from None


def device_facts(device: torch.device) -> tuple[str, str]:
    """Return the texts `device` and `driver` of an `EngineKey` for a CUDA device."""
    major, minor = torch.cuda.get_device_capability(device)
    # PyTorch has no public function for it.
    driver = getattr(torch._C, "_cuda_getDriverVersion", lambda: "unknown")()
    name = torch.cuda.get_device_name(device)
    versions = f"driver CUDA {driver}, CUDA {torch.version.cuda}, PyTorch {torch.__version__}"
    return f"{name}, compute capability {major}.{minor}", versions


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
