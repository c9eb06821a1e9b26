"""What tests of training runs share."""

import json
import threading
from pathlib import Path

from model.media.preprocess import PreprocessConfig

__all__ = ["SMALL_FRAMES", "StopAt", "steps_of"]

SMALL_FRAMES = PreprocessConfig(short_side=48, height=48, width=80)


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
