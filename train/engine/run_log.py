"""Writes the records of a run: versions, log file, JSON Lines files, TensorBoard scalars."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import logging
import os
import platform
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from configs import replaced_file

__all__ = ["TensorBoardLog", "environment", "keep_lines", "logging_to", "write_json"]

_PACKAGES = ("torch", "nvidia-dali-cuda130", "cupy-cuda13x", "numpy", "av")


def environment() -> dict[str, Any]:
    """Return the environment of a run: package versions, machine, command line."""
    versions = {}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "packages": versions,
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": device,
        "command": sys.argv[1:],
    }


@contextlib.contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Inside the `with` block, also write all log messages to this file."""
    handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    root = logging.getLogger()
    ours = logging.getLogger("train")
    level = ours.level
    root.addHandler(handler)
    ours.setLevel(logging.INFO)
    try:
        yield
    finally:
        ours.setLevel(level)
        root.removeHandler(handler)
        handler.close()


def write_json(path: Path, value: object) -> None:
    """Write a value as JSON; a reader sees the old or the new file, never a part of it."""
    with replaced_file(path) as partial:
        text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
        # A path that is not UTF-8 is written with JSON escapes.
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")


def keep_lines(path: Path, wanted: Callable[[dict[str, Any]], bool]) -> None:
    """Remove all lines except the wanted ones from a JSON Lines file.

    Lines that are incomplete because of a crash are removed too.
    """
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    kept = []
    for line in lines:
        with contextlib.suppress(json.JSONDecodeError, KeyError):
            if wanted(json.loads(line)):
                kept.append(line + "\n")
    with replaced_file(path) as partial:
        partial.write_text("".join(kept), encoding="utf-8")


class TensorBoardLog:
    """Writes scalars per step for TensorBoard, into the folder `tensorboard/` of the run's folder.

    Args:
        folder: the run's folder.
        next_step: the next step to write; TensorBoard ignores older entries from this step on.
            None disables this log.
    """

    def __init__(self, folder: Path, next_step: int | None) -> None:
        self._writer: Any = None
        if next_step is not None:
            # This import takes a second, and only the rank that writes files needs it.
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=next_step)

    def add(self, step: int, **scalars: float) -> None:
        """Write the scalars of a step; the name `train__loss` is written as `train/loss`."""
        if self._writer is not None:
            for name, value in scalars.items():
                self._writer.add_scalar(name.replace("__", "/"), value, step)

    def close(self) -> None:
        """Write the scalars that are still buffered, and close the file."""
        if self._writer is not None:
            self._writer.close()
