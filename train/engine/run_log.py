"""What a run writes down: versions, log file, JSON Lines, scalars for TensorBoard."""

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

__all__ = ["ScalarBoard", "environment", "keep_lines", "logging_to", "write_json"]

_PACKAGES = ("torch", "nvidia-dali-cuda130", "cupy-cuda13x", "numpy", "av")


def environment() -> dict[str, Any]:
    """Return what a run runs on: versions, machine, command."""
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
    """Write everything that is logged to this file as well."""
    handler = logging.FileHandler(path, encoding="utf-8")
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
    """Replace a JSON file as a whole."""
    with replaced_file(path) as partial:
        partial.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def keep_lines(path: Path, wanted: Callable[[dict[str, Any]], bool]) -> None:
    """Keep only the wanted lines of a JSON Lines file; a line that a crash cut short is dropped."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    kept = []
    for line in lines:
        with contextlib.suppress(json.JSONDecodeError, KeyError):
            if wanted(json.loads(line)):
                kept.append(line + "\n")
    with replaced_file(path) as partial:
        partial.write_text("".join(kept), encoding="utf-8")


class ScalarBoard:
    """Scalars for TensorBoard, by step, in `tensorboard/` of the run's folder.

    Args:
        folder: the run's folder.
        next_step: steps from here on will be written again; None switches the board off.
    """

    def __init__(self, folder: Path, next_step: int | None) -> None:
        self._writer: Any = None
        if next_step is not None:
            # Importing it takes a second, and only the writing rank needs it.
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=next_step)

    def add(self, step: int, **scalars: float) -> None:
        """Write figures of a step; the name `train__loss` becomes `train/loss`."""
        if self._writer is not None:
            for name, value in scalars.items():
                self._writer.add_scalar(name.replace("__", "/"), value, step)

    def close(self) -> None:
        """Write what is pending."""
        if self._writer is not None:
            self._writer.close()
