"""Where a run stands: its position, and the running figures of the epoch."""

from __future__ import annotations

import dataclasses
from typing import Any

__all__ = ["EpochMeter", "RunState"]


@dataclasses.dataclass
class EpochMeter:
    """Running figures of an epoch: sums over its clips, and seconds spent and waited.

    The names of the fields are those of saved states.
    """

    loss: float = 0.0
    correct: int = 0
    clips: int = 0
    waited: float = 0.0
    spent: float = 0.0

    def add(self, *, loss: float, correct: int, clips: int, waited: float, spent: float) -> None:
        """Count a step.

        Args:
            loss: mean over the clips of the step.
            correct: clips that were classified correctly.
            clips: all clips of the step.
            waited: seconds spent waiting for data.
            spent: seconds in all.
        """
        self.loss += loss * clips
        self.correct += correct
        self.clips += clips
        self.waited += waited
        self.spent += spent

    def facts(self) -> dict[str, float]:
        """Return mean loss and accuracy, clips per second, and the fraction of time waited."""
        return {
            "loss": round(self.loss / self.clips, 4),
            "top1": round(self.correct / self.clips, 4),
            "clips_per_second": round(self.clips / self.spent, 2),
            "wait_share": round(self.waited / self.spent, 3),
        }

    def line(self) -> str:
        """Return the figures for a progress bar."""
        facts = self.facts()
        speed = f"{facts['clips_per_second']:.0f} clips/s  waiting {facts['wait_share']:.0%}"
        return f"loss {facts['loss']:.3f}  top-1 {facts['top1']:.2f}  {speed}"


@dataclasses.dataclass
class RunState:
    """What is saved beside weights and optimiser, so that a run can be resumed after any step."""

    epoch: int = 0  # finished epochs
    step: int = 0  # finished steps of the current epoch
    best_top1: float = -1.0
    meter: EpochMeter = dataclasses.field(default_factory=EpochMeter)

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> RunState:
        """Read a saved state."""
        return cls(
            epoch=int(facts["epoch"]),
            step=int(facts["step"]),
            best_top1=float(facts["best"]),
            meter=EpochMeter(**facts["meter"]),
        )

    def facts(self) -> dict[str, Any]:
        """Return the state as one JSON value."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "best": self.best_top1,
            "meter": dataclasses.asdict(self.meter),
        }

    def next_epoch(self) -> None:
        """Count the current epoch as finished."""
        self.epoch += 1
        self.step = 0
        self.meter = EpochMeter()
