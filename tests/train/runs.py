"""What tests of training runs share."""

import json
import threading
from pathlib import Path

from model import ModelConfig
from model.media.preprocess import PreprocessConfig
from train.config import DataConfig, OptimiserConfig, TrainConfig

__all__ = ["SMALL_FRAMES", "StopAt", "steps_of", "tiny_run"]

SMALL_FRAMES = PreprocessConfig(short_side=48, height=48, width=80)


def tiny_run(
    out: Path, *, train: Path, validation: Path, batch: int, **data: object
) -> TrainConfig:
    """Return a run of one epoch with the smallest network, on frames of 32 pixels.

    Args:
        data: further settings of the data, such as `labels`.
    """
    lists = {"train": train, "validation": validation}
    sizes = {"short_side_min": 32, "short_side_max": 36, "workers": 0}
    return TrainConfig(
        name="t",
        out=out,
        device="cpu",
        model=ModelConfig(depth=18, num_classes=2, width=8, cidc=None),
        preprocess=PreprocessConfig(short_side=32, height=32, width=32),
        data=DataConfig.model_validate(lists | sizes | data),
        optimiser=OptimiserConfig(epochs=1, batch=batch),
    )


def steps_of(out: Path) -> list[dict[str, float]]:
    """Return the lines of a run's step log."""
    return [json.loads(line) for line in (out / "steps.jsonl").read_text().splitlines()]


class StopAt(threading.Event):
    """An event that is set once it has been asked more often than this, which each step does."""

    def __init__(self, asked: int) -> None:
        super().__init__()
        self.left = asked

    def is_set(self) -> bool:
        self.left -= 1
        return self.left < 0
