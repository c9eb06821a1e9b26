"""Writes the records of a run: versions, log file, JSON Lines files, TensorBoard scalars."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import logging
import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from configs import write_file

__all__ = [
    "TensorBoardLog",
    "environment",
    "epoch_line",
    "keep_lines",
    "logging_to",
    "write_json",
]

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


def epoch_line(
    epoch: int, epochs: int, training: Mapping[str, float], validation: Mapping[str, Any]
) -> str:
    """Return one line about a finished epoch, for people; `metrics.jsonl` has all figures.

    Args:
        epoch: number of the epoch, from 1.
        epochs: number of epochs of the run.
        training: loss, top1, clips_per_second and wait_share of the training clips.
        validation: top1, top5 and, if there is a background, actions_top1 of the validation videos.
    """
    actions = validation.get("actions_top1")
    return (
        f"epoch {epoch} of {epochs}: loss {training['loss']:.4f}, top-1 {training['top1']:.4f};"
        f" validation top-1 {validation['top1']:.4f}, top-5 {validation['top5']:.4f}"
        + ("" if actions is None else f", top-1 of actions {actions:.4f}")
        + f"; {training['clips_per_second']:.1f} clips/s, waiting {training['wait_share']:.0%}"
    )


def write_json(path: Path, value: object) -> None:
    """Write a value as JSON; a reader sees the old or the new file, never a part of it.

    Bytes of file names that are not UTF-8 become escapes such as `\\udcff`, as JSON writes them.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    write_file(path, text.encode(errors="backslashreplace"))


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
    write_file(path, "".join(kept))


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
