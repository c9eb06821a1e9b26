"""The state of a run: finished epochs and steps, and the sums of the current epoch."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from configs import CheckpointError

__all__ = ["EpochMeter", "RunState"]


@dataclasses.dataclass
class EpochMeter:
    """Sums over the clips of an epoch: losses, correct clips, seconds in total and spent waiting.

    Saved states use the same field names.
    """

    loss: float = 0.0
    correct: int = 0
    clips: int = 0
    waited: float = 0.0
    spent: float = 0.0

    def add(self, *, loss: float, correct: int, clips: int, waited: float, spent: float) -> None:
        """Add the results of one step.

        Args:
            loss: mean loss over the clips of the step.
            correct: number of clips that were classified correctly.
            clips: number of clips in the step.
            waited: seconds spent waiting for data.
            spent: seconds that the whole step took, waiting included.
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
        """Return loss, accuracy and speed as a text for the progress bar; first it is empty."""
        if not self.clips:
            return ""
        facts = self.facts()
        speed = f"{facts['clips_per_second']:.0f} clips/s  waiting {facts['wait_share']:.0%}"
        return f"loss {facts['loss']:.3f}  top-1 {facts['top1']:.2f}  {speed}"


@dataclasses.dataclass
class RunState:
    """Position and sums of a run, saved with weights and optimiser so that it can be resumed."""

    epoch: int = 0  # number of finished epochs
    step: int = 0  # number of finished steps in the current epoch
    best_top1: float = -1.0
    meter: EpochMeter = dataclasses.field(default_factory=EpochMeter)

    @classmethod
    def from_facts(cls, facts: dict[str, Any], *, name: str = "training state") -> RunState:
        """Build the state from the JSON value that `facts` returned.

        Raises:
            CheckpointError: the value is damaged; the message calls it `name`.
        """
        try:
            state = cls(
                epoch=int(facts["epoch"]),
                step=int(facts["step"]),
                best_top1=float(facts["best"]),
                meter=EpochMeter(**facts["meter"]),
            )
            numbers = [state.epoch, state.step, state.best_top1]
            numbers += map(float, dataclasses.astuple(state.meter))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise CheckpointError(f"{name} is damaged ({error!r}); start the run again") from None
        if not all(map(math.isfinite, numbers)) or min(state.epoch, state.step) < 0:
            raise CheckpointError(
                f"{name} is damaged (epoch {state.epoch}, step {state.step}); start the run again"
            )
        return state

    def facts(self) -> dict[str, Any]:
        """Return the state as one JSON value."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "best": self.best_top1,
            "meter": dataclasses.asdict(self.meter),
        }

    def next_epoch(self) -> None:
        """Mark the current epoch as finished, and start the next one at step 0."""
        self.epoch += 1
        self.step = 0
        self.meter = EpochMeter()
