"""What a run writes down: JSON Lines that a resumed run takes up again, and the running figures
of an epoch.
"""

from __future__ import annotations

import contextlib
import dataclasses
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

__all__ = ["Board", "Meter", "environment", "keep_lines", "logging_to"]

_PACKAGES = ("torch", "nvidia-dali-cuda130", "cupy-cuda13x", "numpy", "av")


def environment() -> dict[str, Any]:
    """What a run ran on: versions, machine, command."""
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
    """Everything that is logged, into this file too."""
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


def keep_lines(path: Path, wanted: Callable[[dict[str, Any]], bool]) -> None:
    """Keep the lines of a JSON Lines file that are wanted; one that a crash cut short is not."""
    kept = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        with contextlib.suppress(json.JSONDecodeError, KeyError):
            if wanted(json.loads(text)):
                kept.append(text + "\n")
    path.write_text("".join(kept), encoding="utf-8")


class Board:
    """Scalars for TensorBoard, by step: the run's folder has them in `tensorboard/`.

    Args:
        folder: the run's.
        next_step: steps from here on will be written again; None switches the board off.
    """

    def __init__(self, folder: Path, next_step: int | None) -> None:
        self._writer: Any = None
        if next_step is not None:
            # takes a second, and only the writing rank needs it
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=next_step)

    def add(self, step: int, **scalars: float) -> None:
        """Write figures of a step; `train__loss` becomes `train/loss`."""
        if self._writer is not None:
            for name, value in scalars.items():
                self._writer.add_scalar(name.replace("__", "/"), value, step)

    def close(self) -> None:
        """Write what is pending."""
        if self._writer is not None:
            self._writer.close()


@dataclasses.dataclass
class Meter:
    """Running figures of an epoch: sums over its clips, and seconds spent and waited."""

    loss: float = 0.0
    correct: int = 0
    clips: int = 0
    waited: float = 0.0
    spent: float = 0.0

    def add(self, loss: float, correct: int, clips: int, waited: float, spent: float) -> None:
        """Count a step: its mean loss, clips right and in all, seconds waited for data and
        seconds in all.
        """
        self.loss = self.loss + loss * clips
        self.correct = self.correct + correct
        self.clips = self.clips + clips
        self.waited = self.waited + waited
        self.spent = self.spent + spent

    def facts(self) -> dict[str, float]:
        """Mean loss and accuracy, clips per second, share of the time spent waiting for data."""
        return {
            "loss": round(self.loss / self.clips, 4),
            "top1": round(self.correct / self.clips, 4),
            "clips_per_second": round(self.clips / self.spent, 2),
            "wait_share": round(self.waited / self.spent, 3),
        }

    def line(self) -> str:
        """The figures for a progress bar."""
        facts = self.facts()
        speed = f"{facts['clips_per_second']:.0f} clips/s  waiting {facts['wait_share']:.0%}"
        return f"loss {facts['loss']:.3f}  top-1 {facts['top1']:.2f}  {speed}"
